"""A new job made from one that is over."""

from pydantic import ValidationError
from sqlalchemy import Connection, select

from nbody.config import Config
from nbody.config.field_marks import Mark, fields_with
from server.database.tables import checkpoints
from server.errors import FieldProblem, IllegalMove, InvalidRequest
from server.queue.job_rows import JobRow, record_event
from server.queue.limits import Limits
from server.queue.steppers import users_checkpoints
from server.queue.submission import submit
from server.wire.jobs import JobSubmission, RetryRequest
from server.wire.kinds import KINDS, UPLOAD
from server.wire.states import TERMINAL, JobStatus

TRIAL_LABELS = "sweep", "trial"
CHANGEABLE_ON_THE_WAY = fields_with(Mark.CHANGEABLE, Config)


def retry(
    connection: Connection,
    job: JobRow,
    request: RetryRequest,
    *,
    owner_id: str,
    limits: Limits,
    now: float,
) -> str:
    """Queue a new job made from one that is over; returns its id.

    Raises:
        IllegalMove: the old job is not over. InvalidRequest: a field does not fit. LimitReached
    """
    if JobStatus(job.status) not in TERMINAL:
        raise IllegalMove(job.id, job.status, "be retried; cancel it first, or resume it")
    if job.kind == UPLOAD:
        detail = "it is an uploaded checkpoint, and nothing to run: name it as a stepper"
        raise InvalidRequest(FieldProblem("", detail))
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
                "requires": job.requires,
                "metadata": labels,
                "webhook": job.webhook,
            }
        )
    except ValidationError as error:
        raise InvalidRequest.of(error.errors()) from None
    start = request.from_checkpoint
    if not KINDS[submission.kind].trains:
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
        limits=limits,
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
    start = users_checkpoints.by_id(connection, job.id, request.from_checkpoint)
    if start is None:
        detail = f"job {job.id} has no such checkpoint"
        raise InvalidRequest(FieldProblem("/from_checkpoint", detail))
    if kept := sorted(request.config.keys() - CHANGEABLE_ON_THE_WAY.keys()):
        detail = (
            f"comes from the checkpoint; can change: {', '.join(sorted(CHANGEABLE_ON_THE_WAY))}"
        )
        raise InvalidRequest(*(FieldProblem(f"/config/{name}", detail) for name in kept))
    if start.epoch + 1 >= config.epochs:
        detail = f"the checkpoint is of epoch {start.epoch}: nothing is left; ask for more epochs"
        raise InvalidRequest(FieldProblem("/config/epochs", detail))
