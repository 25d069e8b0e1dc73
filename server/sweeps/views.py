"""Rows of sweeps → what the API answers. Queries that only read."""

from typing import Any

from sqlalchemy import Connection, Row, func, select

from server.database.tables import sweeps, trials
from server.queue.ownership import is_visible
from server.views.pages import instant, instant_or_none, page
from server.wire.messages import Page
from server.wire.sweeps import (
    SweepRequest,
    SweepStatus,
    SweepSummary,
    SweepView,
    TrialState,
    TrialView,
)


def sweep_view(connection: Connection, row: Row[Any]) -> SweepView:
    """A sweep, whole."""
    best = connection.execute(
        select(trials)
        .where(trials.c.sweep_id == row.id, trials.c.state == TrialState.COMPLETE)
        .order_by(
            trials.c.value.desc() if row.request["direction"] == "maximize" else trials.c.value,
            trials.c.number,
        )
        .limit(1)
    ).first()
    return SweepView(
        **_summary_fields(connection, row),
        request=SweepRequest.model_validate(row.request),
        best=None if best is None else trial_view(best),
    )


def list_sweeps(
    connection: Connection,
    owner_id: str | None,
    *,
    status: list[SweepStatus],
    after: str | None,
    limit: int,
) -> Page[SweepSummary]:
    """Newest sweeps first."""
    query = select(sweeps).order_by(sweeps.c.id.desc()).limit(limit + 1)
    query = query.where(is_visible(owner_id, sweeps.c.owner_id))
    if status:
        query = query.where(sweeps.c.status.in_(status))
    if after is not None:
        query = query.where(sweeps.c.id < after)
    rows = connection.execute(query).all()
    return page([SweepSummary(**_summary_fields(connection, row)) for row in rows], limit)


def list_trials(
    connection: Connection, sweep_id: str, *, after: int | None, limit: int
) -> Page[TrialView]:
    """A sweep's trials in order."""
    first = -1 if after is None else after
    query = (
        select(trials)
        .where(trials.c.sweep_id == sweep_id, trials.c.number > first)
        .order_by(trials.c.number)
        .limit(limit + 1)
    )
    return page([trial_view(row) for row in connection.execute(query)], limit)


def values(connection: Connection, sweep_id: str) -> list[Row[Any]]:
    """The complete trials of a sweep."""
    complete = trials.c.sweep_id == sweep_id, trials.c.state == TrialState.COMPLETE
    return list(connection.execute(select(trials).where(*complete).order_by(trials.c.number)))


def trial_view(row: Row[Any]) -> TrialView:
    """A trial's row as the API shows it."""
    return TrialView(
        id=row.number, job_id=row.job_id, state=row.state, params=row.params, value=row.value
    )


def _summary_fields(connection: Connection, row: Row[Any]) -> dict[str, Any]:
    counts = connection.execute(
        select(trials.c.state, func.count())
        .where(trials.c.sweep_id == row.id)
        .group_by(trials.c.state)
    )
    return {
        "id": row.id,
        "name": row.name,
        "status": row.status,
        "failure": row.failure,
        "objective": row.request["objective"],
        "direction": row.request["direction"],
        "n_trials": row.request["n_trials"],
        "trials": {row[0]: row[1] for row in counts},
        "created_at": instant(row.created_at),
        "finished_at": instant_or_none(row.finished_at),
    }
