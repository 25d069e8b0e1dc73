"""Jobs: submit, look at, list."""

from functools import partial
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Header, Query, Response
from sqlalchemy import Connection

from nbody.config.size import estimate
from server.errors import FieldProblem, InvalidRequest
from server.queue import audit_log, idempotency, ownership
from server.queue.files.initial_conditions import check_may_use
from server.queue.limits import check_priority
from server.queue.steppers import stepper_jobs
from server.queue.submission import device_of, memory_bytes_of, submit, warnings_of
from server.service import Service
from server.views import groups as group_views
from server.views import jobs as job_views
from server.web import polling
from server.web.csv_tables import OR_CSV, Form, answer, group_lines, job_lines
from server.web.routes.job_filter import Columns, Wanted
from server.web.routes.making import make_job
from server.web.routes.parameters import (
    AfterId,
    Caller,
    IdempotencyKeyHeader,
    JobId,
    Limit,
    TheService,
    Version,
    WaitSeconds,
)
from server.wire.columns import ColumnText, JobColumn, Order, OrderText
from server.wire.job_lists import JobGroup, ListedJob
from server.wire.jobs import JobSubmission, JobView, ValidationReport
from server.wire.kinds import KINDS
from server.wire.messages import Page
from server.wire.states import JobStatus
from server.wire.urls import NoticeAddress

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


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
        whole, checkpoint = stepper_jobs.resolve(connection, submission, caller.owner_filter)
        job_id = submit(
            connection,
            whole,
            owner_id=caller.token_id,
            limits=service.limits,
            now=now,
            from_checkpoint=checkpoint,
        )
        audit_log.note(connection, caller, "job.submit", job_id)
        return job_id

    check_priority(submission.priority, caller, service.settings.user_priority)
    _check_notice(submission, service)
    key = idempotency.key_of(caller.token_id, idempotency_key, submission.model_dump_json)
    return await make_job(service, response, key, make)


def _check_notice(submission: JobSubmission, service: Service) -> None:
    """Whether this server can tell whom a job names.

    Raises:
        InvalidRequest
    """
    address = NoticeAddress.parse(submission.webhook or "")
    if address.format == "mail" and service.settings.mail_server is None:
        detail = "this server sends no mails; its admin sets ORRERY_MAIL_SERVER"
        raise InvalidRequest(FieldProblem("/webhook", detail))


@router.post("/validate")
async def validate_job(
    submission: JobSubmission, service: TheService, caller: Caller
) -> ValidationReport:
    """What would run: defaults filled in, warnings, size. Nothing is stored."""

    def look(connection: Connection) -> tuple[JobSubmission, str | None]:
        whole, _ = stepper_jobs.resolve(connection, submission, caller.owner_filter)
        check_may_use(connection, whole.config.model_dump(), caller.token_id)
        waiting = service.waiting(connection)
        needs = device_of(whole), memory_bytes_of(whole), whole.requires
        return whole, waiting.reason_of(caller.token_id, *needs)

    _check_notice(submission, service)
    whole, waits_for = await service.read(look)
    size, trains = estimate(whole.config), KINDS[whole.kind].trains
    return ValidationReport(
        config=whole.config,
        warnings=warnings_of(whole),
        parameter_count=size.parameters,
        estimated_memory_bytes=size.memory_bytes,
        estimated_gpu_memory_bytes=size.gpu_memory_bytes,
        estimated_checkpoint_bytes=size.checkpoint_bytes if trains else 0,
        waits_for=waits_for,
    )


@router.get("", response_model=Page[ListedJob], responses=OR_CSV)
async def list_jobs(
    service: TheService,
    caller: Caller,
    wanted: Wanted,
    columns: Columns = None,
    sort: Annotated[
        OrderText | None,
        Query(description="A column, the least first, or -COLUMN; default: the newest first."),
    ] = None,
    after: AfterId = None,
    limit: Limit = 20,
    form: Form = "json",
) -> Response:
    """Jobs, newest first, or sorted by a column; those without a value of it come last.

    A column is a field of a job, `config/FIELD`, `metadata/KEY`, `result/FIGURE`, or a metric, with
    `:last`, `:best`, `:min` or `:max` over its epochs.
    """
    shown = {column: JobColumn.parse(column) for column in columns or ()}
    found = await service.read(
        lambda connection: job_views.list_jobs(
            connection,
            wanted=wanted,
            owner_id=caller.owner_filter,
            columns=shown,
            order=None if sort is None else Order.parse(sort),
            after=after,
            limit=limit,
        )
    )
    return answer(found, form, job_lines)


@router.get("/groups", response_model=Page[JobGroup], responses=OR_CSV)
async def group_jobs(
    service: TheService,
    caller: Caller,
    wanted: Wanted,
    by: Annotated[
        list[ColumnText],
        Query(min_length=1, max_length=5, description="Columns whose values make a group."),
    ],
    columns: Columns = None,
    form: Form = "json",
) -> Response:
    """Jobs in groups of equal values, the largest first: how many, and of each column the mean, the
    standard deviation, the least, the median and the largest value. As over seeds.
    """
    found = await service.read(
        lambda connection: group_views.groups(
            connection,
            wanted=wanted,
            owner_id=caller.owner_filter,
            by={column: JobColumn.parse(column) for column in by},
            columns={column: JobColumn.parse(column) for column in columns or ()},
        )
    )
    return answer(found, form, group_lines)


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
    look = partial(_look, service, job_id, caller.owner_filter, if_none_match)
    found = await polling.wait_for_news(
        service.changes,
        job_id,
        lambda: service.read(look),
        lambda seen: version is None or seen.version != version,
        wait,
    )
    headers = polling.headers_of(found.version, found.status)
    if found.view is None:
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return found.view


class _Look(NamedTuple):
    """What a poll sees; the view only where the client does not have it."""

    version: int
    status: JobStatus
    view: JobView | None


def _look(
    service: Service,
    job_id: str,
    owner_id: str | None,
    if_none_match: str | None,
    connection: Connection,
) -> _Look:
    version, status = ownership.job_version(connection, job_id, owner_id)
    if polling.is_known(version, status, if_none_match):
        return _Look(version, status, None)
    row = ownership.find_job(connection, job_id, owner_id)
    view = job_views.job_view(connection, row, service.waiting(connection))
    return _Look(row.version, JobStatus(row.status), view)
