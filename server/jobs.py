"""What users do to jobs: submit, retry, cancel, pause, resume, change, delete.

Every function takes a connection inside a transaction of the writer and changes state and event log
together. Nothing here knows of HTTP.
"""

from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, delete, insert, select

from nbody.config import Config
from server.errors import Conflict, FieldProblem, IllegalMove, InvalidRequest
from server.ids import new_id
from server.job_rows import JobRow, change, record_event
from server.limits import check_queue
from server.schemas import JobChange, JobSubmission, RetryRequest
from server.states import TERMINAL, JobStatus, StopReason, Trigger, next_status
from server.tables import checkpoints, jobs
from server.webhooks import announce

# Fields that take effect in a run that goes on from a checkpoint; the others are in the checkpoint.
TRIAL_LABELS = "sweep", "trial"
CHANGEABLE_ON_THE_WAY = frozenset(
    (
        "epochs",
        "lr",
        "lr_schedule",
        "steps_per_epoch",
        "replay_steps",
        "replay_batch_size",
        "min_replay_size",
        "max_retrain_steps",
        "loss",
        "oracle_quantile",
        "E_lower",
        "E_upper",
        "min_efficiency",
        "energy_threshold",
        "checkpoint_every",
        "evaluation_orbits",
        "save_name",
        "wandb",
        "wandb_project",
        "wandb_name",
        "debug",
        "device",
        "compile",
        "tf32",
        "detect_anomaly",
        "extra",
    )
)


def submit(
    connection: Connection,
    submission: JobSubmission,
    *,
    owner_id: str,
    now: float,
    most_queued: int = 0,
    retry_of: str | None = None,
    from_checkpoint: str | None = None,
    parent: str | None = None,
) -> str:
    """Queue a job. Returns its id.

    Args:
        most_queued: jobs of an owner that may wait; 0 means no limit.
        parent: the job or the sweep that makes this one.

    Raises:
        LimitReached
    """
    check_queue(connection, owner_id, most_queued)
    config = submission.config
    noted = config.warnings() if submission.kind == "train" else []
    job_id = new_id("job")
    connection.execute(
        insert(jobs).values(
            id=job_id,
            version=1,
            name=submission.name or config.save_name,
            kind=submission.kind,
            status=JobStatus.QUEUED,
            owner_id=owner_id,
            queue_rank=-submission.priority,
            retry_of=retry_of,
            from_checkpoint=from_checkpoint,
            simulate=submission.simulate,
            parent=parent,
            webhook=submission.webhook,
            max_runtime_s=submission.max_runtime_s,
            max_attempts=submission.max_attempts,
            failures=0,
            attempt=0,
            config=config.model_dump(mode="json"),
            labels=submission.metadata,
            warnings=noted,
            epochs_total=config.epochs if submission.kind == "train" else 0,
            epochs_done=0,
            log_bytes=0,
            created_at=now,
        )
    )
    data = {"warnings": noted, "retry_of": retry_of, "from_checkpoint": from_checkpoint}
    record_event(connection, job_id, now, "submitted", data)
    return job_id


def retry(
    connection: Connection,
    job: JobRow,
    request: RetryRequest,
    *,
    owner_id: str,
    most_queued: int,
    now: float,
) -> str:
    """Queue a new job made from one that is over; returns its id.

    Raises:
        IllegalMove: the old job is not over. InvalidRequest: a field does not fit. LimitReached
    """
    if JobStatus(job.status) not in TERMINAL:
        raise IllegalMove(job.id, job.status, "be retried; cancel it first, or resume it")
    of_sweep = (job.parent or "").startswith("sweep_")  # the retry is a job of its own
    labels = {k: v for k, v in job.labels.items() if not (of_sweep and k in TRIAL_LABELS)}
    try:
        submission = JobSubmission.model_validate(
            {
                "name": request.name or job.name,
                "kind": job.kind,
                "simulate": job.simulate,
                "config": {**job.config, **request.config},
                "priority": -job.queue_rank,
                "max_runtime_s": job.max_runtime_s,
                "max_attempts": job.max_attempts,
                "metadata": labels,
                "webhook": job.webhook,
            }
        )
    except ValidationError as error:
        raise InvalidRequest.of(error.errors()) from None
    start = request.from_checkpoint
    if job.kind != "train":
        if start is not None:
            raise InvalidRequest(
                FieldProblem("/from_checkpoint", f"is of training, not {job.kind}")
            )
        start = job.from_checkpoint
        if start is not None and not _exists(connection, start):
            detail = f"the stepper of job {job.id} is gone; submit a new job with another one"
            raise InvalidRequest(FieldProblem("/stepper", detail))
    elif start is not None:
        _check_start(connection, job, request, submission.config)
    new_job = submit(
        connection,
        submission,
        owner_id=owner_id,
        now=now,
        most_queued=most_queued,
        retry_of=job.id,
        from_checkpoint=start,
        parent=None if of_sweep else job.parent,
    )
    record_event(connection, job.id, now, "retried", {"as": new_job})
    return new_job


def _exists(connection: Connection, checkpoint_id: str) -> bool:
    query = select(checkpoints.c.id).where(checkpoints.c.id == checkpoint_id)
    return connection.execute(query).first() is not None


