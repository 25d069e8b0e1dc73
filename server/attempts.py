"""What happens to jobs on workers: claim, finish, lose.

Every function takes a connection inside a transaction of the writer and changes state and event log
together. Nothing here knows of HTTP.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from nbody.config import Config
from server import job_rows, trained
from server.errors import IllegalMove, LeaseLost, ReportConflict
from server.ids import new_id
from server.job_rows import JobRow, change, job_folder, record_event
from server.states import (
    LEASED,
    RETRYABLE,
    TERMINAL,
    JobStatus,
    StopReason,
    Trigger,
    next_status,
)
from server.tables import attempts, checkpoints, jobs
from server.webhooks import announce
from server.worker_protocol import Outcome

RESUME_POINTS = 4  # offered to a new attempt


def claim(
    connection: Connection,
    worker_id: str,
    claim_id: str,
    *,
    now: float,
    kinds: Sequence[str] = ("train",),
    most_running: int = 0,
) -> tuple[JobRow, Row[Any]] | None:
    """Take the next queued job under a new lease; the same claim_id gets the same job again.

    Args:
        kinds: of jobs that the worker can do.
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
    waiting = select(jobs.c.id).where(jobs.c.status == JobStatus.QUEUED, jobs.c.kind.in_(kinds))
    if most_running:
        busy = (
            select(jobs.c.owner_id)
            .where(jobs.c.status.in_(LEASED))
            .group_by(jobs.c.owner_id)
            .having(func.count() >= most_running)
        )
        waiting = waiting.where(jobs.c.owner_id.not_in(busy))
    queued = waiting.order_by(jobs.c.queue_rank, jobs.c.id).limit(1).scalar_subquery()
    lease_id = new_id("lease")
    job = connection.execute(
        update(jobs)
        .where(jobs.c.id == queued, jobs.c.status == JobStatus.QUEUED)
        .values(
            status=next_status(JobStatus.QUEUED, Trigger.CLAIM),
            attempt=jobs.c.attempt + 1,
            lease_id=lease_id,
            phase="starting",
            started_at=func.coalesce(jobs.c.started_at, now),
            version=jobs.c.version + 1,
        )
        .returning(*jobs.c)
    ).first()
    if job is None:
        return None
    connection.execute(
        insert(attempts).values(
            job_id=job.id,
            number=job.attempt,
            lease_id=lease_id,
            claim_id=claim_id,
            worker_id=worker_id,
            started_at=now,
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
    columns = checkpoints.c.epoch, checkpoints.c.path, checkpoints.c.sha256
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


def runtime_left(connection: Connection, job: JobRow, *, now: float) -> float | None:
    """Seconds of max_runtime_s that earlier attempts left over [s]."""
    if job.max_runtime_s is None:
        return None
    used = connection.execute(
        select(func.sum(func.coalesce(attempts.c.ended_at, now) - attempts.c.started_at)).where(
            attempts.c.job_id == job.id
        )
    ).scalar_one()
    return max(job.max_runtime_s - (used or 0.0), 0.0)


def output_folder(job: JobRow) -> str:
    """Where an attempt writes, relative to the data folder."""
    return f"{job_folder(job)}/attempt-{job.attempt}"


def finish(connection: Connection, lease_id: str, outcome: Outcome, *, now: float) -> JobStatus:
    """End an attempt and move its job. A repeat gets the same answer.

    Raises:
        LeaseLost
    """
    attempt = connection.execute(select(attempts).where(attempts.c.lease_id == lease_id)).first()
    if attempt is None:
        raise LeaseLost
    job = job_rows.get(connection, attempt.job_id)
    if job.lease_id != lease_id:
        if attempt.outcome is None or attempt.status_after is None:
            raise LeaseLost
        if attempt.outcome != outcome.model_dump(mode="json"):
            if attempt.lost:
                raise LeaseLost
            raise ReportConflict("The attempt was ended before with another outcome.")
        return JobStatus(attempt.status_after)
    if outcome.status == "succeeded":
        trigger = Trigger.SUCCEED
    elif outcome.status == "stopped":
        trigger = Trigger.STOPPED
    elif outcome.stop_reason in RETRYABLE:
        trigger = _loss(job)
    else:
        trigger = Trigger.FAIL
    return _end_attempt(connection, job, trigger, outcome, now=now)


def lose(connection: Connection, lease_id: str, *, now: float) -> str | None:
    """A lease expired: its job goes back to the queue, or ends. Returns the job's id."""
    job = connection.execute(select(jobs).where(jobs.c.lease_id == lease_id)).first()
    if job is None:
        return None
    outcome = Outcome(
        status="failed",
        stop_reason=StopReason.WORKER_LOST,
        detail="the worker was not heard of for the time of its lease",
    )
    _end_attempt(connection, job, _loss(job), outcome, now=now, by_expiry=True)
    return job.id


def held_leases(connection: Connection) -> list[str]:
    """The leases that hold a job."""
    return list(
        connection.execute(select(jobs.c.lease_id).where(jobs.c.lease_id.is_not(None))).scalars()
    )


def _loss(job: JobRow) -> Trigger:
    return Trigger.LOST if job.failures + 1 < job.max_attempts else Trigger.GIVE_UP


def _end_attempt(
    connection: Connection,
    job: JobRow,
    trigger: Trigger,
    outcome: Outcome,
    *,
    now: float,
    by_expiry: bool = False,
) -> JobStatus:
    status = JobStatus(job.status)
    after = next_status(status, trigger)
    if after is None:
        raise IllegalMove(job.id, status, trigger)
    lost = trigger in {Trigger.LOST, Trigger.GIVE_UP}
    values: dict[str, Any] = {
        "status": after,
        "lease_id": None,
        "phase": None,
        "failures": job.failures + int(lost),
    }
    if after in TERMINAL:
        user = after is JobStatus.CANCELLED
        values["stop_reason"] = StopReason.USER if user else outcome.stop_reason
        values["finished_at"] = now
        if after is JobStatus.FAILED:
            values["failure"] = outcome.detail or "no detail was reported"
        if after is JobStatus.SUCCEEDED:
            values["result"] = outcome.result
            trained.simulate_next(connection, job, now=now)
            connection.execute(
                delete(checkpoints).where(checkpoints.c.job_id == job.id, checkpoints.c.rolling)
            )
    change(connection, job.id, **values)
    connection.execute(
        update(attempts)
        .where(attempts.c.lease_id == job.lease_id)
        .values(
            ended_at=now,
            outcome=outcome.model_dump(mode="json"),
            status_after=after,
            lost=by_expiry,
        )
    )
    data = {
        "attempt": job.attempt,
        "stop_reason": outcome.stop_reason,
        "detail": outcome.detail,
        "retries": after is JobStatus.QUEUED and status in LEASED and lost,
    }
    record_event(connection, job.id, now, after, data)
    if after in TERMINAL:
        announce(connection, job, after, now=now)
    return after
