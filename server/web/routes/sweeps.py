"""Sweeps: searches for the best fields of a config, whose trials are ordinary jobs."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from sqlalchemy import Connection, Row

from server.queue import audit_log, idempotency
from server.queue.changes import Changes
from server.queue.limits import check_priority
from server.sweeps import rows as sweep_rows
from server.sweeps import views as sweep_views
from server.web import polling
from server.web.routes.parameters import (
    AfterId,
    AfterNumber,
    Caller,
    IdempotencyKeyHeader,
    Limit,
    SweepId,
    TheService,
    Version,
    WaitSeconds,
    name_new,
)
from server.wire.messages import Page
from server.wire.sweeps import (
    DeletedSweep,
    Importance,
    SweepRequest,
    SweepStatus,
    SweepSummary,
    SweepView,
    TrialState,
    TrialView,
)

router = APIRouter(prefix="/v1/sweeps", tags=["sweeps"])


@router.post("", status_code=201)
async def create_sweep(
    request: SweepRequest,
    response: Response,
    service: TheService,
    caller: Caller,
    idempotency_key: IdempotencyKeyHeader = None,
) -> SweepView:
    """Begin a sweep. Its trials are jobs of kind train, with the sweep as `parent`."""
    check_priority(request.priority, caller, service.settings.user_priority)
    key = idempotency.key_of(caller.token_id, idempotency_key, request.model_dump_json)
    await service.think(lambda: sweep_rows.check_space(request))

    def work(connection: Connection) -> tuple[SweepView, bool]:
        sweep_id = known = idempotency.made_before(connection, key)
        if sweep_id is None:
            now = time.time()
            sweep_id = sweep_rows.create(
                connection,
                request,
                owner_id=caller.token_id,
                now=now,
                limits=service.limits,
            )
            idempotency.remember(connection, key, sweep_id=sweep_id, now=now)
            audit_log.note(connection, caller, "sweep.create", sweep_id)
        view = sweep_views.sweep_view(connection, sweep_rows.find(connection, sweep_id, None))
        return view, known is not None

    view, is_repeat = await service.write(work, Changes.QUEUE)
    name_new(response, f"/v1/sweeps/{view.id}", is_repeat=is_repeat)
    return view


@router.get("")
async def list_sweeps(
    service: TheService,
    caller: Caller,
    status: Annotated[list[SweepStatus] | None, Query(description="Only these states.")] = None,
    after: AfterId = None,
    limit: Limit = 20,
) -> Page[SweepSummary]:
    """Sweeps, newest first."""
    return await service.read(
        lambda connection: sweep_views.list_sweeps(
            connection, caller.owner_filter, status=status or [], after=after, limit=limit
        )
    )


@router.get("/{sweep_id}")
async def show_sweep(
    sweep_id: SweepId,
    response: Response,
    service: TheService,
    caller: Caller,
    wait: WaitSeconds = 0.0,
    version: Version = None,
) -> SweepView:
    """A sweep: what was asked for, how far it is, the best trial so far.

    The ETag is its version; `wait` with `version` long-polls for a change.
    """

    def work(connection: Connection) -> tuple[int, SweepView]:
        row = sweep_rows.find(connection, sweep_id, caller.owner_filter)
        return row.version, sweep_views.sweep_view(connection, row)

    found, view = await polling.wait_for_news(
        service.changes,
        sweep_id,
        lambda: service.read(work),
        lambda seen: version is None or seen[0] != version,
        wait,
    )
    response.headers["ETag"] = polling.entity_tag(found)
    return view


@router.get("/{sweep_id}/trials")
async def sweep_trials(
    sweep_id: SweepId,
    service: TheService,
    caller: Caller,
    after: AfterNumber = None,
    limit: Limit = 100,
) -> Page[TrialView]:
    """A sweep's trials in order: their jobs, fields and values."""

    def work(connection: Connection) -> Page[TrialView]:
        sweep_rows.find(connection, sweep_id, caller.owner_filter)
        return sweep_views.list_trials(connection, sweep_id, after=after, limit=limit)

    return await service.read(work)


@router.get("/{sweep_id}/importance")
async def sweep_importance(sweep_id: SweepId, service: TheService, caller: Caller) -> Importance:
    """How much each field matters to the objective; empty until four trials are complete."""

    def work(connection: Connection) -> tuple[SweepRequest, list[Any]]:
        row = sweep_rows.find(connection, sweep_id, caller.owner_filter)
        return SweepRequest.model_validate(row.request), sweep_views.values(connection, sweep_id)

    request, rows = await service.read(work)
    shares = await service.think(lambda: _importance(request, rows))
    return Importance(sweep_id=sweep_id, data=shares)


@router.post("/{sweep_id}/cancel", status_code=202)
async def cancel_sweep(sweep_id: SweepId, service: TheService, caller: Caller) -> SweepView:
    """End a sweep and cancel its jobs. Can be repeated."""

    def work(connection: Connection) -> tuple[SweepView, list[str]]:
        row = sweep_rows.find(connection, sweep_id, caller.owner_filter)
        touched = sweep_rows.cancel(connection, row, now=time.time())
        audit_log.note(connection, caller, "sweep.cancel", sweep_id)
        return sweep_views.sweep_view(
            connection, sweep_rows.find(connection, sweep_id, None)
        ), touched

    view, touched = await service.write(work, Changes.QUEUE, sweep_id)
    for job_id in touched:
        service.changes.notify(job_id)
    return view


@router.delete("/{sweep_id}")
async def delete_sweep(sweep_id: SweepId, service: TheService, caller: Caller) -> DeletedSweep:
    """Delete a sweep that is over; its jobs stay."""

    def work(connection: Connection) -> None:
        sweep_rows.remove(connection, sweep_rows.find(connection, sweep_id, caller.owner_filter))
        audit_log.note(connection, caller, "sweep.delete", sweep_id)

    await service.write(work)
    return DeletedSweep(id=sweep_id)


def _importance(request: SweepRequest, rows: list[Row[Any]]) -> dict[str, float]:
    from server.sweeps import optuna_search  # noqa: PLC0415 - Optuna is loaded where it is asked

    trials = [
        optuna_search.StudyTrial(row.number, TrialState(row.state), row.params, row.value)
        for row in rows
    ]
    return optuna_search.importance(request, trials)
