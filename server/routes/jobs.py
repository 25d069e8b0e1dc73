"""Jobs: submit, look, cancel; their metrics, events and logs."""

import hashlib
import time
from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlalchemy import Connection

from server import jobs, views
from server.changes import Changes
from server.estimate import estimate
from server.routes.parameters import (
    AfterId,
    AfterNumber,
    Caller,
    IdempotencyKeyHeader,
    JobId,
    Limit,
    TheService,
    WaitSeconds,
)
from server.schemas import (
    CancelRequest,
    EventView,
    JobSubmission,
    JobSummary,
    JobView,
    MetricsPage,
    Page,
    ValidationReport,
)
from server.states import TERMINAL, JobStatus

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

MAX_LOG_ANSWER = 2**20
RETRY_AFTER_S = "2"
DEFAULT_CANCEL = CancelRequest()


@router.post("", status_code=201)
async def submit_job(
    submission: JobSubmission,
    response: Response,
    service: TheService,
    caller: Caller,
    idempotency_key: IdempotencyKeyHeader = None,
) -> JobView:
    """Submit a training job. It is durable when this answers."""
    digest = hashlib.sha256(submission.model_dump_json().encode()).hexdigest()

    def work(connection: Connection) -> tuple[JobView, bool]:
        job_id, is_new = jobs.submit(
            connection,
            submission,
            owner_id=caller.token_id,
            now=time.time(),
            idempotency_key=idempotency_key,
            request_hash=digest,
        )
        return views.job_view(connection, views.find_job(connection, job_id, None)), is_new

    view, is_new = await service.write(work, Changes.QUEUE)
    response.headers["Location"] = f"/v1/jobs/{view.id}"
    if not is_new:
        response.headers["Idempotent-Replayed"] = "true"
    return view


@router.post("/validate")
async def validate_job(submission: JobSubmission) -> ValidationReport:
    """What would run: defaults filled in, warnings, size. Nothing is stored."""
    size = estimate(submission.config)
    return ValidationReport(
        config=submission.config,
        warnings=submission.config.warnings(),
        parameter_count=size.parameters,
        estimated_memory_bytes=size.memory_bytes,
    )


@router.get("")
async def list_jobs(
    service: TheService,
    caller: Caller,
    status: Annotated[list[JobStatus] | None, Query(description="Only these states.")] = None,
    name: Annotated[str | None, Query(max_length=200, description="Only this name.")] = None,
    after: AfterId = None,
    limit: Limit = 20,
) -> Page[JobSummary]:
    """Jobs, newest first."""
    return await service.read(
        lambda connection: views.list_jobs(
            connection,
            owner_id=caller.owner_filter,
            status=status or [],
            name=name,
            after=after,
            limit=limit,
        )
    )


@router.get("/{job_id}")
async def show_job(
    job_id: JobId,
    response: Response,
    service: TheService,
    caller: Caller,
    wait: WaitSeconds = 0.0,
    version: Annotated[
        int | None, Query(ge=0, le=2**53, description="With wait: answer once it differs.")
    ] = None,
) -> JobView:
    """A job, whole. The ETag is its version; `wait` with `version` long-polls for a change."""
    with service.changes.subscribe(job_id) as subscription:
        deadline = time.monotonic() + wait
        while True:
            found = await service.read(
                lambda connection: _versioned(connection, job_id, caller.owner_filter)
            )
            left = deadline - time.monotonic()
            if version is None or found[1] != version or left <= 0:
                break
            await subscription.wait(left)
    view, number = found
    response.headers["ETag"] = f'W/"{number}"'
    if view.status not in TERMINAL:
        response.headers["Retry-After"] = RETRY_AFTER_S
    return view


@router.post("/{job_id}/cancel", status_code=202)
async def cancel_job(
    job_id: JobId,
    service: TheService,
    caller: Caller,
    request: CancelRequest = DEFAULT_CANCEL,
) -> JobView:
    """Cancel a job: at once while it waits, else once its process is gone. Can be repeated."""

    def work(connection: Connection) -> JobView:
        row = views.find_job(connection, job_id, caller.owner_filter)
        grace_s = 0.0 if request.force else request.grace_s
        jobs.cancel(connection, row, grace_s, now=time.time())
        return views.job_view(connection, views.find_job(connection, job_id, None))

    return await service.write(work, job_id)


@router.get("/{job_id}/metrics")
async def job_metrics(
    job_id: JobId,
    service: TheService,
    caller: Caller,
    after: AfterNumber = None,
    keys: Annotated[
        list[str] | None, Query(max_length=32, description="Only these metrics, by name.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=10000)] = 1000,
) -> MetricsPage:
    """Metrics, one row per epoch, in order; begin `after` the last_epoch you have."""

    def work(connection: Connection) -> MetricsPage:
        views.find_job(connection, job_id, caller.owner_filter)
        return views.metrics_page(connection, job_id, after=after, keys=keys, limit=limit)

    return await service.read(work)


@router.get("/{job_id}/events")
async def job_events(
    job_id: JobId,
    service: TheService,
    caller: Caller,
    after: AfterNumber = None,
    limit: Limit = 100,
) -> Page[EventView]:
    """What happened to a job, in order."""

    def work(connection: Connection) -> Page[EventView]:
        views.find_job(connection, job_id, caller.owner_filter)
        return views.events_page(connection, job_id, after=after, limit=limit)

    return await service.read(work)


@router.get(
    "/{job_id}/logs",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Bytes of the log."}},
)
async def job_logs(
    job_id: JobId,
    service: TheService,
    caller: Caller,
    offset: Annotated[int, Query(ge=0, le=2**53, description="First byte.")] = 0,
) -> Response:
    """What the training process printed, from an offset, 1 MiB at most.

    `X-Log-Bytes` is the length of the whole log; the next part begins at offset + the length of
    this.
    """

    def work(connection: Connection) -> tuple[bytes, int]:
        views.find_job(connection, job_id, caller.owner_filter)
        return views.log_bytes(connection, job_id, offset, MAX_LOG_ANSWER)

    data, end = await service.read(work)
    return Response(data, media_type="text/plain; charset=utf-8", headers={"X-Log-Bytes": str(end)})


def _versioned(connection: Connection, job_id: str, owner_id: str | None) -> tuple[JobView, int]:
    row = views.find_job(connection, job_id, owner_id)
    return views.job_view(connection, row), row.version
