"""What a running attempt reports: where it began, epochs, checkpoints, other files, log bytes.

Reports may come twice, late, or from a worker that lost its job: equal content changes nothing,
other content is a conflict, and every write is fenced by the lease in its own transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, delete, insert, select, update

from nbody.metrics import EpochMetrics
from server.database.engines import driver_of
from server.database.tables import (
    METRIC_COLUMNS,
    artifacts,
    attempts,
    checkpoints,
    epochs,
    events,
    log_chunks,
)
from server.errors import LeaseLost, ReportConflict
from server.queue import job_rows, summaries
from server.queue.files.records import record_files
from server.queue.job_rows import change, record_event
from server.wire.states import JobStatus
from server.wire.workers import Command, LogBytes, Note, Report

PAUSE_GRACE_S = 8.0
MAX_LOG_BYTES = 64 * 2**20  # of one job; later output is dropped, with a note in the log
# In plain SQL: these run for every report, and to build a statement takes longer than to run it.
HELD = """
SELECT jobs.id, jobs.lease_id, jobs.status, jobs.phase, jobs.attempt, jobs.epochs_done,
    jobs.epochs_total, jobs.log_bytes, jobs.cancel_grace_s,
    attempts.first_epoch, attempts.log_base, workers.id, workers.token_id,
    (SELECT max(epoch) FROM epochs WHERE job_id = jobs.id)
