"""The row of a job: found, changed with its version, and what happened written beside it.

Every function takes a connection inside a transaction. Nothing here knows of HTTP.
"""

from functools import lru_cache
from typing import Any

from sqlalchemy import JSON, Connection, Row, insert, select, update

from server.database.engines import driver_of
from server.database.tables import events, jobs
from server.errors import NotFound

DEFAULT_FOLDER = "run_nbody"  # of jobs without a save_name, as in AITimeStepper

STRUCTURED = frozenset(column.name for column in jobs.c if isinstance(column.type, JSON))

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
    if values.keys() & STRUCTURED:
        version = jobs.c.version + 1
        connection.execute(
            update(jobs).where(jobs.c.id == job_id).values(version=version, **values)
        )
    else:  # the most frequent write of all
        driver_of(connection).execute(_update(tuple(values)), (*values.values(), job_id))


@lru_cache(maxsize=256)
def _update(names: tuple[str, ...]) -> str:
    assert set(names) <= set(jobs.c.keys())
    changes = "".join(f", {name} = ?" for name in names)
    return f"UPDATE jobs SET version = version + 1{changes} WHERE id = ?"


def record_event(
    connection: Connection, job_id: str, now: float, kind: str, data: dict[str, Any]
) -> None:
    """Append to a job's event log."""
    connection.execute(insert(events).values(job_id=job_id, at=now, type=kind, data=data))


def job_folder(job: JobRow) -> str:
    """Where a job's files are, relative to the data folder; save_name is only a label in it."""
    return f"{job.config.get('save_name') or DEFAULT_FOLDER}/{job.id}"
