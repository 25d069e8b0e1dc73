"""Rows of jobs → what the API answers. Queries that only read."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Row, Select, bindparam, func, select

from nbody.config import Config
from nbody.metrics import EpochMetrics
from server.database.tables import ALIASES, METRIC_COLUMNS, epochs, events, jobs
from server.errors import NotFound
from server.queue.ownership import find_job, is_visible
from server.queue.selection.columns import FIELDS, read, shown
from server.queue.selection.conditions import conditions
from server.queue.selection.order import WITH_SUMMARIES, in_order, place_of
from server.queue.steppers import users_checkpoints
from server.views import queue_order
from server.views.files import checkpoint_view
from server.views.pages import instant, instant_or_none, page
from server.views.tokens import name_of
from server.views.waiting import Waiting
from server.wire.columns import JobColumn, Order
from server.wire.job_lists import JobFilter, ListedJob
from server.wire.jobs import (
    Failure,
    JobSummary,
    JobView,
    Progress,
    QueueEntry,
    Requirements,
    ResultView,
)
from server.wire.messages import Page
from server.wire.states import TERMINAL, JobStatus
from server.wire.urls import NoticeAddress

ETA_EPOCHS = 20  # most recent epochs that the estimate is made of
SUMMARY_COLUMNS = [column for column in jobs.c if column.name not in {"config", "result"}]

# Made once: a poll asks for both, and what a statement is made of is garbage that refers to itself.
OF_JOB, NEWEST_FIRST = epochs.c.job_id == bindparam("job_id"), epochs.c.epoch.desc()
LATEST_EPOCH = select(epochs).where(OF_JOB).order_by(NEWEST_FIRST).limit(1)
RECENT_TIMES = select(epochs.c.epoch_time).where(OF_JOB).order_by(NEWEST_FIRST).limit(ETA_EPOCHS)
MEAN_TIME = select(func.avg(RECENT_TIMES.subquery().c.epoch_time))


def job_counts(connection: Connection) -> tuple[dict[str, int], float | None]:
    """How many jobs have each status, and when the oldest waiting one was submitted."""
    counts = connection.execute(select(jobs.c.status, func.count()).group_by(jobs.c.status))
    oldest = select(func.min(jobs.c.created_at)).where(jobs.c.status == JobStatus.QUEUED)
    return {row[0]: row[1] for row in counts}, connection.execute(oldest).scalar_one()


def finished_since(
    connection: Connection, event: int | None
) -> tuple[list[tuple[str, str, str]], int]:
    """Kind, status and reason of the jobs that ended after an event, and the latest event; None
    is the latest event itself."""
    latest = connection.execute(select(func.coalesce(func.max(events.c.id), 0))).scalar_one()
    if event is None:
        return [], latest
    query = (
        select(jobs.c.kind, jobs.c.status, func.coalesce(jobs.c.stop_reason, ""))
        .select_from(events.join(jobs, jobs.c.id == events.c.job_id))
        .where(events.c.id > event, events.c.id <= latest, events.c.type.in_(TERMINAL))
    )
    return [tuple(row) for row in connection.execute(query)], latest


def job_view(connection: Connection, row: Row[Any], waiting: Waiting) -> JobView:
    """A job, whole."""
    latest = connection.execute(LATEST_EPOCH, {"job_id": row.id}).first()
    checkpoint = users_checkpoints.last(connection, row.id)
    failed = row.status == JobStatus.FAILED
    return JobView(
        **_summary_fields(row),
        owner=name_of(connection, row.owner_id),
        notes=row.notes,
        config=_config(row),
        warnings=row.warnings,
        failure=Failure(code=row.stop_reason, detail=row.failure) if failed else None,
        max_runtime_s=row.max_runtime_s,
        max_attempts=row.max_attempts,
        requires=Requirements.model_validate(row.requires),
        webhook=row.webhook and NoticeAddress.parse(row.webhook).without_secrets(),
        files_deleted_at=instant_or_none(row.files_gone_at),
        from_checkpoint=row.from_checkpoint,
        simulate=row.simulate,
        queue_position=_queue_position(connection, row),
        waits_for=waiting.reason(row),
        eta_s=_eta(connection, row),
        latest_metrics=None if latest is None else EpochMetrics.model_validate(_metrics(latest)),
        latest_checkpoint=None if checkpoint is None else checkpoint_view(checkpoint),
        result=row.result,
    )


def job_summary(row: Row[Any]) -> JobSummary:
    """A job as lists show it."""
    return JobSummary(**_summary_fields(row))


def list_jobs(
    connection: Connection,
    *,
    wanted: JobFilter,
    owner_id: str | None,
    columns: Mapping[str, JobColumn],
    order: Order | None,
    after: str | None,
    limit: int,
) -> Page[ListedJob]:
    """Jobs in order; the next part begins after the last id of this one.

    Args:
        columns: what to show of each besides, by the names under which it is shown.

    Raises:
        NotFound: jobs are sorted, and the one to begin after is gone.
    """
    begin = None if after is None else place_of(connection, after, order, owner_id)
    query = _listing(columns).where(*conditions(wanted, owner_id))
    rows = connection.execute(in_order(query, order, begin).limit(limit + 1)).all()
    return page([_listed(row, columns) for row in rows], limit)


def jobs_by_id(
    connection: Connection,
    ids: Sequence[str],
    columns: Mapping[str, JobColumn],
    owner_id: str | None,
) -> list[ListedJob]:
    """Those of some jobs that are there and may be seen."""
    query = _listing(columns).where(jobs.c.id.in_(ids), is_visible(owner_id, jobs.c.owner_id))
    return [_listed(row, columns) for row in connection.execute(query)]


def _listing(columns: Mapping[str, JobColumn]) -> Select[Any]:
    values = [shown(column).label(f"value_{n}") for n, column in enumerate(columns.values())]
    query = select(*SUMMARY_COLUMNS, FIELDS["owner"].label("owner"), *values)
    return query.select_from(WITH_SUMMARIES)


def _listed(row: Row[Any], columns: Mapping[str, JobColumn]) -> ListedJob:
    values = {
        name: read(column, getattr(row, f"value_{n}"))
        for n, (name, column) in enumerate(columns.items())
    }
    return ListedJob(**_summary_fields(row), owner=row.owner, values=values)


def queue_page(
    connection: Connection,
    waiting: Waiting,
    *,
    owner_id: str | None,
    after: str | None,
    limit: int,
) -> Page[QueueEntry]:
    """Waiting jobs in the order in which they will be taken.

    Raises:
        NotFound: the job to begin after is gone.
    """
    last = None if after is None else find_job(connection, after, owner_id)
    ids = queue_order.part(connection, limit + 1, last, owner_id)
    found = connection.execute(select(*SUMMARY_COLUMNS).where(jobs.c.id.in_(ids)))
    rows = {row.id: row for row in found}
    entries = [
        QueueEntry(**_summary_fields(rows[job_id]), waits_for=waiting.reason(rows[job_id]))
        for job_id in ids
    ]
    return page(entries, limit)


def job_result(connection: Connection, job_id: str) -> ResultView:
    """What a job found.

    Raises:
        NotFound: it found nothing, or has not ended yet.
    """
    row = connection.execute(
        select(jobs.c.kind, jobs.c.status, jobs.c.result).where(jobs.c.id == job_id)
    ).one()
    if row.result is None:
        raise NotFound(f"result of job {job_id} ({row.status})")
    return ResultView(job_id=job_id, kind=row.kind, data=row.result)


def _summary_fields(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "kind": row.kind,
        "status": row.status,
        "phase": row.phase,
        "stop_reason": row.stop_reason,
        "priority": -row.queue_rank,
        "attempt": row.attempt,
        "progress": Progress(
            epochs_done=row.epochs_done,
            epochs_total=row.epochs_total,
            fraction=_fraction(row),
        ),
        "metadata": row.labels,
        "retry_of": row.retry_of,
        "parent": row.parent,
        "created_at": instant(row.created_at),
        "started_at": instant_or_none(row.started_at),
        "finished_at": instant_or_none(row.finished_at),
    }


def _config(row: Row[Any]) -> Config:
    """A job's config; as it was stored, where it is of an earlier release and refused by now."""
    try:
        return Config.model_validate(row.config)
    except ValidationError:
        return Config.model_construct(**row.config)


def _fraction(row: Row[Any]) -> float:
    if not row.epochs_total:  # a simulation or an evaluation: done or not
        return float(row.status == JobStatus.SUCCEEDED)
    return row.epochs_done / row.epochs_total


def _metrics(row: Row[Any]) -> dict[str, Any]:
    return {ALIASES[name]: getattr(row, name) for name in METRIC_COLUMNS}


def _queue_position(connection: Connection, row: Row[Any]) -> int | None:
    return queue_order.position(connection, row) if row.status == JobStatus.QUEUED else None


def _eta(connection: Connection, row: Row[Any]) -> float | None:
    left = row.epochs_total - row.epochs_done
    if row.status != JobStatus.RUNNING or not left:  # it is being scored: nobody knows how long
        return None
    mean = connection.execute(MEAN_TIME, {"job_id": row.id}).scalar_one()
    return None if mean is None else mean * left
