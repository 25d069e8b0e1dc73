"""Part 2: train on random minibatches of the trajectory until every sample passes.

Legend: T samples of the trajectory, M samples of a minibatch.

"Passes" is always the gate's word: dropout off, error under the threshold. Converged means that one
full pass over the trajectory with the final weights found no failing sample.
"""

import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import torch
from torch import Tensor, nn

from nbody.config import Config
from nbody.history_buffer import HistoryBuffer
from nbody.model_adapter import ModelAdapter, gate_dt, gate_threshold
from nbody.particle import ParticleTorch
from nbody.sample_loss import Samples, check_weights, descend, energy_losses, losses_of
from nbody.trajectory import Trajectory
from nbody.watcher import NoWatcher, Watcher

CHECK_EVERY = 10  # iterations between looks at the gate, where the loss itself does not need it
JUDGED_AT_ONCE, JUDGED_PAIRS = 8192, 2**19  # samples, and pairs of particles, in memory at once
Pairs = Sequence[tuple[ParticleTorch, float]]


@dataclass(frozen=True)
class Verdict:
    """What the gate says of some samples."""

    dt: Tensor  # (T,)
    energy_error: Tensor  # (T,)
    passed: Tensor  # (T,) bool

    @property
    def all_pass(self) -> bool:
        return bool(self.passed.all())


@torch.no_grad()
def judge(model: nn.Module, samples: Samples, config: Config) -> Verdict:
    """Put every sample through the gate with the present weights.

    Many samples go through in parts, so that their activations and pairs need not all be in memory.
    """
    rows = samples.states.parts(JUDGED_PAIRS, JUDGED_AT_ONCE)
    if len(rows) > 1:
        parts = [judge(model, samples.take(part), config) for part in rows]
        columns = ([getattr(part, field.name) for part in parts] for field in fields(Verdict))
        return Verdict(*(torch.cat(column) for column in columns))
    dt = gate_dt(model, samples.features)
    error = samples.states.step(dt, config.n_steps).energy_error
    return Verdict(dt, error, error < gate_threshold(samples.states, config))


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
        dt = model(failing.features)[:, 0]
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
) -> tuple[bool, int, dict[str, Any]]:
    """Train until every sample passes, at most `replay_steps` iterations.

    With the losses that also push dt up (`oracle`, `band`) a network whose steps all pass because
    they are tiny is not done: training goes on until the steps are also long enough, and
    `converged` still says only whether every sample passes in the end.

    Returns:
        (converged, iterations, final_metrics): `mean_rel_dE max_rel_dE final_pass_rate` over the
        whole trajectory with the final weights, and `skipped` where it was too short to train on.

    Raises:
        TrainingDiverged
    """
    watcher = watcher or NoWatcher()
    if not len(trajectory):
        warnings.warn("Part 2 has nothing to train on: the trajectory is empty", stacklevel=2)
        nothing = {"mean_rel_dE": 0.0, "max_rel_dE": 0.0, "final_pass_rate": 1.0}
        return True, 0, {**nothing, "skipped": True}
    whole = Trajectory.of(trajectory, adapter, history_buffer)
    if len(whole) < config.min_replay_size:
        samples = Samples(whole.states, whole.features, None)
        verdict = judge(model, samples, config)
        return verdict.all_pass, 0, {**_final_metrics(verdict), "skipped": True}
    samples = Samples.of(whole.states, whole.features, config)
    minibatches = _minibatches(len(samples), config.replay_batch_size, whole.dt.device)
    iterations = 0
    while iterations < config.replay_steps:
        batch = samples.take(next(minibatches))
        if config.loss == "band_failing" or iterations % CHECK_EVERY == 0:
            verdict = judge(model, batch, config)
            if _is_done(batch, verdict, config) and _whole_is_done(model, samples, config):
                break
            if config.loss == "band_failing":
                batch = batch.take(~verdict.passed)
        if len(batch):
            model.train()
            descend(losses_of(model, batch, config).mean(), optimizer)
        iterations += 1
        watcher.tick()
    check_weights(model)
    final = judge(model, samples, config)
    return final.all_pass, iterations, _final_metrics(final)


def _minibatches(samples: int, size: int, device: torch.device) -> Iterator[Tensor]:
    """Endless random minibatches (M,), without replacement within a pass over the samples.

    The tail of a pass that fills no minibatch is left out of it.
    """
    size = min(size, samples)
    while True:
        shuffled = torch.randperm(samples).to(device)
        yield from (shuffled[k : k + size] for k in range(0, samples - size + 1, size))


def _whole_is_done(model: nn.Module, samples: Samples, config: Config) -> bool:
    return _is_done(samples, judge(model, samples, config), config)


def _is_done(samples: Samples, verdict: Verdict, config: Config) -> bool:
    """Whether there is nothing left to train for on these samples."""
    if not verdict.all_pass:
        return False
    if config.loss == "oracle" and samples.dt_star is not None:
        efficiency = (verdict.dt / samples.dt_star).clamp_max(1.0).mean()
        return bool(efficiency >= config.min_efficiency)
    if config.loss == "band":
        return bool((verdict.energy_error >= config.E_lower).all())
    return True


def _final_metrics(verdict: Verdict) -> dict[str, Any]:
    return {
        "mean_rel_dE": float(verdict.energy_error.mean()),
        "max_rel_dE": float(verdict.energy_error.max()),
        "final_pass_rate": float(verdict.passed.double().mean()),
    }
