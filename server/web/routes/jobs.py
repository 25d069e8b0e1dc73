"""Jobs: submit, look, change, stop and go on; their metrics, events, attempts and logs."""

import asyncio
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, NamedTuple, TypeVar

from fastapi import APIRouter, Header, Query, Response
from pydantic import AfterValidator, AwareDatetime, BeforeValidator
from sqlalchemy import Connection

from nbody.config.size import estimate
from server.access.roles import Principal
from server.data_folder import remove_folder
from server.errors import FieldProblem, InvalidRequest
from server.queue import audit_log, idempotency, job_actions, ownership, retries
from server.queue import stepper_jobs as trained
from server.queue.changes import Changes
from server.queue.job_rows import JobRow, job_folder
from server.queue.submission import submit
from server.service import Service
from server.views import history, series
from server.views import jobs as job_views
from server.web.routes.parameters import (
    RETRY_AFTER_S,
    AfterId,
    AfterNumber,
    Caller,
    IdempotencyKeyHeader,
    JobId,
    Limit,
    MetricName,
    TheService,
    Version,
    WaitSeconds,
    entity_tags,
    name_new,
    written,
)
from server.wire.history import AttemptView, EventView, MetricsPage
from server.wire.jobs import (
    CancelRequest,
    Deleted,
    JobChange,
    JobSubmission,
    JobSummary,
    JobView,
    ResultView,
    RetryRequest,
    ValidationReport,
)
from server.wire.kinds import KINDS, JobKind
from server.wire.messages import Page
from server.wire.states import TERMINAL, JobStatus

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

TEXT = {"text/plain": {"schema": {"type": "string"}}}
MAX_LOG_ANSWER = 2**20
MOST_ROWS_AT_ONCE = 500  # that take no longer than a few milliseconds
LABEL = re.compile(r"[A-Za-z0-9._:-]{1,64}=.*", re.DOTALL)
DEFAULT_CANCEL, DEFAULT_RETRY = CancelRequest(), RetryRequest()
Seen = TypeVar("Seen")
Action = Callable[[Connection, JobRow], object]


def _check_instant(text: str) -> str:
    if text.replace(".", "", 1).lstrip("+-").isdigit():
        raise ValueError("use a date and time with a time zone")
    return text


def _check_label(label: str) -> str:
    if not LABEL.fullmatch(label):
        raise ValueError("use KEY=TEXT; letters, digits and . _ : - in the key")
    return label


Label = Annotated[
    str,
    Query(max_length=300, json_schema_extra={"pattern": "^[A-Za-z0-9._:-]{1,64}="}),
    AfterValidator(_check_label),
]


@router.post("", status_code=201)
async def submit_job(
    submission: JobSubmission,
    response: Response,
    service: TheService,
    caller: Caller,
    idempotency_key: IdempotencyKeyHeader = None,
) -> JobView:
    """Submit a job: train, simulate or evaluate. It is durable when this answers."""

    def make(connection: Connection, now: float) -> str:
        whole, checkpoint = trained.resolve(connection, submission, caller.owner_filter)
        job_id = submit(
            connection,
            whole,
            owner_id=caller.token_id,
            most_queued=service.settings.max_queued_jobs,
            now=now,
            from_checkpoint=checkpoint,
        )
        audit_log.note(connection, caller, "job.submit", job_id)
        return job_id

    key = idempotency.key_of(caller.token_id, idempotency_key, submission.model_dump_json())
    return await _make_once(service, response, key, make)


@router.post("/validate")
async def validate_job(
    submission: JobSubmission, service: TheService, caller: Caller
) -> ValidationReport:
    """What would run: defaults filled in, warnings, size. Nothing is stored."""
    whole, _ = await service.read(
        lambda connection: trained.resolve(connection, submission, caller.owner_filter)
    )
    size = estimate(whole.config)
    return ValidationReport(
        config=whole.config,
        warnings=whole.config.warnings() if KINDS[whole.kind].trains else [],
        parameter_count=size.parameters,
        estimated_memory_bytes=size.memory_bytes,
    )


