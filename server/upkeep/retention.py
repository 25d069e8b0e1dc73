"""Which files of jobs that are over are kept, and for how long.

What a job needs that is not over is never touched: its own checkpoints, and the one that it begins
at, simulates with or scores. Rows go first, in one transaction, then the files: what is listed is
whole at any time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, select, union_all, update

from server.database.tables import artifacts, checkpoints, epochs, jobs
from server.queue.job_rows import change, job_folder, record_event
from server.queue.steppers import users_checkpoints
from server.settings import ServerSettings
from server.store.kept_files import KeptFiles
from server.wire.states import TERMINAL

JOBS_AT_ONCE = 50  # of one transaction


@dataclass(frozen=True)
class Collected:
    """What is to be deleted, now that no row names it."""

    files: Sequence[str] = ()
    folders: Sequence[str] = ()

    def __add__(self, other: "Collected") -> "Collected":
        return Collected([*self.files, *other.files], [*self.folders, *other.folders])

    @property
    def names(self) -> list[str]:
        """All of it, relative to the data folder."""
        return [*self.files, *self.folders]


def collect(connection: Connection, settings: ServerSettings, *, now: float) -> Collected:
    """Take the rows of files that the policy does not keep; returns the files."""
    files: list[str] = []
    if settings.keep_every:
        files += _thin(connection, settings.keep_every, now=now)
    folders: list[str] = []
    if settings.keep_days:
        old = jobs.c.finished_at < now - 86400 * settings.keep_days
        folders += _drop(connection, _over_with_files(old), now=now)
    if settings.disk_quota_bytes:
        folders += _drop_beyond(connection, settings.disk_quota_bytes, now=now)
    return Collected(files, folders)


def delete_files(files: KeptFiles, collected: Collected) -> Collected:
    """Delete what was collected; returns what is left of it."""
    return Collected(
        [file for file in collected.files if not files.remove_file(file)],
        [folder for folder in collected.folders if not files.remove_folder(folder)],
    )


def _needed() -> Any:
    """The checkpoints that jobs that are not over begin at, or use."""
    return select(jobs.c.from_checkpoint).where(
        jobs.c.from_checkpoint.is_not(None), jobs.c.status.not_in(TERMINAL)
    )


def _over_with_files(*conditions: ColumnElement[bool]) -> Any:
    """Jobs that are over and still have files, none of which is needed; the oldest first."""
    busy = select(checkpoints.c.job_id).where(checkpoints.c.id.in_(_needed()))
    return (
        select(jobs)
        .where(
            jobs.c.status.in_(TERMINAL),
            jobs.c.files_gone_at.is_(None),
            jobs.c.id.not_in(busy),
            *conditions,
        )
        .order_by(jobs.c.finished_at)
        .limit(JOBS_AT_ONCE)
    )


def _drop(connection: Connection, query: Any, *, now: float) -> list[str]:
    """Take all files of some jobs; their metrics, events and logs stay."""
    rows = connection.execute(query).all()
    for row in rows:
        _forget(connection, row, now)
    return [job_folder(row) for row in rows]


def _drop_beyond(connection: Connection, quota: int, *, now: float) -> list[str]:
    """Take files of the oldest jobs until what is left fits the quota, some jobs at a time."""
    sizes = union_all(
        select(checkpoints.c.job_id, checkpoints.c.bytes),
        select(artifacts.c.job_id, artifacts.c.bytes),
    ).subquery()
    total = connection.execute(select(func.sum(sizes.c.bytes))).scalar_one() or 0
    folders: list[str] = []
    with_files = jobs.c.id.in_(select(sizes.c.job_id))
    for row in connection.execute(_over_with_files(with_files)).all():
        if total <= quota:
            break
        mine = select(func.sum(sizes.c.bytes)).where(sizes.c.job_id == row.id)
        total -= connection.execute(mine).scalar_one() or 0
        _forget(connection, row, now)
        folders.append(job_folder(row))
    return folders


def _forget(connection: Connection, row: Row[Any], now: float) -> None:
    for table in (checkpoints, artifacts):
        connection.execute(delete(table).where(table.c.job_id == row.id))
    change(connection, row.id, files_gone_at=now)
    record_event(connection, row.id, now, "files_deleted", {"reason": "retention"})


def _thin(connection: Connection, every: int, *, now: float) -> list[str]:
    """Of jobs that are over keep the first checkpoint, the last, the best, and every k-th."""
    fresh = jobs.c.thinned_every.is_(None) | (jobs.c.thinned_every != every)
    files: list[str] = []
    for row in connection.execute(_over_with_files(fresh)).all():
        gone = _thin_job(connection, row.id, every)
        connection.execute(update(jobs).where(jobs.c.id == row.id).values(thinned_every=every))
        if gone:
            change(connection, row.id)
            data = {"deleted": len(gone)}
            record_event(connection, row.id, now, "checkpoints_thinned", data)
        files += gone
    return files


def _thin_job(connection: Connection, job_id: str, every: int) -> list[str]:
    of_job = users_checkpoints.of_job(job_id)
    ends = select(func.min(checkpoints.c.epoch), func.max(checkpoints.c.epoch)).where(of_job)
    first, last = connection.execute(ends).one()
    same = (epochs.c.job_id == checkpoints.c.job_id) & (epochs.c.epoch == checkpoints.c.epoch)
    best = connection.execute(
        select(checkpoints.c.epoch)
        .join(epochs, same)
        .where(of_job)
        .order_by(epochs.c.final_pass_rate.desc(), epochs.c.mean_rel_dE, epochs.c.epoch.desc())
        .limit(1)
    ).scalar_one_or_none()
    kept = [epoch for epoch in (first, last, best) if epoch is not None]
    gone = delete(checkpoints).where(
        of_job, checkpoints.c.epoch % every != 0, checkpoints.c.epoch.not_in(kept)
    )
    return list(connection.execute(gone.returning(checkpoints.c.path)).scalars())