def _check_start(
    connection: Connection, job: JobRow, request: RetryRequest, config: Config
) -> None:
    """Whether a job can go on from a checkpoint of an old one, with fields replaced."""
    epoch = connection.execute(
        select(checkpoints.c.epoch).where(
            checkpoints.c.id == request.from_checkpoint,
            checkpoints.c.job_id == job.id,
            checkpoints.c.rolling.is_(False),
        )
    ).scalar_one_or_none()
    if epoch is None:
        detail = f"job {job.id} has no such checkpoint"
        raise InvalidRequest(FieldProblem("/from_checkpoint", detail))
    if kept := sorted(request.config.keys() - CHANGEABLE_ON_THE_WAY):
        detail = (
            f"comes from the checkpoint; can change: {', '.join(sorted(CHANGEABLE_ON_THE_WAY))}"
        )
        raise InvalidRequest(*(FieldProblem(f"/config/{name}", detail) for name in kept))
    if epoch + 1 >= config.epochs:
        detail = f"the checkpoint is of epoch {epoch}: nothing is left; ask for more epochs"
        raise InvalidRequest(FieldProblem("/config/epochs", detail))


def cancel(connection: Connection, job: JobRow, grace_s: float, *, now: float) -> JobStatus:
    """Ask for a job to be cancelled; idempotent while it is being cancelled, and after.

    Raises:
        IllegalMove: it is already over in another way.
    """
    status = JobStatus(job.status)
    if status in {JobStatus.CANCELLED, JobStatus.CANCELLING}:
        if status is JobStatus.CANCELLING and grace_s < (job.cancel_grace_s or 0):
            change(connection, job.id, cancel_grace_s=grace_s)
        return status
    after = next_status(status, Trigger.CANCEL)
    if after is None:
        raise IllegalMove(job.id, status, "be cancelled")
    ended: dict[str, Any] = {}
    if after is JobStatus.CANCELLED:
        ended = {"stop_reason": StopReason.USER, "finished_at": now}
    change(connection, job.id, status=after, cancel_grace_s=grace_s, **ended)
    record_event(connection, job.id, now, after, {})
    if after in TERMINAL:
        announce(connection, job, after, now=now)
    return after


def pause(connection: Connection, job: JobRow, *, now: float) -> JobStatus:
    """Ask for a job to be paused; idempotent while it is being paused, and after.

    Raises:
        IllegalMove: it is over, or being cancelled.
    """
    status = JobStatus(job.status)
    if status in {JobStatus.PAUSED, JobStatus.PAUSING}:
        return status
    return _move(connection, job, Trigger.PAUSE, "be paused", now=now)


def resume(connection: Connection, job: JobRow, *, now: float, most_queued: int = 0) -> JobStatus:
    """Put a paused job back in the queue; idempotent while it waits or runs.

    Raises:
        IllegalMove: it is over, or still being paused or cancelled. LimitReached
    """
    status = JobStatus(job.status)
    if status in {JobStatus.QUEUED, JobStatus.RUNNING}:
        return status
    if status is JobStatus.PAUSED:
        check_queue(connection, job.owner_id, most_queued)
    return _move(connection, job, Trigger.RESUME, "be resumed", now=now)


def amend(connection: Connection, job: JobRow, changes: JobChange, *, now: float) -> None:
    """Change name, priority or labels.

    Raises:
        IllegalMove: the priority of a job that is over.
    """
    given = changes.model_dump(exclude_none=True)
    if "priority" in given and JobStatus(job.status) in TERMINAL:
        raise IllegalMove(job.id, job.status, "get another priority")
    values: dict[str, Any] = {}
    if "name" in given:
        values["name"] = given["name"]
    if "metadata" in given:
        values["labels"] = given["metadata"]
    if "priority" in given:
        values["queue_rank"] = -given["priority"]
    values = {key: value for key, value in values.items() if value != getattr(job, key)}
    if values:
        change(connection, job.id, **values)
        record_event(connection, job.id, now, "changed", given)


def remove(connection: Connection, job: JobRow) -> None:
    """Delete a job that is over, with all its rows.

    Raises:
        IllegalMove: it is not over. Conflict: another job still needs one of its checkpoints.
    """
    if JobStatus(job.status) not in TERMINAL:
        raise IllegalMove(job.id, job.status, "be deleted; cancel it first")
    heir = connection.execute(
        select(jobs.c.id)
        .join(checkpoints, jobs.c.from_checkpoint == checkpoints.c.id)
        .where(checkpoints.c.job_id == job.id, jobs.c.status.not_in(TERMINAL))
        .limit(1)
    ).scalar_one_or_none()
    if heir is not None:
        raise Conflict(f"Job {heir} began at a checkpoint of job {job.id} and still needs it.")
    connection.execute(delete(jobs).where(jobs.c.id == job.id))


def _move(
    connection: Connection, job: JobRow, trigger: Trigger, action: str, *, now: float
) -> JobStatus:
    """Move a job as its user asks."""
    after = next_status(JobStatus(job.status), trigger)
    if after is None:
        raise IllegalMove(job.id, job.status, action)
    change(connection, job.id, status=after)
    record_event(connection, job.id, now, after, {})
    return after
