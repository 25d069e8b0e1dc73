"""Who may see what, in one place: users their own jobs and sweeps, everyone else all of them.

An `owner_id` that is asked for is a restriction (`Principal.owner_filter`): to the things of that
owner, or to none where it is None. What may not be seen looks as if it were not there.
"""

from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Row, select, true

from server.database.tables import jobs
from server.database.writer import Database
from server.errors import NotFound
from server.wire.states import JobStatus


def may_see(owner_id: str | None, owner_of_it: str) -> bool:
    """Whether a restriction lets something of an owner be seen."""
    return owner_id is None or owner_id == owner_of_it


def is_visible(owner_id: str | None, owner: Column[Any]) -> ColumnElement[bool]:
    """The condition for what may be seen, by the column of its owners."""
    return true() if owner_id is None else owner == owner_id


def visible(row: Any, owner_id: str | None, what: str) -> Row[Any]:
    """A row that has an `owner_id`, if it is there and may be seen.

    Raises:
        NotFound
    """
    if row is None or not may_see(owner_id, row.owner_id):
        raise NotFound(what)
    return row


def find_job(connection: Connection, job_id: str, owner_id: str | None) -> Row[Any]:
    """A job's row.

    Raises:
        NotFound
    """
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
    return visible(row, owner_id, f"job {job_id}")


def job_version(connection: Connection, job_id: str, owner_id: str | None) -> tuple[int, JobStatus]:
    """A job's version and status, cheaply.

    Raises:
        NotFound
    """
    columns = jobs.c.version, jobs.c.status, jobs.c.owner_id
    row = connection.execute(select(*columns).where(jobs.c.id == job_id)).first()
    found = visible(row, owner_id, f"job {job_id}")
    return found.version, JobStatus(found.status)


def glance_at_job(
    database: Database, job_id: str, owner_id: str | None
) -> tuple[int, JobStatus] | None:
    """As `job_version`, at once and on the event loop's thread; None where nothing may be seen."""
    row = database.look("SELECT version, status, owner_id FROM jobs WHERE id = ?", job_id)
    if row is None or not may_see(owner_id, row[2]):
        return None
    return row[0], JobStatus(row[1])