@router.get("")
async def list_jobs(
    service: TheService,
    caller: Caller,
    status: Annotated[list[JobStatus] | None, Query(description="Only these states.")] = None,
    kind: Annotated[list[JobKind] | None, Query(description="Only these kinds.")] = None,
    name: Annotated[str | None, Query(max_length=200, description="Only this name.")] = None,
    metadata: Annotated[
        list[Label] | None,
        Query(max_length=10, description="Only jobs with this label, KEY=TEXT; all where several."),
    ] = None,
    created_after: Annotated[
        Annotated[AwareDatetime, BeforeValidator(_check_instant)] | None,
        Query(description="Only younger ones; with a time zone."),
    ] = None,
    after: AfterId = None,
    limit: Limit = 20,
) -> Page[JobSummary]:
    """Jobs, newest first."""
    labels = {key: text for key, _, text in (label.partition("=") for label in metadata or ())}
    return await service.read(
        lambda connection: job_views.list_jobs(
            connection,
            owner_id=caller.owner_filter,
            status=status or [],
            kind=kind or [],
            name=name,
            labels=labels,
            created_after=created_after,
            after=after,
            limit=limit,
        )
    )


@router.get(
    "/{job_id}", response_model=JobView, responses={304: {"description": "It has not changed."}}
)
async def show_job(
    job_id: JobId,
    response: Response,
    service: TheService,
    caller: Caller,
    wait: WaitSeconds = 0.0,
    version: Version = None,
    if_none_match: Annotated[
        str | None, Header(max_length=1000, description="ETags that the client has.")
    ] = None,
) -> JobView | Response:
    """A job, whole. The ETag is its version; `wait` with `version` long-polls for a change.

    With `If-None-Match`, a job that has not changed is answered 304, without a body.
    """
    known = entity_tags(if_none_match)
    with service.changes.subscribe(job_id) as subscription:
        deadline = time.monotonic() + wait
        while True:
            found = await service.read(partial(_unless_known, job_id, caller.owner_filter, known))
            left = deadline - time.monotonic()
            if version is None or found.version != version or left <= 0:
                break
            await subscription.wait(left)
    headers = {"ETag": f'W/"{found.version}"'}
    if found.status not in TERMINAL:
        headers["Retry-After"] = RETRY_AFTER_S
    if found.view is None:
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return found.view


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


@router.patch("/{job_id}")
async def change_job(
    job_id: JobId, changes: JobChange, service: TheService, caller: Caller
) -> JobView:
    """Change a job's name, priority or labels; what is not given stays."""
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
    most = service.settings.max_queued_jobs
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
            most_queued=service.settings.max_queued_jobs,
            now=now,
        )
        audit_log.note(connection, caller, "job.retry", new_job)
        return new_job

    asked = f"{job_id} {request.model_dump_json()}"
    key = idempotency.key_of(caller.token_id, idempotency_key, asked)
    return await _make_once(service, response, key, make, job_id)


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
    gone = files and await asyncio.to_thread(remove_folder, service.settings.data, folder)
    return Deleted(id=job_id, files=gone)


@router.get("/{job_id}/attempts")
async def job_attempts(
    job_id: JobId,
    service: TheService,
    caller: Caller,
    after: AfterNumber = None,
    limit: Limit = 100,
) -> Page[AttemptView]:
    """Who tried a job, when, and how that ended."""
    return await _read(
        service, caller, job_id, partial(history.attempts_page, after=after, limit=limit)
    )


@router.get("/{job_id}/result")
async def job_result(job_id: JobId, service: TheService, caller: Caller) -> ResultView:
    """What a job that succeeded found: scores, or what a simulation kept and what it cost."""
    return await _read(service, caller, job_id, job_views.job_result)


