"""Rows → what the API answers of jobs, workers and tokens. Queries that only read."""

from datetime import datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Row, and_, func, select

from nbody.config import Config
from nbody.metrics import EpochMetrics
from server.errors import NotFound
from server.file_views import checkpoint_view
from server.pages import instant, instant_or_none, page
from server.schemas import (
    AttemptView,
    EventView,
    Failure,
    JobKind,
    JobSummary,
    JobView,
    Page,
    Progress,
    ResultView,
    TokenView,
)
from server.states import JobStatus
from server.tables import (
    ALIASES,
    METRIC_COLUMNS,
    attempts,
    checkpoints,
    epochs,
    events,
    jobs,
    log_chunks,
    tokens,
    workers,
)
from server.worker_protocol import Gpu, WorkerView

ETA_EPOCHS = 20  # most recent epochs that the estimate is made of
SUMMARY_COLUMNS = [column for column in jobs.c if column.name not in {"config", "result"}]


def find_job(connection: Connection, job_id: str, owner_id: str | None) -> Row[Any]:
    """A job's row. An owner_id restricts to that owner's jobs; others look as if not there.

    Raises:
        NotFound
    """
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
    if row is None or (owner_id is not None and row.owner_id != owner_id):
        raise NotFound(f"job {job_id}")
    return row


def job_version(connection: Connection, job_id: str, owner_id: str | None) -> tuple[int, JobStatus]:
    """A job's version and status, cheaply.

    Raises:
        NotFound
    """
    columns = jobs.c.version, jobs.c.status, jobs.c.owner_id
    row = connection.execute(select(*columns).where(jobs.c.id == job_id)).first()
    if row is None or (owner_id is not None and row.owner_id != owner_id):
        raise NotFound(f"job {job_id}")
    return row.version, JobStatus(row.status)


def job_counts(connection: Connection) -> tuple[dict[str, int], float | None]:
    """How many jobs have each status, and when the oldest waiting one was submitted."""
    counts = connection.execute(select(jobs.c.status, func.count()).group_by(jobs.c.status))
    oldest = select(func.min(jobs.c.created_at)).where(jobs.c.status == JobStatus.QUEUED)
    return {row[0]: row[1] for row in counts}, connection.execute(oldest).scalar_one()


def job_view(connection: Connection, row: Row[Any]) -> JobView:
    """A job, whole."""
    latest = connection.execute(
        select(epochs).where(epochs.c.job_id == row.id).order_by(epochs.c.epoch.desc()).limit(1)
    ).first()
    checkpoint = connection.execute(
        select(checkpoints)
        .where(checkpoints.c.job_id == row.id, checkpoints.c.rolling.is_(False))
        .order_by(checkpoints.c.epoch.desc())
        .limit(1)
    ).first()
    failed = row.status == JobStatus.FAILED
    return JobView(
        **_summary_fields(row),
        config=_config(row),
        warnings=row.warnings,
        failure=Failure(code=row.stop_reason, detail=row.failure) if failed else None,
        max_runtime_s=row.max_runtime_s,
        max_attempts=row.max_attempts,
        webhook=row.webhook,
        files_deleted_at=instant_or_none(row.files_gone_at),
        from_checkpoint=row.from_checkpoint,
        simulate=row.simulate,
        queue_position=_queue_position(connection, row),
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
    owner_id: str | None,
    status: list[JobStatus],
    kind: list[JobKind],
    name: str | None,
    labels: dict[str, str],
    created_after: datetime | None,
    after: str | None,
    limit: int,
) -> Page[JobSummary]:
    """Newest jobs first; the next part begins after the last id of this one."""
    query = select(*SUMMARY_COLUMNS).order_by(jobs.c.id.desc()).limit(limit + 1)
    if owner_id is not None:
        query = query.where(jobs.c.owner_id == owner_id)
    if status:
        query = query.where(jobs.c.status.in_(status))
    if kind:
        query = query.where(jobs.c.kind.in_(kind))
    if name is not None:
        query = query.where(jobs.c.name == name)
    for key, text in labels.items():
        query = query.where(func.json_extract(jobs.c.labels, f'$."{key}"') == text)
    if created_after is not None:
        query = query.where(jobs.c.created_at > created_after.timestamp())
    if after is not None:
        query = query.where(jobs.c.id < after)
    rows = connection.execute(query).all()
    return page([job_summary(row) for row in rows], limit)


def events_page(
    connection: Connection, job_id: str, *, after: int | None, limit: int
) -> Page[EventView]:
    """A job's events in order."""
    query = select(events).where(events.c.job_id == job_id).order_by(events.c.id).limit(limit + 1)
    if after is not None:
        query = query.where(events.c.id > after)
    views = [
        EventView(id=row.id, job_id=row.job_id, at=instant(row.at), type=row.type, data=row.data)
        for row in connection.execute(query)
    ]
    return page(views, limit)


def attempts_page(
    connection: Connection, job_id: str, *, after: int | None, limit: int
) -> Page[AttemptView]:
    """A job's attempts in order."""
    query = (
        select(attempts)
        .where(attempts.c.job_id == job_id, attempts.c.number > (after or 0))
        .order_by(attempts.c.number)
        .limit(limit + 1)
    )
    views: list[AttemptView] = []
    for row in connection.execute(query):
        outcome: dict[str, Any] = row.outcome or {}
        views.append(
            AttemptView(
                id=row.number,
                worker_id=row.worker_id,
                started_at=instant(row.started_at),
                ended_at=instant_or_none(row.ended_at),
                first_epoch=row.first_epoch,
                status=outcome.get("status"),
                stop_reason=outcome.get("stop_reason"),
                detail=outcome.get("detail"),
            )
        )
    return page(views, limit)


