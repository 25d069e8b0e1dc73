"""Which status a job may go to from which, by what; and its move there, here alone.

A move writes row, event and webhook together.
"""

from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, insert

from server.database.ids import new_id
from server.database.tables import deliveries
from server.errors import IllegalMove
from server.queue.job_rows import JobRow, change, record_event
from server.wire.states import LEASED, TERMINAL, JobStatus, StopReason


class Trigger(StrEnum):
    """What moves a job."""

    CLAIM = "claim"  # a worker takes it
    CANCEL = "cancel"  # its user
    PAUSE = "pause"  # its user
    RESUME = "resume"  # its user
    SUCCEED = "succeed"  # the lease holder: done
    FAIL = "fail"  # the lease holder: cannot be done
    STOPPED = "stopped"  # the lease holder: the process is gone, as it was told
    LOST = "lost"  # lease expiry, or a crash that another attempt may survive
    GIVE_UP = "give_up"  # as LOST, with no attempts left


S, T = JobStatus, Trigger

TRANSITIONS: dict[tuple[JobStatus, Trigger], JobStatus] = {
    (S.QUEUED, T.CLAIM): S.RUNNING,
    (S.QUEUED, T.PAUSE): S.PAUSED,
    (S.QUEUED, T.CANCEL): S.CANCELLED,
    (S.PAUSED, T.RESUME): S.QUEUED,
    (S.PAUSED, T.CANCEL): S.CANCELLED,
    (S.RUNNING, T.PAUSE): S.PAUSING,
    (S.RUNNING, T.CANCEL): S.CANCELLING,
    (S.PAUSING, T.CANCEL): S.CANCELLING,
    **{(leased, T.SUCCEED): S.SUCCEEDED for leased in LEASED},
    **{(leased, T.FAIL): S.FAILED for leased in LEASED},
    (S.RUNNING, T.STOPPED): S.QUEUED,  # the worker itself was told to stop
    (S.PAUSING, T.STOPPED): S.PAUSED,
    (S.CANCELLING, T.STOPPED): S.CANCELLED,
    (S.RUNNING, T.LOST): S.QUEUED,
    (S.RUNNING, T.GIVE_UP): S.FAILED,
    **{(S.PAUSING, lost): S.PAUSED for lost in (T.LOST, T.GIVE_UP)},
    **{(S.CANCELLING, lost): S.CANCELLED for lost in (T.LOST, T.GIVE_UP)},
}


def next_status(status: JobStatus, trigger: Trigger) -> JobStatus | None:
    """The status that a trigger leads to, or None where the table has no such move."""
    return TRANSITIONS.get((status, trigger))


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
        event: what its event tells, besides the status and the last epoch.
        values: other columns of its row.
    """
    is_over = after in TERMINAL
    if is_over:
        values |= {"stop_reason": stop_reason, "finished_at": now}
    change(connection, job.id, status=after, **values)
    told = {"epoch": job.epochs_done - 1} if job.epochs_done else {}
    record_event(connection, job.id, now, after, told | (event or {}))
    if is_over:
        _announce(connection, job, after, now=now)
    return after


def _announce(connection: Connection, job: JobRow, status: JobStatus, *, now: float) -> None:
    """Note that a job is over, for the call that its user asked for."""
    if job.webhook is not None:
        connection.execute(
            insert(deliveries).values(
                id=new_id("msg"),
                job_id=job.id,
                url=job.webhook,
                type=f"job.{status}",
                at=now,
                tries=0,
                next_at=now,
            )
        )
