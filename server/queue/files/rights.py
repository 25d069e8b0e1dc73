"""Which files whoever holds a lease may bring, and which it may take.

Every function takes a connection inside a transaction. Nothing here knows of HTTP.
"""

from sqlalchemy import Connection

from server.errors import LeaseLost, NotFound
from server.queue import job_rows
from server.queue.claims import resume_points
from server.queue.files.records import check_place
from server.queue.job_rows import JobRow
from server.queue.workers import job_held_by


def check_may_bring(connection: Connection, lease_id: str, token_id: str, path: str) -> None:
    """Let a file into its attempt's folder alone, from whoever holds the lease now.

    Raises:
        LeaseLost, ReportConflict
    """
    check_place(_job_of(connection, lease_id, token_id), path)


def wanted_sha256(connection: Connection, lease_id: str, token_id: str, path: str) -> str | None:
    """What a file must be that the job begins with: a checkpoint, or its initial conditions.

    Returns:
        Its sha256; None of initial conditions, which are what they are.

    Raises:
        LeaseLost
        NotFound: the job needs no such file.
    """
    job = _job_of(connection, lease_id, token_id)
    known = {point.path: point.sha256 for point in resume_points(connection, job)}
    if path in known:
        return known[path]
    if path == job.config.get("ic_path"):
        return None
    raise NotFound("such file that this job begins with")


def _job_of(connection: Connection, lease_id: str, token_id: str) -> JobRow:
    job = job_rows.get(connection, job_held_by(connection, lease_id, token_id))
    if job.lease_id != lease_id:
        raise LeaseLost
    return job
