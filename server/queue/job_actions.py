"""What users do to their jobs: cancel, pause, resume, change, delete.

Every function takes a connection inside a transaction of the writer and changes state and event log
together. Nothing here knows of HTTP.
"""

from typing import Any

from sqlalchemy import Connection, delete, select

from server.database.tables import checkpoints, jobs
from server.errors import Conflict, FieldProblem, IllegalMove, InvalidRequest
from server.queue.fair_turns import next_turn
from server.queue.job_rows import JobRow, change, record_event
from server.queue.limits import check_queue
from server.queue.transitions import Trigger, move, status_after
from server.wire.jobs import JobChange
from server.wire.states import TERMINAL, JobStatus, StopReason

MOST_LABELS = 32


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
    after = status_after(job, Trigger.CANCEL, "be cancelled")
    return move(
        connection, job, after, now=now, stop_reason=StopReason.USER, cancel_grace_s=grace_s
    )


def pause(connection: Connection, job: JobRow, *, now: float) -> JobStatus:
    """Ask for a job to be paused; idempotent while it is being paused, and after.

    Raises:
        IllegalMove: it is over, or being cancelled.
    """
    status = JobStatus(job.status)
    if status in {JobStatus.PAUSED, JobStatus.PAUSING}:
        return status
    return move(connection, job, status_after(job, Trigger.PAUSE, "be paused"), now=now)


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
    after = status_after(job, Trigger.RESUME, "be resumed")
    turn = next_turn(connection, job.owner_id, job.queue_rank)
    return move(connection, job, after, now=now, queue_turn=turn)


def amend(connection: Connection, job: JobRow, changes: JobChange, *, now: float) -> None:
    """Change name, notes, priority or labels.

    Raises:
        IllegalMove: the priority of a job that is over.
    """
    given = changes.model_dump(exclude_none=True)
    if "priority" in given and JobStatus(job.status) in TERMINAL:
        raise IllegalMove(job.id, job.status, "get another priority")
    values: dict[str, Any] = {}
    values |= {key: given[key] for key in ("name", "notes") if key in given}
    if given.keys() & {"metadata", "add_metadata", "remove_metadata"}:
        values["labels"] = _labels_after(job.labels, changes)
    if "priority" in given:
        values["queue_rank"] = -given["priority"]
    values = {key: value for key, value in values.items() if value != getattr(job, key)}
    if "queue_rank" in values:
        values["queue_turn"] = next_turn(connection, job.owner_id, values["queue_rank"])
    if values:
        change(connection, job.id, **values)
        told = given | ({"notes": f"{len(given['notes'])} characters"} if "notes" in given else {})
        record_event(connection, job.id, now, "changed", told)


def _labels_after(labels: dict[str, str], changes: JobChange) -> dict[str, str]:
    """A job's labels after a change.

    Raises:
        InvalidRequest: there would be too many.
    """
    kept = labels if changes.metadata is None else changes.metadata
    gone = set(changes.remove_metadata or ())
    after = {key: text for key, text in kept.items() if key not in gone}
    after |= changes.add_metadata or {}
    if len(after) > MOST_LABELS:
        detail = f"a job has at most {MOST_LABELS} labels, and would have {len(after)}"
        raise InvalidRequest(FieldProblem("/add_metadata", detail))
    return after


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
