"""A job goes from one status to another: row, event and webhook together, and here alone."""

from typing import Any

from sqlalchemy import Connection

from server.errors import IllegalMove
from server.queue.job_rows import JobRow, change, record_event
from server.queue.webhook_calls import announce
from server.wire.states import TERMINAL, JobStatus, StopReason, Trigger, next_status


def status_after(job: JobRow, trigger: Trigger, action: str) -> JobStatus:
    """Where a trigger leads.

    Args:
        action: what was asked for, for the error.

    Raises:
        IllegalMove: the job's state does not allow it.
    """
    after = next_status(JobStatus(job.status), trigger)
    if after is None:
        raise IllegalMove(job.id, job.status, action)
    return after


def move(
    connection: Connection,
    job: JobRow,
    after: JobStatus,
    *,
    now: float,
    stop_reason: StopReason | None = None,
    event: dict[str, Any] | None = None,
    **values: Any,
) -> JobStatus:
    """Give a job another status. One that is over has an end, a reason, and a webhook to call.

    Args:
        stop_reason: why it ended, where it did.
        event: what its event tells, besides the status.
        values: other columns of its row.
    """
    is_over = after in TERMINAL
    if is_over:
        values |= {"stop_reason": stop_reason, "finished_at": now}
    change(connection, job.id, status=after, **values)
    record_event(connection, job.id, now, after, event or {})
    if is_over:
        announce(connection, job, after, now=now)
    return after
