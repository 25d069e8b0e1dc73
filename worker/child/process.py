"""The process of one attempt of one job: physics in, spool records out, no network.

It is forked from a server process that has torch imported already, leads its own session, and dies
with its parent. SIGTERM asks it to finish the epoch, write a checkpoint and leave.
"""

import contextlib
import ctypes
import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nbody.config import Config
from nbody.confined_path import PathEscapes, confined
from nbody.device import Threads, set_process_switches
from nbody.errors import (
    CheckpointUnreadable,
    CompilerFailed,
    CompilerMissing,
    DeviceUnavailable,
    InvalidInitialConditions,
    NotCompilable,
    NothingKeepsTheError,
    SimulationImpossible,
    StepImpossible,
    TrainingDiverged,
)
from server.wire.jobs import OF_A_JOB
from server.wire.states import StopReason
from server.wire.workers import Assignment
from worker.child import gpu
from worker.child.advise_job import advise_job
from worker.child.export_job import export_job
from worker.child.lifeline import hold_on
from worker.child.out_of_memory import is_out_of_memory
from worker.child.stepper_jobs import evaluate_job, simulate_job
from worker.child.train import train_job
from worker.child.watcher import ChildWatcher, StopRequested
from worker.spool import ProgressFile, SpoolWriter
from worker.workplace import EXIT_DISK_FULL, SMALLER, GpuPlace, Workplace

INVALID = (
    InvalidInitialConditions,
    SimulationImpossible,
    StepImpossible,
    DeviceUnavailable,
    CheckpointUnreadable,
    NotCompilable,
    NothingKeepsTheError,
    CompilerMissing,
    CompilerFailed,
    ValidationError,
)
PR_SET_PDEATHSIG = 1
TASKS = {
    "train": train_job,
    "simulate": simulate_job,
    "evaluate": evaluate_job,
    "export": export_job,
    "advise": advise_job,
}


def run(workplace: Workplace, pulse: Connection) -> None:
    """Entry point of the process: do the job, and turn how it ended into an outcome record.

    Args:
        pulse: the agent's signs of life.
    """
    _become_own_session(workplace.parent)
    hold_on(pulse, workplace.patience_s)
    state = Path(workplace.state)
    _redirect_output(state / "output.log")
    watcher = ChildWatcher(ProgressFile(state / "progress"))
    signal.signal(signal.SIGTERM, watcher.ask_to_stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gpu.choose(workplace.gpu)
    spool = SpoolWriter(state / "spool.jsonl")
    assignment = on_the_gpu_shown(
        Assignment.model_validate_json(workplace.assignment), workplace.gpu
    )
    watcher.threads = Threads.for_run(assignment.config, workplace.threads)
    set_process_switches(assignment.config)
    data = Path(workplace.data)

    def task() -> dict[str, Any]:
        refuse_files_of_jobs(assignment.config, data)
        gpu.hold_to(workplace.gpu, assignment.config.device)
        return TASKS[assignment.kind](assignment, data, spool, watcher)

    outcome = ended(task)
    try:
        spool.append("outcome", outcome)
    except OSError as error:
        sys.exit(EXIT_DISK_FULL if error.errno == errno.ENOSPC else 1)


def ended(task: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The outcome of a task, however it ended; into the log goes what somebody may look for."""
    try:
        return task()
    except StopRequested as request:
        print("ended as it was asked to, within an epoch: it goes on from the last checkpoint")
        return outcome_of(request)
    except Exception as error:  # noqa: BLE001 - the one place where a run becomes its outcome
        traceback.print_exc()
        return outcome_of(error)


def on_the_gpu_shown(assignment: Assignment, place: GpuPlace | None) -> Assignment:
    """A job that names a GPU by its number, on a worker that shows each job one of its own."""
    device = assignment.config.device
    if place is None or not device.startswith("cuda:"):
        return assignment
    print(f"device {device}: this worker shows the job one GPU, which is cuda", flush=True)
    config = assignment.config.model_copy(update={"device": "cuda"})
    return assignment.model_copy(update={"config": config})


def refuse_files_of_jobs(config: Config, data: Path) -> None:
    """Initial conditions are the user's own file, also where a link leads to another one.

    Raises:
        InvalidInitialConditions
    """
    with contextlib.suppress(PathEscapes):  # which is told where the file is read
        path = confined(data, config.ic_path or "")
        if OF_A_JOB.search(path.relative_to(data.resolve()).as_posix()):
            raise InvalidInitialConditions(
                "ic_path leads into the folder of a job, maybe another's"
            )


def outcome_of(error: Exception) -> dict[str, Any]:
    """What an exception that ended a run means for its job."""
    reason, detail = StopReason.ERROR, f"{type(error).__name__}: {error}"
    if isinstance(error, StopRequested):
        return {"status": "stopped", "stop_reason": StopReason.USER}
    if isinstance(error, TrainingDiverged):
        reason, detail = StopReason.DIVERGED, str(error)
    elif isinstance(error, INVALID):
        reason, detail = StopReason.INVALID_CONFIG, str(error)
    elif is_out_of_memory(error):
        reason = StopReason.OOM
        detail = f"out of memory: {error}; {SMALLER}"
        if trouble := gpu.memory_of_others():
            reason, detail = trouble.reason, f"{trouble} ({error})"
    elif trouble := gpu.trouble_behind(error):
        reason, detail = trouble.reason, str(trouble)
    elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
        reason = StopReason.DISK_FULL
        detail = "the disk of the data folder is full; free some space and retry"
    return {"status": "failed", "stop_reason": reason, "detail": detail[:4000]}


def _become_own_session(agent: int) -> None:
    """Own process group, so that all of it can be killed; dies with the fork server, as it dies
    with the agent."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        os.kill(agent, 0)
    except ProcessLookupError:
        sys.exit(1)


def _redirect_output(path: Path) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
