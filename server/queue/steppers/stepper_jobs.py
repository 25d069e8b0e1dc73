"""Jobs that use a trained stepper: what is asked for, over the config of its training.

Every function takes a connection inside a transaction. Nothing here knows of HTTP.
"""

from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, select

from nbody.config import Config
from nbody.config.field_marks import Mark, fields_with
from nbody.config.populations import with_changes
from nbody.config.stepping_rules import STEPPING_RULES, rule_with_stepper
from server.database.tables import jobs
from server.errors import FieldProblem, InvalidRequest
from server.queue.files.initial_conditions import check_may_use
from server.queue.job_rows import JobRow, record_event
from server.queue.ownership import may_see
from server.queue.steppers import users_checkpoints
from server.queue.submission import submit
from server.wire.jobs import JobSubmission, Requirements, StepperChoice, check_new
from server.wire.kinds import KINDS, JobKind

# How epochs start: no matter to a single run, and refused where the system is another one.
WITHOUT_TRAINING = fields_with(Mark.OF_TRAINING_ALONE, Config)
INTEGRATOR = Config.model_fields["integrator"].default  # of a training before there were others


def resolve(
    connection: Connection, submission: JobSubmission, owner_id: str | None
) -> tuple[JobSubmission, str | None]:
    """The submission with every field of its config, and the checkpoint that it needs.

    Args:
        owner_id: whose jobs the stepper may be of; None means anyone's.

    Raises:
        InvalidRequest
    """
    kind = KINDS[submission.kind]
    if kind.trains:
        _check_training(submission)
        return submission, None
    if submission.simulate is not None:
        raise InvalidRequest(FieldProblem("/simulate", "goes with kind train; put it in config"))
    for field in kind.needs:
        if getattr(submission.config, field) is None:
            detail = f"a job of kind {submission.kind} needs it"
            raise InvalidRequest(FieldProblem(f"/config/{field}", detail))
    given = submission.config.model_dump(mode="json", include=submission.config.model_fields_set)
    if submission.stepper is None:
        rule = STEPPING_RULES[submission.config.integrator_mode]
        if "required" in (kind.stepper, rule.stepper):
            detail = "say which: the id of a job with checkpoints"
            raise InvalidRequest(FieldProblem("/stepper", detail))
        return submission, None
    checkpoint, trained_with = _find(connection, submission.stepper, owner_id)
    config = _over(trained_with, given, submission.kind, "/config")
    _check_device(submission.requires, config, "/requires")
    return submission.model_copy(update={"config": config}), checkpoint


def simulate_next(connection: Connection, job: JobRow, *, now: float) -> None:
    """Queue the simulation that a training job asked for, with its last checkpoint."""
    if job.simulate is None:
        return
    last = users_checkpoints.last(connection, job.id)
    if last is None:
        return
    requires = Requirements.model_validate(job.requires)
    try:
        config = _over(job.config, job.simulate, "simulate", "/simulate")
        _check_device(requires, config, "/simulate/device")
        check_may_use(connection, config.model_dump(), job.owner_id, "/simulate")
    except InvalidRequest as error:  # of an earlier release's rules, or without its file
        record_event(connection, job.id, now, "simulates_not", {"detail": error.detail})
        return
    submission = JobSubmission(
        name=job.name,
        kind="simulate",
        config=config,
        priority=-job.queue_rank,
        max_runtime_s=job.max_runtime_s,
        max_attempts=job.max_attempts,
        requires=requires,
        metadata=job.labels,
        webhook=job.webhook,
    )
    child = submit(
        connection,
        submission,
        owner_id=job.owner_id,
        now=now,
        from_checkpoint=last.id,
        parent=job.id,
    )
    record_event(connection, job.id, now, "simulates", {"as": child})


def _check_training(submission: JobSubmission) -> None:
    if submission.stepper is not None:
        detail = "is of simulate and evaluate; to go on from a checkpoint, retry its job"
        raise InvalidRequest(FieldProblem("/stepper", detail))
    if submission.simulate is not None:
        config = submission.config.model_dump(mode="json")
        simulated = _over(config, submission.simulate, "simulate", "/simulate")
        _check_device(submission.requires, simulated, "/simulate/device")


def _check_device(requires: Requirements, config: Config, pointer: str) -> None:
    try:
        requires.check(config)
    except ValueError:
        detail = "the job asks for a GPU (requires), and here device is cpu"
        raise InvalidRequest(FieldProblem(pointer, detail)) from None


def _over(base: dict[str, Any], given: dict[str, Any], kind: JobKind, pointer: str) -> Config:
    """A config with fields replaced; where the systems are of another kind, all that say what they
    are. Who simulates with a stepper means to step with it.
    """
    fields = with_changes({**base, **WITHOUT_TRAINING}, given)
    steps_by_rule = KINDS[kind].stepper == "optional"
    if steps_by_rule and "integrator_mode" not in given:
        fields["integrator_mode"] = rule_with_stepper(
            fields.get("history_len", 0), fields.get("integrator", INTEGRATOR)
        )
    try:
        config = Config.model_validate(fields)
    except ValidationError as error:
        raise InvalidRequest.of(error.errors(), pointer) from None
    if (problem := _why_refused(config)) is not None:
        raise InvalidRequest(FieldProblem(pointer, problem))
    if config.integrator != (trained := base.get("integrator", INTEGRATOR)):
        detail = f"the stepper was trained for the steps of {trained}"
        raise InvalidRequest(FieldProblem(f"{pointer}/integrator", detail))
    needed = STEPPING_RULES[config.integrator_mode].field
    if steps_by_rule and needed is not None and getattr(config, needed) is None:
        detail = f"the rule {config.integrator_mode!r} needs it"
        raise InvalidRequest(FieldProblem(f"{pointer}/{needed}", detail))
    return config


def _why_refused(config: Config) -> str | None:
    """Why a new job may not have this config."""
    try:
        check_new(config)
    except ValidationError as error:
        return error.errors()[0]["msg"].removeprefix("Value error, ")
    except ValueError as error:
        return str(error)
    return None


def _find(
    connection: Connection, choice: StepperChoice, owner_id: str | None
) -> tuple[str, dict[str, Any]]:
    """The checkpoint that was chosen, and the config that it was trained with."""
    job = connection.execute(
        select(jobs.c.kind, jobs.c.config, jobs.c.owner_id).where(jobs.c.id == choice.job)
    ).first()
    if job is None or not may_see(owner_id, job.owner_id):
        raise InvalidRequest(FieldProblem("/stepper/job", "there is no such job"))
    if choice.epoch == "best":
        found = users_checkpoints.best(connection, choice.job)
    elif choice.epoch is None:
        found = users_checkpoints.last(connection, choice.job)
    else:
        found = users_checkpoints.of_epoch(connection, choice.job, choice.epoch)
    if found is None:
        named = isinstance(choice.epoch, int)
        which = "no checkpoint of that epoch" if named else "no checkpoint yet"
        raise InvalidRequest(FieldProblem("/stepper", f"job {choice.job} has {which}"))
    return found.id, job.config
