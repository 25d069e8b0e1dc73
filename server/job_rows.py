"""The row of a job: found, changed with its version, and what happened written beside it.

Every function takes a connection inside a transaction. Nothing here knows of HTTP.
"""

from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row, Update, bindparam, insert, select, update

from server.errors import NotFound
from server.tables import events, jobs

DEFAULT_FOLDER = "run_nbody"  # of jobs without a save_name, as in AITimeStepper

JobRow = Row[Any]


def get(connection: Connection, job_id: str) -> JobRow:
    """A job's row.

    Raises:
        NotFound
    """
    job = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
    if job is None:
        raise NotFound(f"job {job_id}")
    return job


def change(connection: Connection, job_id: str, **values: Any) -> None:
    """Change a job's row, and its version with it."""
    given = {f"new_{name}": value for name, value in values.items()}
    connection.execute(_update(tuple(values)), {"changed_job": job_id, **given})


@lru_cache(maxsize=256)
def _update(names: tuple[str, ...]) -> Update:
    """Made once for each set of columns: to build a statement takes longer than to run it."""
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in names}
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("changed_job"))
        .values(version=jobs.c.version + 1, **values)
    )


def record_event(
    connection: Connection, job_id: str, now: float, kind: str, data: dict[str, Any]
) -> None:
    """Append to a job's event log."""
    connection.execute(insert(events).values(job_id=job_id, at=now, type=kind, data=data))


def job_folder(job: JobRow) -> str:
    """Where a job's files are, relative to the data folder; save_name is only a label in it."""
    return f"{job.config.get('save_name') or DEFAULT_FOLDER}/{job.id}"
