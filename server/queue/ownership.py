"""Who may see what: users their own jobs and sweeps, everyone else all of them."""

from typing import Any

from sqlalchemy import Connection, Row, select

from server.database.tables import jobs
from server.errors import NotFound
from server.wire.states import JobStatus


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