def queue_page(
    connection: Connection, *, owner_id: str | None, after: str | None, limit: int
) -> Page[JobSummary]:
    """Waiting jobs in the order in which they will be taken.

    Raises:
        NotFound: the job to begin after is gone.
    """
    query = (
        select(*SUMMARY_COLUMNS)
        .where(jobs.c.status == JobStatus.QUEUED)
        .order_by(jobs.c.queue_rank, jobs.c.id)
        .limit(limit + 1)
    )
    if owner_id is not None:
        query = query.where(jobs.c.owner_id == owner_id)
    if after is not None:
        rank = connection.execute(
            select(jobs.c.queue_rank).where(jobs.c.id == after)
        ).scalar_one_or_none()
        if rank is None:
            raise NotFound(f"job {after} to begin after")
        later = and_(jobs.c.queue_rank == rank, jobs.c.id > after)
        query = query.where((jobs.c.queue_rank > rank) | later)
    rows = connection.execute(query).all()
    return page([job_summary(row) for row in rows], limit)


def log_bytes(connection: Connection, job_id: str, offset: int, limit: int) -> tuple[bytes, int]:
    """Log bytes from an offset, at most `limit`, and the length of the whole log."""
    end = connection.execute(select(jobs.c.log_bytes).where(jobs.c.id == job_id)).scalar_one()
    first = connection.execute(
        select(func.max(log_chunks.c.offset)).where(
            log_chunks.c.job_id == job_id, log_chunks.c.offset <= offset
        )
    ).scalar_one()
    if first is None or offset >= end:
        return b"", end
    query = (
        select(log_chunks.c.offset, log_chunks.c.data)
        .where(
            and_(
                log_chunks.c.job_id == job_id,
                log_chunks.c.offset >= first,
                log_chunks.c.offset < offset + limit,
            )
        )
        .order_by(log_chunks.c.offset)
    )
    parts = [chunk.data[max(offset - chunk.offset, 0) :] for chunk in connection.execute(query)]
    return b"".join(parts)[:limit], end


def job_result(connection: Connection, job_id: str) -> ResultView:
    """What a job found.

    Raises:
        NotFound: it found nothing, or has not ended yet.
    """
    row = connection.execute(
        select(jobs.c.kind, jobs.c.status, jobs.c.result).where(jobs.c.id == job_id)
    ).one()
    if row.result is None:
        raise NotFound(f"result of job {job_id}, which is {row.status},")
    return ResultView(job_id=job_id, kind=row.kind, data=row.result)


def list_workers(
    connection: Connection, last_seen: dict[str, float], owner_id: str | None
) -> list[WorkerView]:
    """Every worker that registered, newest first, with those jobs that this owner may see."""
    held: dict[str, list[str]] = {}
    query = select(attempts.c.worker_id, jobs.c.id).join(
        jobs, jobs.c.lease_id == attempts.c.lease_id
    )
    if owner_id is not None:
        query = query.where(jobs.c.owner_id == owner_id)
    for worker_id, job_id in connection.execute(query):
        held.setdefault(worker_id, []).append(job_id)
    rows = connection.execute(select(workers).order_by(workers.c.id.desc()).limit(1000))
    return [
        WorkerView(
            id=row.id,
            name=row.name,
            host=row.host,
            slots=row.slots,
            gpus=[Gpu(**gpu) for gpu in row.gpus],
            versions=row.versions,
            registered_at=instant(row.registered_at),
            last_seen_at=instant_or_none(last_seen.get(row.id)),
            jobs=held.get(row.id, []),
            draining=row.draining,
        )
        for row in rows
    ]


def list_tokens(connection: Connection) -> list[TokenView]:
    """Every token, without secrets."""
    return [token_view(row) for row in connection.execute(select(tokens).order_by(tokens.c.id))]


def token_view(row: Row[Any]) -> TokenView:
    """A token's row as the API shows it."""
    return TokenView(
        id=row.id,
        name=row.name,
        role=row.role,
        created_at=instant(row.created_at),
        expires_at=instant_or_none(row.expires_at),
        revoked_at=instant_or_none(row.revoked_at),
    )


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
    if row.status != JobStatus.QUEUED:
        return None
    ahead = (jobs.c.queue_rank < row.queue_rank) | (
        (jobs.c.queue_rank == row.queue_rank) & (jobs.c.id < row.id)
    )
    return connection.execute(
        select(func.count()).where(jobs.c.status == JobStatus.QUEUED, ahead)
    ).scalar_one()


def _eta(connection: Connection, row: Row[Any]) -> float | None:
    if row.status != JobStatus.RUNNING or not row.epochs_total:
        return None
    recent = (
        select(epochs.c.epoch_time)
        .where(epochs.c.job_id == row.id)
        .order_by(epochs.c.epoch.desc())
        .limit(ETA_EPOCHS)
        .subquery()
    )
    mean = connection.execute(select(func.avg(recent.c.epoch_time))).scalar_one()
    return None if mean is None else mean * (row.epochs_total - row.epochs_done)
