"""A worker takes a job: under a new lease, with the checkpoints to go on from.

Every function takes a connection inside a transaction of the writer. Nothing here knows of HTTP.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Row, func, insert, select, update

from nbody.config import Config
from nbody.watcher import Phase
from server import steady_clock
from server.database.ids import new_id
from server.database.tables import attempts, checkpoints, jobs
from server.queue import job_rows
from server.queue.ending import finish
from server.queue.fair_turns import next_job, serve
from server.queue.job_rows import JobRow, job_folder, record_event
from server.queue.transitions import Trigger, next_status
from server.queue.workers import ANYTHING, Capacity
from server.wire.states import JobStatus, StopReason
from server.wire.workers import Outcome

RESUME_POINTS = 4  # offered to a new attempt


def claim(
    connection: Connection,
    worker_id: str,
    claim_id: str,
    *,
    now: float,
    capacity: Capacity = ANYTHING,
    most_running: int = 0,
) -> tuple[JobRow, Row[Any]] | None:
    """Take the next queued job under a new lease; the same claim_id gets the same job again.

    Args:
        capacity: what the worker can take; default: every training.
        most_running: jobs of an owner that may run at a time; 0 means no limit.

    Returns:
        The rows of the job and of the attempt, or None where nothing is queued.
    """
    attempt = connection.execute(
        select(attempts).where(attempts.c.worker_id == worker_id, attempts.c.claim_id == claim_id)
    ).first()
    if attempt is not None:
        job = job_rows.get(connection, attempt.job_id)
        return (job, attempt) if job.lease_id == attempt.lease_id else None
    queued = next_job(connection, capacity, most_running)
    if queued is None:
        return None
    lease_id = new_id("lease")
    job = connection.execute(
        update(jobs)
        .where(jobs.c.id == queued, jobs.c.status == JobStatus.QUEUED)
        .values(
            status=next_status(JobStatus.QUEUED, Trigger.CLAIM),
            attempt=jobs.c.attempt + 1,
            lease_id=lease_id,
            phase=Phase.STARTING,
            started_at=func.coalesce(jobs.c.started_at, now),
            version=jobs.c.version + 1,
        )
        .returning(jobs)
    ).one()
    serve(connection, job, capacity.pool)
    connection.execute(
        insert(attempts).values(
            job_id=job.id,
            number=job.attempt,
            lease_id=lease_id,
            claim_id=claim_id,
            worker_id=worker_id,
            started_at=now,
            boot_id=steady_clock.boot_id(),
            clock=steady_clock.read(),
            log_base=job.log_bytes,
        )
    )
    data = {"worker": worker_id, "attempt": job.attempt}
    record_event(connection, job.id, now, "started", data)
    attempt = connection.execute(select(attempts).where(attempts.c.lease_id == lease_id)).one()
    return job, attempt


def claim_valid(
    connection: Connection, worker_id: str, claim_id: str, *, now: float, **limits: Any
) -> tuple[JobRow, Row[Any]] | None:
    """As `claim`; a job whose config this release refuses fails, and the next one is taken."""
    while (claimed := claim(connection, worker_id, claim_id, now=now, **limits)) is not None:
        job, attempt = claimed
        try:
            Config.model_validate(job.config)
        except ValidationError as error:
            line = error.errors()[0]
            detail = f"this release refuses the config: {line['loc']}: {line['msg']}"[:4000]
            outcome = Outcome(status="failed", stop_reason=StopReason.INVALID_CONFIG, detail=detail)
            finish(connection, attempt.lease_id, outcome, now=now)
            # The claim is still to be answered, by another job.
            mine = attempts.c.lease_id == attempt.lease_id
            connection.execute(update(attempts).where(mine).values(claim_id=attempt.lease_id))
        else:
            return claimed
    return None


def resume_points(connection: Connection, job: JobRow) -> Sequence[Any]:
    """Checkpoints to continue from, newest first; the one that the job began at comes last."""
    known = checkpoints.c
    columns = known.epoch, known.path, known.bytes, known.sha256
    own = connection.execute(
        select(*columns)
        .where(checkpoints.c.job_id == job.id)
        .order_by(checkpoints.c.epoch.desc(), checkpoints.c.rolling)
        .limit(RESUME_POINTS)
    ).all()
    if job.from_checkpoint is None:
        return own
    start = select(*columns).where(checkpoints.c.id == job.from_checkpoint)
    return [*own, *connection.execute(start)]


def runtime_left(connection: Connection, job: JobRow) -> float | None:
    """Seconds of max_runtime_s that earlier attempts left over [s]."""
    if job.max_runtime_s is None:
        return None
    earlier = select(func.sum(attempts.c.ran_s)).where(attempts.c.job_id == job.id)
    used = connection.execute(earlier).scalar_one()
    return max(job.max_runtime_s - (used or 0.0), 0.0)


def output_folder(job: JobRow) -> str:
    """Where an attempt writes, relative to the data folder."""
    return f"{job_folder(job)}/attempt-{job.attempt}"
