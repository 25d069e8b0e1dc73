"""How an attempt ends, and with it, perhaps, its job.

Every function takes a connection inside a transaction of the writer and changes state and event log
together. Nothing here knows of HTTP.
"""

import json
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from server import steady_clock
from server.database.tables import attempts, checkpoints, epochs, jobs, workers
from server.errors import LeaseLost, ReportConflict
from server.queue import job_rows
from server.queue.fair_turns import HAD_TURN
from server.queue.job_rows import JobRow
from server.queue.steppers import stepper_jobs
from server.queue.transitions import Trigger, move, status_after
from server.wire.kinds import KINDS
from server.wire.states import OF_A_GPU, JobStatus, StopReason
from server.wire.workers import Outcome

# Failures that another attempt, from the last checkpoint, may survive.
RETRYABLE = frozenset({StopReason.WORKER_LOST, StopReason.STALLED}) | OF_A_GPU
LAST_EPOCHS = 5  # that tell how long the next one takes


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
        missing = _missing_epochs(connection, job)
        if missing > 0:
            lacking = _unfinished(missing)
            return _end_attempt(connection, job, _loss(job), lacking, now=now, told=outcome)
        trigger = Trigger.SUCCEED
    elif outcome.status == "stopped":
        trigger = Trigger.STOPPED
    elif outcome.stop_reason in RETRYABLE:
        trigger = _loss(job)
    else:
        trigger = Trigger.FAIL
    return _end_attempt(connection, job, trigger, outcome, now=now)


def _missing_epochs(connection: Connection, job: JobRow) -> int:
    """How many epochs of a training are not on record, though its attempt says that it is done."""
    if not KINDS[job.kind].trains:
        return 0
    begun = select(func.min(attempts.c.first_epoch)).where(attempts.c.job_id == job.id)
    first = connection.execute(begun).scalar_one() or 0
    recorded = select(func.count()).select_from(epochs).where(epochs.c.job_id == job.id)
    return job.epochs_total - first - connection.execute(recorded).scalar_one()


def _unfinished(missing: int) -> Outcome:
    return Outcome(
        status="failed",
        stop_reason=StopReason.WORKER_LOST,
        detail=f"{missing} epochs are not on record (a restored database has not all of them); "
        "they are computed again from the last checkpoint that is",
    )


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


def _ran_s(connection: Connection, job: JobRow, now: float) -> float:
    """Seconds of a job's present attempt; if the machine began anew, until its worker was last
    heard of by the wall clock.
    """
    columns = attempts.c.boot_id, attempts.c.clock, attempts.c.started_at, workers.c.last_seen_at
    began = connection.execute(
        select(*columns)
        .join(workers, workers.c.id == attempts.c.worker_id)
        .where(attempts.c.lease_id == job.lease_id)
    ).one()
    ran = steady_clock.seconds_since(began.boot_id, began.clock)
    ended = now if began.last_seen_at is None else min(now, began.last_seen_at)
    return max(ended - began.started_at, 0.0) if ran is None else ran


def _epoch_s(connection: Connection, job: JobRow) -> float:
    """Seconds of the longest of a job's last epochs; 0 where none is on record."""
    times = select(epochs.c.epoch_time).where(epochs.c.job_id == job.id)
    last = times.order_by(epochs.c.epoch.desc()).limit(LAST_EPOCHS)
    return max(connection.execute(last).scalars(), default=0.0)


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
    told: Outcome | None = None,
) -> JobStatus:
    """End an attempt with what became of it; `told` is what its worker said, where that differs."""
    after = status_after(job, trigger, trigger)
    # Whoever was to pause or be cancelled is where its user wanted it: that is no failure.
    lost = trigger in {Trigger.LOST, Trigger.GIVE_UP} and job.status == JobStatus.RUNNING
    values: dict[str, Any] = {"lease_id": None, "phase": None, "failures": job.failures + int(lost)}
    if after in {JobStatus.QUEUED, JobStatus.PAUSED}:
        values["epoch_s"] = _epoch_s(connection, job)
    if after is JobStatus.QUEUED:
        values["queue_turn"] = HAD_TURN
    if after is JobStatus.FAILED:
        values["failure"] = outcome.detail or "no detail was reported"
    if after is JobStatus.SUCCEEDED:
        values["result"] = outcome.result
        values["base_bytes"] = job.base_bytes + len(json.dumps(outcome.result))
        stepper_jobs.simulate_next(connection, job, now=now)
        connection.execute(
            delete(checkpoints).where(checkpoints.c.job_id == job.id, checkpoints.c.rolling)
        )
    connection.execute(
        update(attempts)
        .where(attempts.c.lease_id == job.lease_id)
        .values(
            ended_at=now,
            ran_s=_ran_s(connection, job, now),
            outcome=(told or outcome).model_dump(mode="json"),
            status_after=after,
            lost=by_expiry,
        )
    )
    event = {
        "attempt": job.attempt,
        "stop_reason": outcome.stop_reason,
        "detail": outcome.detail,
        "retries": after is JobStatus.QUEUED and lost,
    }
    is_cancelled = after is JobStatus.CANCELLED
    reason = StopReason.USER if is_cancelled else outcome.stop_reason
    return move(connection, job, after, now=now, stop_reason=reason, event=event, **values)
