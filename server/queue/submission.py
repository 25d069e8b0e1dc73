"""A job enters the queue.

What changes state takes a connection inside a transaction of the writer, and changes state and
event log together. Nothing here knows of HTTP.
"""

import json

from sqlalchemy import Connection, insert

from nbody.config.size import estimate, remarks
from server.database.ids import new_id
from server.database.tables import jobs
from server.queue.fair_turns import next_turn
from server.queue.files.initial_conditions import check_may_use
from server.queue.job_rows import record_event
from server.queue.limits import NO_LIMITS, Limits, check_limits
from server.wire.jobs import JobSubmission
from server.wire.kinds import KINDS
from server.wire.states import JobStatus

ROW_BYTES = 1000  # of a job's row, without what its user wrote


def submit(
    connection: Connection,
    submission: JobSubmission,
    *,
    owner_id: str,
    now: float,
    limits: Limits = NO_LIMITS,
    retry_of: str | None = None,
    from_checkpoint: str | None = None,
    parent: str | None = None,
) -> str:
    """Queue a job. Returns its id.

    Args:
        limits: of the owner.
        parent: the job or the sweep that makes this one.

    Raises:
        LimitReached
        InvalidRequest: it begins with a file that is not there, or is another user's.
    """
    check_limits(connection, owner_id, limits)
    config = submission.config
    whole = config.model_dump(mode="json")
    check_may_use(connection, whole, owner_id)
    check_may_use(connection, submission.simulate or {}, owner_id, "/simulate")
    trains = KINDS[submission.kind].trains
    noted = warnings_of(submission)
    job_id = new_id("job")
    told = (whole, submission.metadata, submission.simulate, noted)
    connection.execute(
        insert(jobs).values(
            id=job_id,
            version=1,
            name=submission.name or config.save_name,
            kind=submission.kind,
            status=JobStatus.QUEUED,
            owner_id=owner_id,
            queue_rank=-submission.priority,
            queue_turn=next_turn(connection, owner_id, -submission.priority),
            retry_of=retry_of,
            from_checkpoint=from_checkpoint,
            simulate=submission.simulate,
            parent=parent,
            webhook=submission.webhook,
            max_runtime_s=submission.max_runtime_s,
            max_attempts=submission.max_attempts,
            requires=submission.requires.model_dump(exclude_defaults=True),
            gpu_bytes=submission.requires.gpu_bytes,
            needs=json.dumps(submission.requires.needed_labels),
            failures=0,
            attempt=0,
            config=whole,
            device=device_of(submission),
            memory_bytes=memory_bytes_of(submission),
            base_bytes=ROW_BYTES + sum(len(json.dumps(part)) for part in told),
            labels=submission.metadata,
            warnings=noted,
            epochs_total=config.epochs if trains else 0,
            epochs_done=0,
            log_bytes=0,
            created_at=now,
        )
    )
    data = {"warnings": noted, "retry_of": retry_of, "from_checkpoint": from_checkpoint}
    record_event(connection, job_id, now, "submitted", data)
    return job_id


def device_of(submission: JobSubmission) -> str:
    """Auto, cpu or cuda: workers choose among their GPUs themselves."""
    return submission.config.device.partition(":")[0]


def memory_bytes_of(submission: JobSubmission) -> int:
    """What a worker must have for the job, 0 where nobody knows."""
    return estimate(submission.config).memory_bytes if KINDS[submission.kind].trains else 0


def warnings_of(submission: JobSubmission) -> list[str]:
    """What whoever submits a job should know before it runs."""
    config = submission.config
    if not KINDS[submission.kind].trains:
        return config.doubts()
    found = [*config.warnings(), *remarks(config)]
    if config.device.startswith("cuda:"):
        found.append(
            f"device {config.device}: a worker shows each job one GPU of its own, whose number in "
            "the job is 0; 'cuda' and 'auto' take it"
        )
    return found
