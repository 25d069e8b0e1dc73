"""Rows → what the API answers. Queries that only read."""

import difflib
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Row, Select, and_, func, select

from nbody.config import Config
from nbody.metrics import METRIC_NAMES, EpochMetrics
from server.errors import FieldProblem, InvalidRequest, NotFound
from server.schemas import (
    ArtifactView,
    AttemptView,
    CheckpointView,
    Comparison,
    EventView,
    Failure,
    JobSummary,
    JobView,
    MetricsPage,
    Page,
    Progress,
    ResultView,
    TokenView,
)
from server.states import JobStatus
from server.tables import (
    METRIC_COLUMNS,
    artifacts,
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
ALIASES = {name: field.alias or name for name, field in EpochMetrics.model_fields.items()}
COLUMNS = {alias: name for name, alias in ALIASES.items()}
SUMMARY_COLUMNS = [column for column in jobs.c if column.name not in {"config", "result"}]


def instant(seconds: float) -> datetime:
    """UTC time of a row's instant."""
    return datetime.fromtimestamp(seconds, tz=UTC)


def instant_or_none(seconds: float | None) -> datetime | None:
    """As `instant`, for instants that may be missing."""
    return None if seconds is None else instant(seconds)


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


def page(items: list[Any], limit: int) -> Page[Any]:
    """A page of `items`, which hold one more than `limit` where there is more."""
    shown = items[:limit]
    return Page(
        data=shown,
        has_more=len(items) > limit,
        first_id=shown[0].id if shown else None,
        last_id=shown[-1].id if shown else None,
    )


def metrics_page(
    connection: Connection, job_id: str, *, after: int | None, keys: list[str] | None, limit: int
) -> MetricsPage:
    """Epochs after `after`, in order, one row each. `epoch` is always among the keys.

    Raises:
        InvalidRequest: there is no metric of that name.
    """
    query = _metric_rows(job_id, keys).limit(limit + 1)
    if after is not None:
        query = query.where(epochs.c.epoch > after)
    rows = _named(connection, query)
    return MetricsPage.model_construct(
        job_id=job_id,
        data=rows[:limit],
        has_more=len(rows) > limit,
        last_epoch=rows[:limit][-1]["epoch"] if rows else None,
    )


def thinned_metrics(
    connection: Connection, job_id: str, *, keys: list[str], max_points: int
) -> MetricsPage:
    """The whole series in at most `max_points` epochs: of each stretch of epochs those where a
    metric is least and greatest, so that no peak is lost.

    Raises:
        InvalidRequest: there is no metric of that name.
    """
    query = _metric_rows(job_id, keys)
    of_job = epochs.c.job_id == job_id
    ends = select(func.min(epochs.c.epoch), func.max(epochs.c.epoch)).where(of_job)
    first, last = connection.execute(ends).one()
    if last is not None and last - first >= max_points:
        stretches = max(1, max_points // (2 * len(keys)))
        stretch = ((epochs.c.epoch - first) * stretches).op("/")(last - first + 1)
        # SQLite takes the other columns from the row that has the minimum or the maximum.
        extremes = [
            select(epochs.c.epoch, extreme(epochs.c[COLUMNS[key]])).where(of_job).group_by(stretch)
            for key in keys
            for extreme in (func.min, func.max)
        ]
        kept = {row.epoch for part in extremes for row in connection.execute(part)}
        query = query.where(epochs.c.epoch.in_(sorted(kept)))
    return MetricsPage.model_construct(
        job_id=job_id, data=_named(connection, query), has_more=False, last_epoch=last
    )


def _metric_rows(job_id: str, keys: list[str] | None) -> Select[Any]:
    for key in keys or ():
        if key not in METRIC_NAMES:
            close = difflib.get_close_matches(key, METRIC_NAMES, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"use {', '.join(METRIC_NAMES)}"
            raise InvalidRequest(FieldProblem("/query/keys", f"no such metric; {hint}"))
    names = [n for n in METRIC_COLUMNS if not keys or n == "epoch" or ALIASES[n] in keys]
    columns = (epochs.c[name].label(ALIASES[name]) for name in names)
    return select(*columns).where(epochs.c.job_id == job_id).order_by(epochs.c.epoch)


def _named(connection: Connection, query: Select[Any]) -> list[dict[str, Any]]:
    found = connection.execute(query)
    names = tuple(found.keys())
    assert found.cursor is not None
    rows = found.cursor.fetchall()  # of numbers, which need no conversion
    return [dict(zip(names, row)) for row in rows]  # noqa: B905 - as many as columns


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


def comparison(
    connection: Connection, ids: list[str], keys: list[str], *, owner_id: str | None, limit: int
) -> Comparison:
    """The last epochs of several jobs.

    Raises:
        NotFound: one of the jobs is not there.
    """
    series: dict[str, list[dict[str, float | int | None]]] = {}
    for job_id in ids:
        done = find_job(connection, job_id, owner_id).epochs_done
        rows = metrics_page(connection, job_id, after=done - limit - 1, keys=keys, limit=limit)
        series[job_id] = rows.data
    return Comparison(keys=keys, data=series)


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


def list_checkpoints(
    connection: Connection, job_id: str, *, after: str | None, limit: int
) -> Page[CheckpointView]:
    """A job's checkpoints, oldest epoch first."""
    query = (
        select(checkpoints)
        .where(checkpoints.c.job_id == job_id, checkpoints.c.rolling.is_(False))
        .order_by(checkpoints.c.epoch)
        .limit(limit + 1)
    )
    if after is not None:
        epoch = select(checkpoints.c.epoch).where(checkpoints.c.id == after).scalar_subquery()
        query = query.where(checkpoints.c.epoch > epoch)
    return page([checkpoint_view(row) for row in connection.execute(query)], limit)


def find_checkpoint(
    connection: Connection, checkpoint_id: str, owner_id: str | None
) -> CheckpointView:
    """A checkpoint of a job that this owner may see.

    Raises:
        NotFound
    """
    row = connection.execute(
        select(checkpoints, jobs.c.owner_id)
        .join(jobs)
        .where(checkpoints.c.id == checkpoint_id, checkpoints.c.rolling.is_(False))
    ).first()
    if row is None or (owner_id is not None and row.owner_id != owner_id):
        raise NotFound(f"checkpoint {checkpoint_id}")
    return checkpoint_view(row)


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


def list_artifacts(
    connection: Connection, job_id: str, *, after: str | None, limit: int
) -> Page[ArtifactView]:
    """A job's files besides checkpoints, in the order in which they were made."""
    query = (
        select(artifacts)
        .where(artifacts.c.job_id == job_id, artifacts.c.id > (after or ""))
        .order_by(artifacts.c.id)
        .limit(limit + 1)
    )
    return page([artifact_view(row) for row in connection.execute(query)], limit)


def find_artifact(connection: Connection, artifact_id: str, owner_id: str | None) -> ArtifactView:
    """A file of a job that this owner may see.

    Raises:
        NotFound
    """
    row = connection.execute(
        select(artifacts, jobs.c.owner_id).join(jobs).where(artifacts.c.id == artifact_id)
    ).first()
    if row is None or (owner_id is not None and row.owner_id != owner_id):
        raise NotFound(f"artifact {artifact_id}")
    return artifact_view(row)


def artifact_view(row: Row[Any]) -> ArtifactView:
    """An artifact's row as the API shows it."""
    return ArtifactView(
        id=row.id,
        job_id=row.job_id,
        attempt=row.attempt,
        name=row.path.rpartition("/")[2],
        path=row.path,
        bytes=row.bytes,
        sha256=row.sha256,
        created_at=instant(row.created_at),
    )


def checkpoint_view(row: Row[Any]) -> CheckpointView:
    """A checkpoint's row as the API shows it."""
    return CheckpointView(
        id=row.id,
        job_id=row.job_id,
        attempt=row.attempt,
        epoch=row.epoch,
        path=row.path,
        bytes=row.bytes,
        sha256=row.sha256,
        created_at=instant(row.created_at),
    )


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
