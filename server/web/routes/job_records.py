"""What is on record of a job: attempts, result, metrics, events, log."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, TypeVar

from fastapi import APIRouter, Query, Response
from sqlalchemy import Connection

from server.access.roles import Principal
from server.errors import FieldProblem, InvalidRequest
from server.queue import ownership
from server.service import Service
from server.views import history, series
from server.views import jobs as job_views
from server.web.routes.parameters import (
    AfterNumber,
    Caller,
    JobId,
    Limit,
    MetricName,
    TheService,
    write_json,
)
from server.wire.history import AttemptView, EventView, MetricsPage
from server.wire.jobs import ResultView
from server.wire.messages import Page

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
TEXT = {"text/plain": {"schema": {"type": "string"}}}
MAX_LOG_ANSWER = 2**20
MOST_ROWS_AT_ONCE = 500  # that take no longer than a few milliseconds
Seen = TypeVar("Seen")


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
        Query(ge=2, le=10000, description="The series thinned to this many epochs."),
    ] = None,
    until: Annotated[
        int | None, Query(ge=0, le=10**9, description="With max_points: up to this epoch.")
    ] = None,
) -> Response:
    """Metrics, one row per epoch, in order; begin `after` the last_epoch you have.

    With `max_points`, and `keys`, the series in so many epochs at most: those where a metric is
    least or greatest among its neighbours; the whole of it, or from `after` `until`.
    """
    distinct = list(dict.fromkeys(keys or ()))
    if max_points is not None:
        _check_thinning(max_points, distinct)
        stretch = {"after": after, "until": until}
        look = partial(series.thinned_metrics, keys=distinct, max_points=max_points, **stretch)
    else:
        look = partial(series.metrics_page, after=after, keys=keys, limit=limit)
    brief = max_points is None and limit <= MOST_ROWS_AT_ONCE
    return await _read(
        service, caller, job_id, lambda *where: write_json(look(*where)), brief=brief
    )


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


def _check_thinning(max_points: int, keys: list[str]) -> None:
    if not keys:
        raise InvalidRequest(FieldProblem("/query/keys", "max_points needs the keys to thin by"))
    if max_points < 2 * len(keys):
        least = f"{len(keys)} keys have {2 * len(keys)} extremes: ask for as many points at least"
        raise InvalidRequest(FieldProblem("/query/max_points", least))