FROM attempts JOIN jobs ON jobs.id = attempts.job_id JOIN workers ON workers.id = worker_id
WHERE attempts.lease_id = ?
"""
EPOCH_COLUMNS = ("job_id", "attempt", *METRIC_COLUMNS)
INSERT_EPOCHS = f"INSERT INTO epochs ({', '.join(EPOCH_COLUMNS)}) VALUES "
EPOCH = f"({', '.join('?' * len(EPOCH_COLUMNS))})"
MOST_NOTES = 100  # of one job
LOG_FULL = b"\n[log limit reached: later output is not kept]\n"


class Held(NamedTuple):
    """The job that a lease holds, and what its attempt has done so far; the columns of HELD."""

    id: str
    lease_id: str | None
    status: str
    phase: str | None
    attempt: int
    epochs_done: int
    epochs_total: int
    log_bytes: int
    cancel_grace_s: float | None
    first_epoch: int | None
    log_base: int
    worker_id: str
    token_id: str
    last_epoch: int | None  # on record, of any attempt


@dataclass(frozen=True)
class Recorded:
    """What became of a report, and what its worker must know."""

    job_id: str
    worker_id: str
    status: JobStatus
    cancel_grace_s: float | None
    last_epoch: int | None  # of the attempt, on record

    @property
    def command(self) -> Command | None:
        """What the worker is to do with the job."""
        if self.status is JobStatus.CANCELLING:
            return Command(action="cancel", grace_s=self.cancel_grace_s or 0.0)
        if self.status is JobStatus.PAUSING:
            return Command(action="pause", grace_s=PAUSE_GRACE_S)
        return None


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
    if report.whereabouts is not None:
        of_attempt = update(attempts).where(attempts.c.lease_id == lease_id)
        connection.execute(of_attempt.values(whereabouts=report.whereabouts.model_dump()))
    last = job.last_epoch
    if report.epochs:
        last = _record_epochs(connection, job, report.epochs)
        done = max(metrics.epoch for metrics in report.epochs) + 1
        changes["epochs_done"] = max(job.epochs_done, done)
    has_more = bool(report.checkpoints or report.artifacts or report.notes)
    if has_more:
        record_files(connection, job_rows.get(connection, job.id), report, now)
        _record_notes(connection, job, report.notes, now)
    if report.log is not None:
        changes["log_bytes"] = _record_log(connection, job, report.log)
    if report.phase is not None and report.phase != job.phase:
        changes["phase"] = report.phase
    if changes or has_more:
        change(connection, job.id, **changes)
    began = job.first_epoch is not None and last is not None and last >= job.first_epoch
    return Recorded(
        job.id, job.worker_id, JobStatus(job.status), job.cancel_grace_s, last if began else None
    )


def _held(connection: Connection, lease_id: str, token_id: str) -> Held:
    """The job that a lease holds, with what its attempt has done so far.

    Raises:
        LeaseLost: it holds nothing any more, or another worker's job.
    """
    row = driver_of(connection).execute(HELD, (lease_id,)).fetchone()
    job = Held(*row) if row else None
    if job is None or job.lease_id != lease_id or job.token_id != token_id:
        raise LeaseLost
    return job


def _begin_at(connection: Connection, job: Held, first_epoch: int, now: float) -> None:
    """The attempt says where it began: what earlier attempts did from there on is superseded."""
    if job.first_epoch is not None:
        if job.first_epoch != first_epoch:
            raise ReportConflict(f"The attempt began at epoch {job.first_epoch}.")
        return
    if first_epoch > job.epochs_total:
        raise ReportConflict(f"The job has {job.epochs_total} epochs; {first_epoch} is beyond.")
    connection.execute(
        update(attempts).where(attempts.c.lease_id == job.lease_id).values(first_epoch=first_epoch)
    )
    for table in (epochs, checkpoints, artifacts):
        superseded = delete(table).where(table.c.job_id == job.id, table.c.attempt < job.attempt)
        if table is not artifacts:
            superseded = superseded.where(table.c.epoch >= first_epoch)
        if connection.execute(superseded).rowcount and table is epochs:
            summaries.remake(connection, job.id)
    change(connection, job.id, epochs_done=first_epoch)
    if first_epoch:
        record_event(connection, job.id, now, "resumed", {"epoch": first_epoch})


def _record_epochs(connection: Connection, job: Held, reported: list[EpochMetrics]) -> int:
    """Write the epochs that are new; returns the last one on record."""
    rows = {metrics.epoch: tuple(vars(metrics).values()) for metrics in reported}
    first, last = min(rows), max(rows)
    if len(rows) != len(reported):
        raise ReportConflict("The report holds an epoch twice.")
    if last >= job.epochs_total:
        raise ReportConflict(f"The job has {job.epochs_total} epochs; {last} is beyond.")
    for known in _known(connection, job, first, last):
        if rows.pop(known.epoch, known) != known:
            raise ReportConflict(f"Epoch {known.epoch} was reported before with other metrics.")
    if rows:
        ours = (job.id, job.attempt)
        values = [value for row in rows.values() for value in (*ours, *row)]
        # One statement: the driver lets go of the interpreter at each, and others may take it.
        driver_of(connection).execute(INSERT_EPOCHS + ", ".join([EPOCH] * len(rows)), values)
        summaries.add(connection, job.id, rows)
    return last if job.last_epoch is None else max(job.last_epoch, last)


def _known(connection: Connection, job: Held, first: int, last: int) -> Sequence[Row[Any]]:
    """Epochs of a stretch that are on record; mostly the reported ones come after all of them."""
    if job.last_epoch is None or job.last_epoch < first:
        return ()
    stretch = epochs.c.epoch.between(first, last)
    metrics = (epochs.c[name] for name in METRIC_COLUMNS)
    return connection.execute(select(*metrics).where(epochs.c.job_id == job.id, stretch)).all()


def _record_notes(connection: Connection, job: Held, notes: Sequence[Note], now: float) -> None:
    """Events; each is told once, and of one job not endlessly many."""
    of_job = select(events.c.data).where(events.c.job_id == job.id, events.c.type == "note")
    known = list(connection.execute(of_job).scalars())
    for note in notes:
        data = {"attempt": job.attempt, **note.model_dump()}
        if data not in known and len(known) < MOST_NOTES:
            known.append(data)
            record_event(connection, job.id, now, "note", data)


def _record_log(connection: Connection, job: Held, log: LogBytes) -> int:
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
