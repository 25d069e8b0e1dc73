"""What a running attempt reports: where it began, epochs, checkpoints, other files, log bytes.

Reports may come twice, late, or from a worker that lost its job: equal content changes nothing,
other content is a conflict, and every write is fenced by the lease in its own transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Table, bindparam, delete, func, insert, select, update

from nbody.metrics import EpochMetrics
from server.attempts import output_folder
from server.errors import LeaseLost, ReportConflict
from server.ids import new_id
from server.job_rows import JobRow, change, record_event
from server.schemas import ArtifactReport, CheckpointReport, LogBytes, Report
from server.states import JobStatus
from server.tables import (
    METRIC_COLUMNS,
    artifacts,
    attempts,
    checkpoints,
    epochs,
    jobs,
    log_chunks,
    workers,
)

MAX_LOG_BYTES = 64 * 2**20  # of one job; later output is dropped, with a note in the log
# Made once: to build a statement takes longer than to run it.
HELD = (
    select(
        jobs,
        attempts.c.first_epoch,
        attempts.c.log_base,
        workers.c.id.label("worker_id"),
        workers.c.token_id,
        select(func.max(epochs.c.epoch))
        .where(epochs.c.job_id == jobs.c.id)
        .correlate(jobs)
        .scalar_subquery()
        .label("last_epoch"),
    )
    .join_from(attempts, jobs, jobs.c.id == attempts.c.job_id)
    .join(workers, workers.c.id == attempts.c.worker_id)
    .where(attempts.c.lease_id == bindparam("lease"))
)
EPOCH_COLUMNS = tuple(column.name for column in epochs.c)
INSERT_EPOCHS = (
    f"INSERT INTO epochs ({', '.join(EPOCH_COLUMNS)}) "
    f"VALUES ({', '.join('?' * len(EPOCH_COLUMNS))})"
)
FILE_IDS = {"checkpoints": "ckpt", "artifacts": "file"}  # prefixes, by table
LOG_FULL = b"\n[log limit reached: later output is not kept]\n"


@dataclass(frozen=True)
class Recorded:
    """What became of a report, and what its worker must know."""

    job_id: str
    worker_id: str
    status: JobStatus
    cancel_grace_s: float | None
    last_epoch: int | None  # of the attempt, on record


def record(
    connection: Connection, lease_id: str, token_id: str, report: Report, *, now: float
) -> Recorded:
    """Take what an attempt reports; repeats with equal content change nothing.

    Args:
        token_id: of the worker that reports; the lease must be one of its own.

    Raises:
        LeaseLost, ReportConflict
    """
    job = _held(connection, lease_id, token_id)
    first_epoch = report.first_epoch
    if first_epoch is None and job.first_epoch is None:  # its first epochs say it, too
        first_epoch = min((metrics.epoch for metrics in report.epochs), default=None)
    if first_epoch is not None:
        _begin_at(connection, job, first_epoch, now)
        job = _held(connection, lease_id, token_id)
    changes: dict[str, Any] = {}
    last = job.last_epoch
    if report.epochs:
        last = _record_epochs(connection, job, report.epochs)
        done = max(metrics.epoch for metrics in report.epochs) + 1
        changes["epochs_done"] = max(job.epochs_done, done)
    for checkpoint in report.checkpoints:
        _record_checkpoint(connection, job, checkpoint, now)
    for artifact in report.artifacts:
        _record_file(connection, job, artifacts, artifact, now)
    if report.log is not None:
        changes["log_bytes"] = _record_log(connection, job, report.log)
    if report.phase is not None and report.phase != job.phase:
        changes["phase"] = report.phase
    if changes or report.checkpoints or report.artifacts:
        change(connection, job.id, **changes)
    began = job.first_epoch is not None and last is not None and last >= job.first_epoch
    return Recorded(
        job.id, job.worker_id, JobStatus(job.status), job.cancel_grace_s, last if began else None
    )


def _held(connection: Connection, lease_id: str, token_id: str) -> Row[Any]:
    """The job that a lease holds, with what its attempt has done so far.

    Raises:
        LeaseLost: it holds nothing any more, or another worker's job.
    """
    row = connection.execute(HELD, {"lease": lease_id}).first()
    if row is None or row.lease_id != lease_id or row.token_id != token_id:
        raise LeaseLost
    return row


def _begin_at(connection: Connection, job: Row[Any], first_epoch: int, now: float) -> None:
    """The attempt says where it began: what earlier attempts did from there on is superseded."""
    if job.first_epoch is not None:
        if job.first_epoch != first_epoch:
            raise ReportConflict(f"The attempt began at epoch {job.first_epoch}.")
        return
    connection.execute(
        update(attempts).where(attempts.c.lease_id == job.lease_id).values(first_epoch=first_epoch)
    )
    for table in (epochs, checkpoints, artifacts):
        superseded = delete(table).where(table.c.job_id == job.id, table.c.attempt < job.attempt)
        if table is not artifacts:
            superseded = superseded.where(table.c.epoch >= first_epoch)
        connection.execute(superseded)
    change(connection, job.id, epochs_done=first_epoch)
    if first_epoch:
        record_event(connection, job.id, now, "resumed", {"epoch": first_epoch})


def _record_epochs(connection: Connection, job: Row[Any], reported: list[EpochMetrics]) -> int:
    """Write the epochs that are new; returns the last one on record."""
    rows = {m.epoch: {**vars(m), "job_id": job.id, "attempt": job.attempt} for m in reported}
    if len(rows) != len(reported):
        raise ReportConflict("The report holds an epoch twice.")
    if max(rows) >= job.epochs_total:
        raise ReportConflict(f"The job has {job.epochs_total} epochs; {max(rows)} is beyond.")
    last = max(rows) if job.last_epoch is None else max(job.last_epoch, *rows)
    for row in _known(connection, job, min(rows), max(rows)):
        again = rows.pop(row.epoch, None)
        if again is not None and any(again[name] != getattr(row, name) for name in METRIC_COLUMNS):
            raise ReportConflict(f"Epoch {row.epoch} was reported before with other metrics.")
    if rows:
        values = [tuple(row[name] for name in EPOCH_COLUMNS) for row in rows.values()]
        connection.exec_driver_sql(INSERT_EPOCHS, values)
    return last


def _known(connection: Connection, job: Row[Any], first: int, last: int) -> Sequence[Row[Any]]:
    """Epochs of a stretch that are on record; mostly the reported ones come after all of them."""
    if job.last_epoch is None or job.last_epoch < first:
        return ()
    stretch = epochs.c.epoch.between(first, last)
    return connection.execute(select(epochs).where(epochs.c.job_id == job.id, stretch)).all()


def _record_checkpoint(
    connection: Connection, job: JobRow, reported: CheckpointReport, now: float
) -> None:
    if not _record_file(connection, job, checkpoints, reported, now):
        return
    if reported.rolling:
        newest = (
            select(checkpoints.c.id)
            .where(checkpoints.c.job_id == job.id, checkpoints.c.rolling)
            .order_by(checkpoints.c.epoch.desc())
            .limit(2)
        )
        connection.execute(
            delete(checkpoints).where(
                checkpoints.c.job_id == job.id,
                checkpoints.c.rolling,
                checkpoints.c.id.not_in(newest),
            )
        )
    else:
        data = {"epoch": reported.epoch, "path": reported.path}
        record_event(connection, job.id, now, "checkpoint", data)


def _record_file(
    connection: Connection,
    job: JobRow,
    table: Table,
    reported: CheckpointReport | ArtifactReport,
    now: float,
) -> bool:
    """Note a file of the attempt; returns whether it is new.

    Raises:
        ReportConflict: it lies elsewhere, or was another file before.
    """
    folder = output_folder(job)
    if not reported.path.startswith(f"{folder}/") or ".." in reported.path.split("/"):
        raise ReportConflict(f"A file must lie in the attempt's own folder, {folder}.")
    given = reported.model_dump()
    known = connection.execute(
        select(*(table.c[name] for name in given)).where(
            table.c.job_id == job.id, table.c.path == reported.path
        )
    ).mappings()
    if (row := known.first()) is not None:
        if dict(row) != given:
            raise ReportConflict(f"{reported.path} was reported before as another file.")
        return False
    connection.execute(
        insert(table).values(
            id=new_id(FILE_IDS[table.name]),
            job_id=job.id,
            attempt=job.attempt,
            created_at=now,
            **given,
        )
    )
    return True


def _record_log(connection: Connection, job: Row[Any], log: LogBytes) -> int:
    """Append the bytes that are new; returns the length of the job's log."""
    end = job.log_bytes
    start = job.log_base + log.offset
    if start > end:
        if end > MAX_LOG_BYTES - len(LOG_FULL):
            return end  # the log is full: what was dropped left a gap
        raise ReportConflict(f"Log bytes before offset {log.offset} are missing.")
    room = MAX_LOG_BYTES - len(LOG_FULL) - end
    fresh = log.data[end - start :]
    if not fresh or room < 0:
        return end
    if len(fresh) > room:
        fresh = fresh[:room] + LOG_FULL
    connection.execute(insert(log_chunks).values(job_id=job.id, offset=end, data=fresh))
    return end + len(fresh)
