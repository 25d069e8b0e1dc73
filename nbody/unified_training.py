"""One epoch = Part 1 (collect) + Part 2 (generalize); the loop over epochs as a generator.

Leaving the generator is how a run is cancelled; a `for` with `print` is how it runs without a
server.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from nbody.config import Config
from nbody.generalization_training import generalize_on_trajectory
from nbody.history_buffer import HistoryBuffer
from nbody.metrics import EpochMetrics, from_epoch_result
from nbody.model_adapter import ModelAdapter
from nbody.particle import ParticleTorch
from nbody.training.loops import Loops
from nbody.training.run import TrainingRun
from nbody.trajectory_collection import collect_trajectory
from nbody.watcher import NoWatcher, Phase, Watcher


@runtime_checkable
class MetricsLog(Protocol):
    """A W&B run, or anything that logs metrics like one."""

    def log(self, data: dict[str, Any]) -> object:
        """Take one epoch's metrics."""
        ...


def train_epoch_two_phase(
    model: nn.Module,
    particle: ParticleTorch,
    optimizer: torch.optim.Optimizer,
    config: Config,
    adapter: ModelAdapter,
    history_buffer: HistoryBuffer | None = None,
    *,
    watcher: Watcher | None = None,
    loops: Loops | None = None,
) -> dict[str, Any]:
    """Run one epoch from `particle`, which is not changed.

    Args:
        loops: of a run, which keeps them from epoch to epoch.

    Returns:
        `trajectory_metrics`, `generalization_metrics`, `converged`, `part2_iterations`,
        `epoch_time` [s], and `final_particle`, where Part 1 ended.

    Raises:
        StepImpossible, TrainingDiverged
    """
    watcher = watcher or NoWatcher()
    started = time.perf_counter()
    watcher.phase(Phase.COLLECT)
    trajectory, part1 = collect_trajectory(
        model, particle, optimizer, config, adapter, history_buffer, watcher=watcher, loops=loops
    )
    watcher.phase(Phase.GENERALIZE)
    converged, iterations, part2 = generalize_on_trajectory(
        model, trajectory, optimizer, config, adapter, history_buffer, watcher=watcher, loops=loops
    )
    return {
        "trajectory_metrics": part1,
        "generalization_metrics": part2,
        "converged": converged,
        "part2_iterations": iterations,
        "epoch_time": time.perf_counter() - started,
        "final_particle": trajectory.final_particle,
    }


def epochs(run: TrainingRun, watcher: Watcher | None = None) -> Iterator[EpochMetrics]:
    """The run's remaining epochs, one at a time; between two of them the run can be saved."""
    for epoch, result in _results(run, watcher):
        yield from_epoch_result(epoch, result)


def run_two_phase_training(
    model: nn.Module,
    particle: ParticleTorch,
    optimizer: torch.optim.Optimizer,
    config: Config,
    adapter: ModelAdapter,
    history_buffer: HistoryBuffer | None = None,
    save_dir: str | Path | None = None,
    wandb_run: MetricsLog | None = None,
    checkpoint_interval: int = 10,
    *,
    watcher: Watcher | None = None,
) -> dict[str, Any]:
    """Train for `config.epochs` epochs, with checkpoints and logging where they are asked for.

    Args:
        save_dir: folder of `model_epoch_0000.pt`, …; none are written without it.
        wandb_run: gets each epoch's metrics through `log`.
        checkpoint_interval: epochs between checkpoints; the final epoch is always saved.

    Returns:
        `epochs_completed`, `total_time` [s], `convergence_rate`, `final_metrics` (the last epoch's
        result) and `results` (every epoch's, where `config.debug`).
    """
    run = TrainingRun(
        config, model, optimizer, adapter, particle, history_buffer, seed=config.seed or 0
    )
    started = time.perf_counter()
    results: list[dict[str, Any]] = []
    converged, last = 0, {}
    for epoch, result in _results(run, watcher):
        last = result
        converged += result["converged"]
        if config.debug:
            results.append(result)
        metrics = from_epoch_result(epoch, result).named()
        if wandb_run is not None:
            wandb_run.log(metrics)
        if save_dir is not None and is_checkpoint_epoch(epoch, config.epochs, checkpoint_interval):
            run.save(checkpoint_path(Path(save_dir), epoch), logs=metrics)
    return {
        "epochs_completed": run.next_epoch,
        "total_time": time.perf_counter() - started,
        "convergence_rate": converged / config.epochs,
        "final_metrics": last,
        "results": results,
    }


def is_checkpoint_epoch(epoch: int, epochs_in_all: int, interval: int) -> bool:
    """Whether a checkpoint is due after this epoch."""
    return epoch % interval == 0 or epoch == epochs_in_all - 1


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """Where the checkpoint of an epoch is."""
    return folder / f"model_epoch_{epoch:04d}.pt"


def _quality(result: dict[str, Any]) -> dict[str, Any]:
    """How good the network is on the epoch's samples, for its checkpoint."""
    part2 = result["generalization_metrics"]
    rate = part2["final_pass_rate"]
    return {"pass_rate": rate, "violation_rate": 1 - rate, "efficiency": part2["efficiency"]}


def _results(run: TrainingRun, watcher: Watcher | None) -> Iterator[tuple[int, dict[str, Any]]]:
    while run.next_epoch < run.config.epochs:
        epoch, particle = run.next_epoch, run.begin_epoch()
        result = train_epoch_two_phase(
            run.model,
            particle,
            run.optimizer,
            run.config,
            run.adapter,
            run.history_buffer,
            watcher=watcher,
            loops=run.loops,
        )
        run.end_epoch(result["final_particle"], _quality(result))
        yield epoch, result
