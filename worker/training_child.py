"""The process that trains one attempt of one job: physics in, spool records out, no network.

It is forked from a server process that has torch imported already, leads its own session, and dies
with its parent. SIGTERM asks it to finish the epoch, write a checkpoint and leave.
"""

import ctypes
import errno
import hashlib
import math
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from nbody.config import Config
from nbody.errors import (
    CheckpointUnreadable,
    DeviceUnavailable,
    InvalidInitialConditions,
    NBodyError,
    StepImpossible,
    TrainingDiverged,
)
from nbody.evaluation import evaluate
from nbody.stepper import Stepper
from nbody.training_run import TrainingRun
from nbody.unified_training import checkpoint_path, epochs, is_checkpoint_epoch
from nbody.watcher import Phase
from server.schemas import Assignment
from server.states import StopReason
from worker.spool import Progress, SpoolWriter
from worker.workplace import EXIT_DISK_FULL, Workplace

INVALID = (
    InvalidInitialConditions,
    StepImpossible,
    DeviceUnavailable,
    CheckpointUnreadable,
    ValidationError,
)
EPOCH_GRACE_S = 3.0  # after SIGTERM, for the epoch to end; then the process leaves without it
RESUME_INTERVAL_S = 15.0  # most training time that a crash costs
KEPT_FOR_RESUME = 2
PROGRESS_INTERVAL_S = 0.2
PR_SET_PDEATHSIG = 1


class StopRequested(Exception):
    """SIGTERM came and the epoch took too long to end."""


