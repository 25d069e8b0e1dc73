"""The states of a job, and the reasons why one ends."""

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
    GPU_LOST = "gpu_lost"
    GPU_FAULT = "gpu_fault"
    DRIVER_MISMATCH = "driver_mismatch"
    GPU_MEMORY_TAKEN = "gpu_memory_taken"
    INVALID_CONFIG = "invalid_config"
    ERROR = "error"


OF_A_GPU = frozenset(  # of the host, not of the job: another worker may do it
    {
        StopReason.GPU_LOST,
        StopReason.GPU_FAULT,
        StopReason.DRIVER_MISMATCH,
        StopReason.GPU_MEMORY_TAKEN,
    }
)
LEASED = frozenset({JobStatus.RUNNING, JobStatus.PAUSING, JobStatus.CANCELLING})
TERMINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})
