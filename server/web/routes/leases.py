"""Leases: what a worker that holds a job reports. Each call is checked against the lease as it
writes.
"""

import time

from fastapi import APIRouter
from sqlalchemy import Connection, select

from server.access.roles import Principal
from server.database.tables import attempts as attempt_table
from server.database.tables import workers
from server.errors import LeaseLost
from server.queue import ending, reports
from server.queue.changes import Changes
from server.service import Service
from server.web.routes.parameters import Caller, LeaseId, TheService
from server.wire.states import JobStatus
from server.wire.workers import Command, FinishAnswer, Outcome, Report, ReportAnswer

router = APIRouter(prefix="/v1/leases", tags=["leases"])

PAUSE_GRACE_S = 8.0
MOST_EPOCHS_AT_ONCE = 100  # that are written on the thread of the event loop


@router.post("/{lease_id}/report")
async def report(
    lease_id: LeaseId, message: Report, service: TheService, caller: Caller
) -> ReportAnswer:
    """Report epochs, checkpoints, log bytes, or just life. Renews the lease; answers commands."""
    return await take(service, caller, lease_id, message)


async def take(service: Service, caller: Principal, lease_id: str, message: Report) -> ReportAnswer:
    """Write a report, and say what the server made of it.

    Raises:
        LeaseLost, ReportConflict: nothing was written.
    """

    def work(connection: Connection) -> reports.Recorded:
        done = reports.record(connection, lease_id, caller.token_id, message, now=time.time())
        service.leases.renew(lease_id, has_begun=done.last_epoch is not None)
        return done

    # The first one may have to delete what earlier attempts did.
    is_brief = service.leases.has_begun(lease_id) and len(message.epochs) <= MOST_EPOCHS_AT_ONCE
    is_brief &= not message.checkpoints and not message.artifacts
    done = await service.database.write(work, brief=is_brief)
    service.last_seen[done.worker_id] = time.time()
    if message.model_fields_set:
        service.changes.notify(done.job_id)
    return ReportAnswer(accepted_through=done.last_epoch, command=_command(done))


@router.post("/{lease_id}/finish")
async def finish(
    lease_id: LeaseId, outcome: Outcome, service: TheService, caller: Caller
) -> FinishAnswer:
    """End the attempt: its process is gone. Answers the job's status; can be repeated."""

    def work(connection: Connection) -> tuple[str, JobStatus]:
        check_holder(connection, lease_id, caller)
        status = ending.finish(connection, lease_id, outcome, now=time.time())
        job_id = connection.execute(
            select(attempt_table.c.job_id).where(attempt_table.c.lease_id == lease_id)
        ).scalar_one()
        return job_id, status

    job_id, status = await service.write(work, Changes.QUEUE)
    service.leases.release(lease_id)
    service.changes.notify(job_id)
    return FinishAnswer(status=status)


def _command(done: reports.Recorded) -> Command | None:
    if done.status is JobStatus.CANCELLING:
        return Command(action="cancel", grace_s=done.cancel_grace_s or 0.0)
    if done.status is JobStatus.PAUSING:
        return Command(action="pause", grace_s=PAUSE_GRACE_S)
    return None


def check_holder(connection: Connection, lease_id: str, caller: Principal) -> str:
    """The worker that was given the lease, if it registered with the caller's token.

    Raises:
        LeaseLost
    """
    row = connection.execute(
        select(workers.c.id, workers.c.token_id)
        .join(attempt_table, attempt_table.c.worker_id == workers.c.id)
        .where(attempt_table.c.lease_id == lease_id)
    ).first()
    if row is None or row.token_id != caller.token_id:
        raise LeaseLost
    return row.id
