"""Which files whoever holds a lease may bring, and which it may take.

Every function takes a connection inside a transaction. Nothing here knows of HTTP.
"""

from dataclasses import dataclass

from sqlalchemy import Connection

from server.errors import LeaseLost, NotFound
from server.queue import job_rows
from server.queue.claims import resume_points
from server.queue.files.initial_conditions import sent_file
from server.queue.files.records import check_place
from server.queue.job_rows import JobRow
from server.queue.workers import job_held_by


def check_may_bring(connection: Connection, lease_id: str, token_id: str, path: str) -> None:
    """Let a file into its attempt's folder alone, from whoever holds the lease now.

    Raises:
        LeaseLost, ReportConflict
    """
    check_place(_job_of(connection, lease_id, token_id), path)


@dataclass(frozen=True)
class WantedFile:
    """What is known of a file."""

    path: str
    bytes: int
    sha256: str


def wanted_file(
    connection: Connection, lease_id: str, token_id: str, path: str
) -> WantedFile | None:
    """What a file is that the job begins with: a checkpoint, or its initial conditions.

    Returns:
        None of initial conditions that no user has sent, which are what they are.

    Raises:
        LeaseLost
        NotFound: the job needs no such file.
    """
    job = _job_of(connection, lease_id, token_id)
    points = resume_points(connection, job)
    found = next((point for point in points if point.path == path), None)
    if found is None:
        if path != job.config.get("ic_path"):
            raise NotFound("such file that this job begins with")
        found = sent_file(connection, path)
    return None if found is None else WantedFile(found.path, found.bytes, found.sha256)


def _job_of(connection: Connection, lease_id: str, token_id: str) -> JobRow:
    job = job_rows.get(connection, job_held_by(connection, lease_id, token_id))
    if job.lease_id != lease_id:
        raise LeaseLost
    return job
