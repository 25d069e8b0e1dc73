"""What users do to their jobs: stop, go on, try again, change, delete."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlalchemy import Connection

from server.access.roles import Principal
from server.queue import audit_log, idempotency, job_actions, many_jobs, ownership, retries
from server.queue.changes import Changes
from server.queue.job_rows import JobRow, job_folder
from server.queue.limits import check_priority
from server.service import Service
from server.views import jobs as job_views
from server.web.routes.making import make_job
from server.web.routes.parameters import Caller, IdempotencyKeyHeader, JobId, TheService
from server.wire.job_lists import ManyActedOn, ManyJobs
from server.wire.jobs import CancelRequest, Deleted, JobChange, JobView, RetryRequest

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
DEFAULT_CANCEL, DEFAULT_RETRY = CancelRequest(), RetryRequest()
Action = Callable[[Connection, JobRow], object]


@router.post("/{job_id}/cancel", status_code=202)
async def cancel_job(
    job_id: JobId,
    service: TheService,
    caller: Caller,
    request: CancelRequest = DEFAULT_CANCEL,
) -> JobView:
    """Cancel a job: at once while it waits, else once its process is gone. Can be repeated."""
    grace_s = 0.0 if request.force else request.grace_s
    action = partial(job_actions.cancel, grace_s=grace_s, now=time.time())
    return await _act(service, caller, job_id, "cancel", action)


@router.post("/actions")
async def act_on_many_jobs(request: ManyJobs, service: TheService, caller: Caller) -> ManyActedOn:
    """Cancel, pause, resume, retry or delete up to 1000 jobs, each for itself.

    What cannot be done to one of them is said of that one; the answer is 200 all the same.
    """
    work = partial(
        many_jobs.act, caller=caller, request=request, limits=service.limits, now=time.time()
    )
    acted = await service.write(work)
    if not request.dry_run:
        for job in acted.answer.data:
            service.changes.notify(job.id)
        service.changes.notify(Changes.QUEUE)
    for folder in acted.folders:
        await asyncio.to_thread(service.files.remove_folder, folder)
    return acted.answer


@router.patch("/{job_id}")
async def change_job(
    job_id: JobId, changes: JobChange, service: TheService, caller: Caller
) -> JobView:
    """Change a job's name, notes, priority or labels; what is not given stays."""
    check_priority(changes.priority, caller, service.settings.user_priority)
    action = partial(job_actions.amend, changes=changes, now=time.time())
    return await _act(service, caller, job_id, "change", action)


@router.post("/{job_id}/pause", status_code=202)
async def pause_job(job_id: JobId, service: TheService, caller: Caller) -> JobView:
    """Pause a job: it keeps its state and gives its slot free. Can be repeated."""
    action = partial(job_actions.pause, now=time.time())
    return await _act(service, caller, job_id, "pause", action)


@router.post("/{job_id}/resume", status_code=202)
async def resume_job(job_id: JobId, service: TheService, caller: Caller) -> JobView:
    """Queue a paused job again; it goes on from where it was. Can be repeated."""
    most = service.limits.queued
    action = partial(job_actions.resume, now=time.time(), most_queued=most)
    return await _act(service, caller, job_id, "resume", action)


@router.post("/{job_id}/retry", status_code=201)
async def retry_job(
    job_id: JobId,
    response: Response,
    service: TheService,
    caller: Caller,
    request: RetryRequest = DEFAULT_RETRY,
    idempotency_key: IdempotencyKeyHeader = None,
) -> JobView:
    """Make a new job from one that is over, from scratch or from one of its checkpoints."""

    def make(connection: Connection, now: float) -> str:
        row = ownership.find_job(connection, job_id, caller.owner_filter)
        new_job = retries.retry(
            connection,
            row,
            request,
            owner_id=caller.token_id,
            limits=service.limits,
            now=now,
        )
        audit_log.note(connection, caller, "job.retry", new_job)
        return new_job

    def asked() -> str:
        return f"{job_id} {request.model_dump_json()}"

    key = idempotency.key_of(caller.token_id, idempotency_key, asked)
    return await make_job(service, response, key, make, job_id)


@router.delete("/{job_id}")
async def delete_job(
    job_id: JobId,
    service: TheService,
    caller: Caller,
    files: Annotated[
        bool, Query(description="Delete its checkpoints and other files, too.")
    ] = False,
) -> Deleted:
    """Delete a job that is over: its metrics, events and logs; with `files` also what it wrote."""

    def work(connection: Connection) -> str:
        row = ownership.find_job(connection, job_id, caller.owner_filter)
        job_actions.remove(connection, row)
        audit_log.note(connection, caller, "job.delete", job_id)
        return job_folder(row)

    folder = await service.write(work, job_id)
    gone = files and await asyncio.to_thread(service.files.remove_folder, folder)
    return Deleted(id=job_id, files=gone)


async def _act(
    service: Service, caller: Principal, job_id: str, name: str, action: Action
) -> JobView:
    """Do something to a job that the caller may see, and show what became of it."""

    def work(connection: Connection) -> JobView:
        action(connection, ownership.find_job(connection, job_id, caller.owner_filter))
        audit_log.note(connection, caller, f"job.{name}", job_id)
        row, waiting = ownership.find_job(connection, job_id, None), service.waiting(connection)
        return job_views.job_view(connection, row, waiting)

    return await service.write(work, job_id, Changes.QUEUE)
