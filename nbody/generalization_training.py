"""Part 2: train on random minibatches of the trajectory until every sample passes.

Legend: T samples of the trajectory, M samples of a minibatch.

"Passes" is always the gate's word: dropout off, error under the threshold. Converged means that one
full pass over the trajectory with the final weights found no failing sample.
"""

import random
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from nbody.config import Config
from nbody.history_buffer import HistoryBuffer
from nbody.model import LogTimeStepNN
from nbody.model_adapter import ModelAdapter, dt_from_features
from nbody.particle import ParticleTorch
from nbody.training.descent import check_weights
from nbody.training.loops import Loops
from nbody.training.losses import energy_losses
from nbody.training.samples import Samples
from nbody.training.setup import TrainingSetup
from nbody.training.trajectory import Trajectory
from nbody.training.verdict import is_done, judge
from nbody.watcher import NoWatcher, Watcher

Pairs = Sequence[tuple[ParticleTorch, float]]


def sample_minibatch(trajectory: Pairs, batch_size: int) -> Pairs:
    """Random samples without replacement, at most as many as there are; of the input's kind."""
    size = min(batch_size, len(trajectory))
    if isinstance(trajectory, Trajectory):
        return trajectory.take(torch.randperm(len(trajectory))[:size].to(trajectory.dt.device))
    return random.sample(list(trajectory), size)


def evaluate_minibatch(
    model: nn.Module,
    minibatch: Pairs,
    config: Config,
    adapter: ModelAdapter,
    history_buffer: HistoryBuffer | None = None,
) -> tuple[bool, list[Tensor], list[float], dict[str, Any]]:
    """One prediction per sample, all as one batch.

    Returns:
        (all_pass, losses, rel_dE_list, metrics): the band loss of each failing sample, ready for
        `torch.stack(losses).mean().backward()`; the relative energy error of every sample; and
        `pass_count fail_count mean_rel_dE max_rel_dE`.
    """
    if not len(minibatch):
        return (
            True,
            [],
            [],
            {"pass_count": 0, "fail_count": 0, "mean_rel_dE": 0.0, "max_rel_dE": 0.0},
        )
    trajectory = Trajectory.of(minibatch, adapter, history_buffer)
    samples = Samples(trajectory.states, trajectory.features, None)
    verdict = judge(model, samples, config)
    failing = samples.take(~verdict.passed)
    losses: list[Tensor] = []
    if len(failing):
        dt = dt_from_features(model, failing.features)
        losses = list(energy_losses(failing.states, dt, config).unbind())
    failed = len(failing)
    metrics = {
        "pass_count": len(samples) - failed,
        "fail_count": failed,
        "mean_rel_dE": float(verdict.energy_error.mean()),
        "max_rel_dE": float(verdict.energy_error.max()),
    }
    errors = cast(list[float], verdict.energy_error.tolist())
    return failed == 0, losses, errors, metrics


def generalize_on_trajectory(
    model: nn.Module,
    trajectory: Pairs,
    optimizer: torch.optim.Optimizer,
    config: Config,
    adapter: ModelAdapter,
    history_buffer: HistoryBuffer | None = None,
    *,
    watcher: Watcher | None = None,
    loops: Loops | None = None,
) -> tuple[bool, int, dict[str, Any]]:
    """Train until every sample passes, at most `replay_steps` iterations.

    With the losses that also push dt up (`oracle`, `band`) a network whose steps all pass because
    they are tiny is not done: training goes on until the steps are also long enough, and
    `converged` still says only whether every sample passes in the end.

    Args:
        loops: of a run, which keeps them from epoch to epoch.

    Returns:
        (converged, iterations, final_metrics): `mean_rel_dE max_rel_dE final_pass_rate` over the
        whole trajectory with the final weights, `efficiency` (oracle steps over the network's)
        where the oracle was asked, and `skipped` where it was too short to train on.

    Raises:
        TrainingDiverged
    """
    watcher = watcher or NoWatcher()
    if not len(trajectory):
        warnings.warn("Part 2 has nothing to train on: the trajectory is empty", stacklevel=2)
        nothing: dict[str, Any] = {"mean_rel_dE": 0.0, "max_rel_dE": 0.0, "final_pass_rate": 1.0}
        nothing["efficiency"] = None
        return True, 0, {**nothing, "skipped": True}
    loops = Loops() if loops is None else loops
    whole = Trajectory.of(trajectory, adapter, history_buffer)
    if len(whole) < config.min_replay_size:
        samples = Samples(whole.states, whole.features, None)
        return _final_verdict(model, samples, config, 0, {"skipped": True})
    samples = Samples.of(whole.states, whole.features, config, watcher)
    size = min(config.replay_batch_size, len(samples))
    minibatches = _minibatches(len(samples), size, whole.dt.device)
    learner = loops.learner(TrainingSetup(model, optimizer, config, adapter), samples, size)
    iterations = 0
    while iterations < config.replay_steps:
        learner.load(samples, next(minibatches))
        if iterations % learner.check_every == 0:
            learner.check()
            if learner.done() and bool(is_done(samples, judge(model, samples, config), config)):
                break
        learner.learn()
        iterations += 1
        watcher.tick()
    learner.check()
    learner.end()
    check_weights(model)
    return _final_verdict(model, samples, config, iterations, {})


def _minibatches(samples: int, size: int, device: torch.device) -> Iterator[Tensor]:
    """Endless random minibatches (M,), without replacement within a pass over the samples.

    The tail of a pass that fills no minibatch is left out of it.
    """
    while True:
        shuffled = torch.randperm(samples, device=device)
        yield from (shuffled[k : k + size] for k in range(0, samples - size + 1, size))


def _final_verdict(
    model: nn.Module, samples: Samples, config: Config, iterations: int, more: dict[str, Any]
) -> tuple[bool, int, dict[str, Any]]:
    """What Part 2 returns. The network's envelope takes in the samples that pass now."""
    verdict = judge(model, samples, config)
    if isinstance(model, LogTimeStepNN):
        model.see(samples.features[verdict.passed], verdict.dt[verdict.passed])
    metrics: dict[str, Any] = {
        "mean_rel_dE": float(verdict.energy_error.mean()),
        "max_rel_dE": float(verdict.energy_error.max()),
        "final_pass_rate": float(verdict.passed.double().mean()),
    }
    stars = samples.dt_star
    efficiency = None if stars is None else float((1 / stars).sum() / (1 / verdict.dt).sum())
    metrics["efficiency"] = efficiency
    return verdict.all_pass, iterations, metrics | more