@router.get("/{job_id}/metrics", response_model=MetricsPage)
async def job_metrics(
    job_id: JobId,
    service: TheService,
    caller: Caller,
    after: AfterNumber = None,
    keys: Annotated[
        list[MetricName] | None, Query(max_length=32, description="Only these metrics, by name.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=10000)] = 1000,
    max_points: Annotated[
        int | None,
        Query(ge=2, le=10000, description="The whole series thinned to this many epochs."),
    ] = None,
) -> Response:
    """Metrics, one row per epoch, in order; begin `after` the last_epoch you have.

    With `max_points`, and `keys`, the whole series in so many epochs at most: those where a metric
    is least or greatest among its neighbours.
    """
    distinct = list(dict.fromkeys(keys or ()))
    if max_points is not None:
        _check_thinning(max_points, distinct, after)
        look = partial(series.thinned_metrics, keys=distinct, max_points=max_points)
    else:
        look = partial(series.metrics_page, after=after, keys=keys, limit=limit)
    brief = max_points is None and limit <= MOST_ROWS_AT_ONCE
    return await _read(service, caller, job_id, lambda *where: written(look(*where)), brief=brief)


@router.get("/{job_id}/events")
async def job_events(
    job_id: JobId,
    service: TheService,
    caller: Caller,
    after: AfterNumber = None,
    limit: Limit = 100,
) -> Page[EventView]:
    """What happened to a job, in order."""
    return await _read(
        service, caller, job_id, partial(history.events_page, after=after, limit=limit)
    )


@router.get(
    "/{job_id}/logs",
    response_class=Response,
    responses={200: {"content": TEXT, "description": "Bytes of the log."}},
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
    look = partial(history.log_bytes, offset=offset, limit=MAX_LOG_ANSWER)
    data, end = await _read(service, caller, job_id, look)
    return Response(data, media_type="text/plain; charset=utf-8", headers={"X-Log-Bytes": str(end)})


async def _read(
    service: Service,
    caller: Principal,
    job_id: str,
    look: Callable[[Connection, str], Seen],
    *,
    brief: bool = False,
) -> Seen:
    """Look at a job that the caller may see.

    A brief look is taken on the thread of the event loop: two threads that both want the
    interpreter, one of them at each row, take twice as long.
    """

    def work(connection: Connection) -> Seen:
        ownership.job_version(connection, job_id, caller.owner_filter)
        return look(connection, job_id)

    return service.database.read_now(work) if brief else await service.read(work)


def _check_thinning(max_points: int, keys: list[str], after: int | None) -> None:
    if not keys:
        raise InvalidRequest(FieldProblem("/query/keys", "max_points needs the keys to thin by"))
    if after is not None:
        raise InvalidRequest(FieldProblem("/query/after", "max_points is of the whole series"))
    if max_points < 2 * len(keys):
        least = f"{len(keys)} keys have {2 * len(keys)} extremes: ask for as many points at least"
        raise InvalidRequest(FieldProblem("/query/max_points", least))


async def _make_once(
    service: Service,
    response: Response,
    key: idempotency.Key | None,
    make: Callable[[Connection, float], str],
    *topics: str,
) -> JobView:
    """Make a job, or show the one that the same request made before."""

    def work(connection: Connection) -> tuple[JobView, bool]:
        job_id = known = idempotency.made_before(connection, key)
        if job_id is None:
            now = time.time()
            job_id = make(connection, now)
            idempotency.remember(connection, key, job_id=job_id, now=now)
        view = job_views.job_view(connection, ownership.find_job(connection, job_id, None))
        return view, known is not None

    view, is_repeat = await service.write(work, Changes.QUEUE, *topics)
    name_new(response, f"/v1/jobs/{view.id}", is_repeat=is_repeat)
    return view


async def _act(
    service: Service, caller: Principal, job_id: str, name: str, action: Action
) -> JobView:
    """Do something to a job that the caller may see, and show what became of it."""

    def work(connection: Connection) -> JobView:
        action(connection, ownership.find_job(connection, job_id, caller.owner_filter))
        audit_log.note(connection, caller, f"job.{name}", job_id)
        return job_views.job_view(connection, ownership.find_job(connection, job_id, None))

    return await service.write(work, job_id, Changes.QUEUE)


class _Look(NamedTuple):
    """What a poll sees; the view only where the client does not have it."""

    version: int
    status: JobStatus
    view: JobView | None


def _unless_known(
    job_id: str, owner_id: str | None, known: frozenset[str], connection: Connection
) -> _Look:
    version, status = ownership.job_version(connection, job_id, owner_id)
    # A waiting job's place in the queue changes with other jobs.
    if str(version) in known and status is not JobStatus.QUEUED:
        return _Look(version, status, None)
    row = ownership.find_job(connection, job_id, owner_id)
    return _Look(row.version, JobStatus(row.status), job_views.job_view(connection, row))