class ChildWatcher:
    """Tells the agent where the run is; ends it when it must leave."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._sequence, self._phase, self._told_at = 0, "starting", 0.0
        self._asked_at: float | None = None

    def ask_to_stop(self, *_: object) -> None:
        """Signal handler: leave at the end of the epoch."""
        self._asked_at = self._asked_at or time.monotonic()

    @property
    def stop_asked(self) -> bool:
        """Whether to leave."""
        return self._asked_at is not None

    def phase(self, phase: Phase) -> None:
        """The run enters a phase."""
        self._phase = phase
        self._tell()

    def tick(self) -> None:
        """The run is alive."""
        self._tell()
        if self._asked_at is not None and time.monotonic() - self._asked_at > EPOCH_GRACE_S:
            raise StopRequested

    def _tell(self) -> None:
        self._sequence += 1
        now = time.monotonic()
        if now - self._told_at >= PROGRESS_INTERVAL_S:
            self._told_at = now
            self._progress.write(self._sequence, self._phase)


def run(workplace: Workplace) -> None:
    """Entry point of the process: train, and turn how it ended into an outcome record."""
    _become_own_session(workplace.parent)
    state = Path(workplace.state)
    _redirect_output(state / "output.log")
    watcher = ChildWatcher(Progress(state / "progress"))
    signal.signal(signal.SIGTERM, watcher.ask_to_stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if workplace.visible_gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = workplace.visible_gpu
    torch.set_num_threads(workplace.threads)
    spool = SpoolWriter(state / "spool.jsonl")
    assignment = Assignment.model_validate_json(workplace.assignment)
    try:
        outcome = _train(assignment, Path(workplace.data), spool, watcher)
    except Exception as error:  # noqa: BLE001 - the one place where a run becomes its outcome
        traceback.print_exc()
        outcome = outcome_of(error)
    try:
        spool.append("outcome", outcome)
    except OSError as error:
        sys.exit(EXIT_DISK_FULL if error.errno == errno.ENOSPC else 1)


def outcome_of(error: Exception) -> dict[str, Any]:
    """What an exception that ended a run means for its job."""
    reason, detail = StopReason.ERROR, f"{type(error).__name__}: {error}"
    if isinstance(error, StopRequested):
        return {"status": "stopped", "stop_reason": StopReason.USER}
    if isinstance(error, TrainingDiverged):
        reason, detail = StopReason.DIVERGED, str(error)
    elif isinstance(error, INVALID):
        reason, detail = StopReason.INVALID_CONFIG, str(error)
    elif isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        reason = StopReason.OOM
        detail = f"out of memory: {error}; use a smaller network, batch or number of orbits"
    elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
        reason = StopReason.DISK_FULL
        detail = "the disk of the data folder is full; free some space and retry"
    elif isinstance(error, RuntimeError) and "not enough memory" in str(error):
        reason = StopReason.OOM
    return {"status": "failed", "stop_reason": reason, "detail": detail[:4000]}


def _train(
    assignment: Assignment, data: Path, spool: SpoolWriter, watcher: ChildWatcher
) -> dict[str, Any]:
    config = assignment.config
    run = _start_or_resume(assignment, data)
    folder = data / assignment.output_folder
    spool.append("begin", {"first_epoch": run.next_epoch})
    saved_at = time.monotonic()
    print(config.summary(), f"from epoch {run.next_epoch}", flush=True)
    for metrics in epochs(run, watcher):
        named = metrics.named()
        spool.append("epoch", named)
        if is_checkpoint_epoch(metrics.epoch, config.epochs, config.checkpoint_every):
            watcher.phase("checkpoint")
            path = checkpoint_path(folder / "model", metrics.epoch)
            _save(run, path, named, data, spool, rolling=False)
            saved_at = time.monotonic()
        elif watcher.stop_asked or time.monotonic() - saved_at > RESUME_INTERVAL_S:
            watcher.phase("checkpoint")
            path = folder / "resume" / f"resume_epoch_{metrics.epoch:04d}.pt"
            _save(run, path, named, data, spool, rolling=True)
            _thin(folder / "resume")
            _drop_rolling(set(folder.parent.glob("attempt-*/resume")) - {folder / "resume"})
            saved_at = time.monotonic()
        if watcher.stop_asked and metrics.epoch < config.epochs - 1:
            return {"status": "stopped", "stop_reason": StopReason.USER}
    result = _evaluate(run, config, data, watcher)
    _drop_rolling(folder.parent.glob("attempt-*/resume"))
    return {"status": "succeeded", "stop_reason": StopReason.COMPLETED, "result": result}


def _start_or_resume(assignment: Assignment, data: Path) -> TrainingRun:
    """From the newest checkpoint that is whole and loads; from the start where there is none."""
    for point in assignment.resume_from:
        path = data / point.path
        try:
            if _sha256(path) == point.sha256:
                return TrainingRun.resume(assignment.config, path, data)
            print(f"{point.path} is damaged", flush=True)
        except (FileNotFoundError, CheckpointUnreadable) as error:
            print(f"cannot resume from {point.path}: {error}", flush=True)
    if assignment.must_resume:
        path = assignment.resume_from[-1].path if assignment.resume_from else "that was named"
        raise CheckpointUnreadable(path, "it is gone or damaged; retry from another one")
    return TrainingRun.start(assignment.config, data)


def _save(
    run: TrainingRun,
    path: Path,
    metrics: dict[str, Any],
    data: Path,
    spool: SpoolWriter,
    *,
    rolling: bool,
) -> None:
    """File durable first, then the record."""
    run.save(path, logs=metrics)
    record = {
        "epoch": metrics["epoch"],
        "path": path.relative_to(data).as_posix(),
        "bytes": path.stat().st_size,
        "sha256": _sha256(path),
        "rolling": rolling,
    }
    spool.append("checkpoint", record)


def _drop_rolling(folders: Iterable[Path]) -> None:
    """Delete rolling checkpoints that nobody will resume from any more."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _thin(folder: Path) -> None:
    """Keep the newest rolling checkpoints."""
    files = sorted(folder.glob("resume_epoch_*.pt"), key=lambda file: int(file.stem.split("_")[-1]))
    for file in files[:-KEPT_FOR_RESUME]:
        file.unlink()


def _evaluate(
    run: TrainingRun, config: Config, data: Path, watcher: ChildWatcher
) -> dict[str, Any] | None:
    if not config.evaluation_orbits:
        return None
    watcher.phase("evaluate")
    stepper = Stepper(run.model, run.adapter)
    systems = config.evaluation_orbits
    try:
        scores = evaluate(stepper, seed=run.seed, systems=systems, data_folder=data)
    except (RuntimeError, MemoryError, ValueError, NBodyError):  # the training is done all the same
        traceback.print_exc()
        return None
    return {
        name: {key: value if math.isfinite(value) else None for key, value in score.items()}
        for name, score in scores.items()
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
