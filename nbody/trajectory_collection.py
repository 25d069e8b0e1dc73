"""Part 1: collect a trajectory through the energy gate.

Legend: B orbits, S steps per orbit.
"""

import warnings
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nbody.config import Config
from nbody.gravity.invariants import relative_energy_error
from nbody.gravity.vectors import at_least_2d
from nbody.history_buffer import HistoryBuffer
from nbody.integrators.measured_step import Step
from nbody.model_adapter import DT_FLOOR, ModelAdapter, dt_from_features
from nbody.particle import ParticleTorch
from nbody.training.collection import Collection
from nbody.training.descent import check_weights
from nbody.training.loops import Loops
from nbody.training.losses import band_loss
from nbody.training.setup import TrainingSetup
from nbody.training.trajectory import Trajectory
from nbody.watcher import NoWatcher, Watcher


def attempt_single_step(
    model: nn.Module,
    particle: ParticleTorch,
    config: Config,
    adapter: ModelAdapter,
    history_buffer: HistoryBuffer | None = None,
) -> tuple[ParticleTorch, Float[Tensor, " B"], Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Predict dt and take one step with it, differentiable with respect to the weights.

    Returns:
        (particle, dt, E0, E1): the advanced state, the step (B,), and the energy before and after,
        each (B,), with B = 1 for a single system. The given particle is not changed. Steps whose
        energy is not finite have no gradient.
    """
    features = at_least_2d(adapter.build_feature_tensor(particle, history_buffer=history_buffer))
    dt = dt_from_features(model, features)
    states = particle.states()
    step = states.step(dt, config.n_steps)
    finite = step.energy.isfinite()
    if not finite.all():  # without a gradient: it would not be finite either
        safe = states.step(torch.where(finite, dt, DT_FLOOR), config.n_steps)
        step = safe.where(finite, step)
    return _particle_after(particle, step, dt, config.n_steps), dt, states.energy, step.energy


def check_energy_threshold(
    E0: Float[Tensor, "*#B"], E1: Float[Tensor, "*#B"], threshold: float
) -> tuple[bool, Float[Tensor, "..."]]:
    """(whether all errors are under the threshold, relative errors shaped as E0)."""
    error = relative_energy_error(E0, E1)
    return bool((error < threshold).all()), error


def compute_single_step_loss(
    E0: Float[Tensor, "*#B"], E1: Float[Tensor, "*#B"], config: Config
) -> Float[Tensor, ""]:
    """Mean band loss () of the relative errors; errors that are not finite count as 1, constant."""
    error = relative_energy_error(E0, E1)
    finite = error.isfinite()
    safe = torch.where(finite, E1, E0.detach() * 2)
    error = relative_energy_error(torch.where(finite, E0, torch.ones_like(E0)), safe)
    error = torch.where(finite, error, torch.ones_like(error))
    return band_loss(error, config.E_lower, config.E_upper, config.energy_threshold).mean()


def collect_trajectory_step(
    model: nn.Module,
    particle: ParticleTorch,
    optimizer: torch.optim.Optimizer,
    config: Config,
    adapter: ModelAdapter,
    history_buffer: HistoryBuffer | None = None,
    max_retrain_warn: int = 1000,
) -> tuple[ParticleTorch, float | Tensor, dict[str, Any]]:
    """Take one accepted step: attempt, and retrain on the same state until it passes the gate.

    Returns:
        (particle, dt, metrics): the advanced state, its step (a float for one system, (B,) for a
        batch), and `retrain_iterations` (optimizer steps), `reject_count` (rejected attempts of
        all orbits) and `final_energy_error` (largest accepted error).

    Raises:
        StepImpossible, TrainingDiverged
    """
    training = TrainingSetup(model, optimizer, config, adapter, history_buffer)
    collection = Collection(training, particle, steps=1)
    collection.run(NoWatcher(), max_retrain_warn)
    taken = collection.record.of_slot(0)
    dt = taken["dt"]
    return (
        collection.final_particle(),
        dt if particle.is_batch else float(dt),
        {
            "retrain_iterations": collection.optimizer_steps,
            "reject_count": int(collection.record.rejections.sum()),
            "final_energy_error": float(taken["energy_error"].max()),
        },
    )


def collect_trajectory(
    model: nn.Module,
    particle: ParticleTorch,
    optimizer: torch.optim.Optimizer,
    config: Config,
    adapter: ModelAdapter,
    history_buffer: HistoryBuffer | None = None,
    *,
    watcher: Watcher | None = None,
    loops: Loops | None = None,
) -> tuple[Trajectory, dict[str, Any]]:
    """Collect `steps_per_epoch` accepted steps of every orbit; the first `history_len` warm up.

    The particle is not changed; where it ends is the trajectory's `final_particle`.

    Args:
        loops: of a run, which keeps them from epoch to epoch.

    Returns:
        (trajectory, epoch_metrics): up to B · (S - history_len) samples, step by step; counts,
        and means over accepted steps, as plain numbers.

    Raises:
        StepImpossible, TrainingDiverged
    """
    steps = config.steps_per_epoch
    loops = Loops() if loops is None else loops
    training = TrainingSetup(model, optimizer, config, adapter, history_buffer)
    collection = loops.collection(training, particle, steps)
    collection.run(watcher or NoWatcher())
    check_weights(model)
    warmup = min(config.history_len if adapter.history_enabled else 0, steps)
    trajectory = collection.record.trajectory(collection.states, warmup)
    if not len(trajectory):
        warnings.warn(
            f"empty trajectory: steps_per_epoch ({steps}) is not larger than history_len "
            f"({config.history_len}), so that every step is warm-up",
            stacklevel=2,
        )
    metrics = collection.record.metrics(len(trajectory), warmup)
    return replace(trajectory, final_particle=collection.final_particle()), metrics


def _particle_after(particle: ParticleTorch, step: Step, dt: Tensor, n_steps: int) -> ParticleTorch:
    """The state after a step, shaped as the state before it."""
    squeeze = 0 if not particle.is_batch else None

    def shaped(tensor: Tensor) -> Tensor:
        return tensor if squeeze is None else tensor.squeeze(0)

    return particle.replace(
        mass=particle.mass.detach(),
        position=shaped(step.position),
        velocity=shaped(step.velocity),
        acceleration=shaped(step.acceleration),
        dt=shaped(dt),
        current_time=particle.current_time.detach() + n_steps * shaped(dt).detach(),
    )
