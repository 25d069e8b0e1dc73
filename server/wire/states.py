"""The states of a job, and who may move it from one to another. All of it is data."""

from enum import StrEnum


class JobStatus(StrEnum):
    """Where a job is."""

    QUEUED = "queued"  # waits for a worker
    RUNNING = "running"  # a worker holds its lease
    PAUSING = "pausing"  # still leased; the worker was told to stop and keep the state
    PAUSED = "paused"  # stopped by its user, to be resumed
    CANCELLING = "cancelling"  # still leased; the worker was told to stop
    CANCELLED = "cancelled"  # stopped by its user, for good
    SUCCEEDED = "succeeded"  # every epoch is done
    FAILED = "failed"  # ended without finishing; stop_reason says why


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


class StopReason(StrEnum):
    """Why a job or an attempt ended."""

    COMPLETED = "completed"
    MAX_RUNTIME = "max_runtime"
    USER = "user"
    STALLED = "stalled"
    WORKER_LOST = "worker_lost"
    OOM = "oom"
    DIVERGED = "diverged"
    DISK_FULL = "disk_full"
    INVALID_CONFIG = "invalid_config"
    ERROR = "error"


S, T = JobStatus, Trigger

LEASED = frozenset({S.RUNNING, S.PAUSING, S.CANCELLING})
TERMINAL = frozenset({S.SUCCEEDED, S.FAILED, S.CANCELLED})
# Failures that another attempt, from the last checkpoint, may survive.
RETRYABLE = frozenset({StopReason.WORKER_LOST, StopReason.STALLED})

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
