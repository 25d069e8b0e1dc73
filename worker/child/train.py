"""A training job: epochs, checkpoints, and the scores at the end, as records of the spool."""

import shutil
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nbody.config.size import evaluated_systems
from nbody.durable_file import sha256_of
from nbody.errors import CheckpointUnreadable, NBodyError
from nbody.evaluation.beside_criteria import factors_of
from nbody.evaluation.close_look import close_look
from nbody.evaluation.score import held_out_for, score_all, stepper_and_free_fall
from nbody.stepper import Stepper
from nbody.training.run import TrainingRun
from nbody.unified_training import checkpoint_path, epochs, is_checkpoint_epoch
from nbody.watcher import Phase
from server.wire.states import StopReason
from server.wire.workers import Assignment
from worker.child.file_records import Artifacts, describe_file, replace_nonfinite
from worker.child.gpu import trouble_behind
from worker.child.looks import keep_look
from worker.child.watcher import ChildWatcher
from worker.child.whereabouts import whereabouts
from worker.spool import SpoolWriter

RESUME_INTERVAL_S = 15.0  # most training time that a crash costs
KEPT_FOR_RESUME = 2


def train_job(
    assignment: Assignment, data: Path, spool: SpoolWriter, watcher: ChildWatcher
) -> dict[str, Any]:
    """Train to the end, or until asked to stop; returns the outcome."""
    config = assignment.config
    run = _start_or_resume(assignment, data)
    folder = data / assignment.output_folder
    place = whereabouts(run.seed, run.adapter.device)
    spool.append("begin", {"first_epoch": run.next_epoch, "whereabouts": place})
    saved_at = time.monotonic()
    print(config.summary(), f"from epoch {run.next_epoch}", flush=True)
    for metrics in epochs(run, watcher):
        named = metrics.named()
        spool.append("epoch", named)
        if is_checkpoint_epoch(metrics.epoch, config.epochs, config.checkpoint_every):
            watcher.phase(Phase.CHECKPOINT)
            path = checkpoint_path(folder / "model", metrics.epoch)
            _save(run, path, named, data, spool, rolling=False)
            saved_at = time.monotonic()
        elif watcher.stop_asked or time.monotonic() - saved_at > RESUME_INTERVAL_S:
            watcher.phase(Phase.CHECKPOINT)
            path = folder / "resume" / f"resume_epoch_{metrics.epoch:04d}.pt"
            _save(run, path, named, data, spool, rolling=True)
            _thin(folder / "resume")
            _drop_rolling(set(folder.parent.glob("attempt-*/resume")) - {folder / "resume"})
            saved_at = time.monotonic()
        if watcher.stop_asked and metrics.epoch < config.epochs - 1:
            return {"status": "stopped", "stop_reason": StopReason.USER}
    result = _evaluate(run, Artifacts(assignment, data, spool), data, watcher)
    _drop_rolling(folder.parent.glob("attempt-*/resume"))
    return {"status": "succeeded", "stop_reason": StopReason.COMPLETED, "result": result}


def _start_or_resume(assignment: Assignment, data: Path) -> TrainingRun:
    """From the newest checkpoint that is whole and loads; from the start where there is none."""
    unreadable: CheckpointUnreadable | None = None
    for point in assignment.resume_from:
        path = data / point.path
        try:
            if sha256_of(path) == point.sha256:
                return TrainingRun.resume(assignment.config, path, data)
            print(f"{point.path} is damaged", flush=True)
        except (FileNotFoundError, CheckpointUnreadable) as error:
            print(f"cannot resume from {point.path}: {error}", flush=True)
            unreadable = error if isinstance(error, CheckpointUnreadable) else None
    if assignment.must_resume:
        path = assignment.resume_from[-1].path if assignment.resume_from else "that was named"
        reason = "it is gone or damaged; retry from another one"
        raise unreadable or CheckpointUnreadable(path, reason)
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
    record = {"epoch": metrics["epoch"], **describe_file(path, data), "rolling": rolling}
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
    run: TrainingRun, artifacts: Artifacts, data: Path, watcher: ChildWatcher
) -> dict[str, Any] | None:
    if not (systems := evaluated_systems(run.config)):
        return None
    watcher.phase(Phase.EVALUATE)
    stepper = Stepper(run.model, run.adapter)
    try:
        held_out = held_out_for(
            stepper, seed=run.seed, systems=systems, data_folder=data, watcher=watcher
        )
        rules = stepper_and_free_fall(stepper)
        scores = score_all(rules, held_out, watcher)
        look = close_look(held_out, rules, factors_of(scores), newton=run.config.newton)
    except (RuntimeError, MemoryError, ValueError, NBodyError) as error:
        if trouble_behind(error):  # another GPU can score it
            raise
        traceback.print_exc()
        return None  # the training is done all the same
    keep_look(look, artifacts, picture=run.config.wandb)
    return replace_nonfinite(scores)
