"""Leases: what a worker that holds a job reports. Each call is checked against the lease as it
writes.
"""

import time

from fastapi import APIRouter
from sqlalchemy import Connection

from server.queue import ending
from server.queue.changes import Changes
from server.queue.workers import job_held_by
from server.web.routes.parameters import Caller, LeaseId, TheService
from server.wire.states import JobStatus
from server.wire.workers import FinishAnswer, Outcome, Report, ReportAnswer

router = APIRouter(prefix="/v1/leases", tags=["leases"])


@router.post("/{lease_id}/report")
async def report(
    lease_id: LeaseId, message: Report, service: TheService, caller: Caller
) -> ReportAnswer:
    """Report epochs, checkpoints, log bytes, or just life. Renews the lease; answers commands."""
    return await service.take_report(lease_id, caller, message)


@router.post("/{lease_id}/finish")
async def finish(
    lease_id: LeaseId, outcome: Outcome, service: TheService, caller: Caller
) -> FinishAnswer:
    """End the attempt: its process is gone. Answers the job's status; can be repeated."""

    def work(connection: Connection) -> tuple[str, JobStatus]:
        job_id = job_held_by(connection, lease_id, caller.token_id)
        return job_id, ending.finish(connection, lease_id, outcome, now=time.time())

    job_id, status = await service.write(work, Changes.QUEUE)
    service.leases.release(lease_id)
    service.changes.notify(job_id)
    return FinishAnswer(status=status)
