"""Part 1: collect a trajectory through the energy gate.

Legend: B orbits, S steps per orbit, N particles, D dimensions, F features.

Every orbit is stepped in one batch and accepted by itself: an orbit whose step passes the gate
moves on, one whose step fails is trained on and tried again from the same state. What is recorded
is the state that was tested, with the step that it passed with.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from nbody.config import Config
from nbody.errors import StepImpossible
from nbody.gravity import relative_energy_error
from nbody.history_buffer import HistoryBuffer
from nbody.kick_drift_kick import Step
from nbody.losses import band_loss
from nbody.model_adapter import ModelAdapter, dt_from_features, gate_dt
from nbody.particle import ParticleTorch
from nbody.sample_loss import Samples, check_weights, descend, losses_of
from nbody.trajectory import States, Trajectory
from nbody.vectors import at_least_2d
from nbody.watcher import NoWatcher, Watcher

HALVINGS = 2000  # of a step, before a state counts as impossible


def attempt_single_step(
    model: nn.Module,
    particle: ParticleTorch,
    config: Config,
    adapter: ModelAdapter,
    history_buffer: HistoryBuffer | None = None,
) -> tuple[ParticleTorch, Tensor, Tensor, Tensor]:
    """Predict dt and take one step with it, differentiable with respect to the weights.

    Returns:
        (particle, dt, E0, E1): the advanced state, the step (B,), and the energy before and after,
        each (B,), with B = 1 for a single system. The given particle is not changed.
    """
    features = at_least_2d(adapter.build_feature_tensor(particle, history_buffer=history_buffer))
    dt = dt_from_features(model, features)
    states = States.of(particle)
    step = states.step(dt, config.n_steps)
    return _advanced(particle, step, dt, config.n_steps), dt, states.energy, step.energy


def check_energy_threshold(E0: Tensor, E1: Tensor, threshold: float) -> tuple[bool, Tensor]:
    """(whether all errors are under the threshold, relative errors shaped as E0)."""
    error = relative_energy_error(E0, E1)
    return bool((error < threshold).all()), error


def compute_single_step_loss(E0: Tensor, E1: Tensor, config: Config) -> Tensor:
    """Mean band loss () of the relative errors; errors that are not finite count as 1, constant."""
    error = relative_energy_error(E0, E1)
    finite = error.isfinite()
    safe = torch.where(finite, E1, E0.detach() * 2)
    error = relative_energy_error(torch.where(finite, E0, torch.ones_like(E0)), safe)
    error = torch.where(finite, error, torch.ones_like(error))
    return band_loss(error, config.E_lower, config.E_upper).mean()


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
    collection = _Collection(model, particle, optimizer, config, adapter, history_buffer, steps=1)
    collection.run(NoWatcher(), max_retrain_warn)
    dt = collection.dt[0]
    return (
        collection.final_particle(),
        dt if particle.is_batch else float(dt),
        {
            "retrain_iterations": collection.optimizer_steps,
            "reject_count": int(collection.rejections.sum()),
            "final_energy_error": float(collection.errors[0].max()),
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
) -> tuple[Trajectory, dict[str, Any]]:
    """Collect `steps_per_epoch` accepted steps of every orbit; the first `history_len` warm up.

    The particle is not changed; where it ends is `epoch_metrics["final_particle"]`.

    Returns:
        (trajectory, epoch_metrics): up to B · (S - history_len) samples, step by step; counts,
        and means over accepted steps.

    Raises:
        StepImpossible, TrainingDiverged
    """
    history = adapter.history_buffer if history_buffer is None else history_buffer
    steps = config.steps_per_epoch
    collection = _Collection(model, particle, optimizer, config, adapter, history, steps)
    collection.run(watcher or NoWatcher())
    check_weights(model)
    warmup = min(config.history_len if adapter.history_enabled else 0, steps)
    trajectory = collection.trajectory(warmup)
    if not len(trajectory):
        warnings.warn(
            f"empty trajectory: steps_per_epoch ({steps}) is not larger than history_len "
            f"({config.history_len}), so that every step is warm-up",
            stacklevel=2,
        )
    return trajectory, collection.metrics(len(trajectory), warmup)


class _Collection:
    """The state of Part 1: where each orbit is, what was recorded, what is still to do."""

    def __init__(
        self,
        model: nn.Module,
        particle: ParticleTorch,
        optimizer: torch.optim.Optimizer,
        config: Config,
        adapter: ModelAdapter,
        history: HistoryBuffer | None,
        steps: int,
    ) -> None:
        self.model, self.optimizer, self.config = model, optimizer, config
        self.adapter, self.history = adapter, history
        self.single = not particle.is_batch
        self.particle = particle.clone_detached().batched()  # the present state of every orbit
        self.states = States.of(self.particle)
        self._check_energy()
        self.features = self._features()
        batch, width = self.features.shape
        like = self.states.energy
        self.particle.dt = self.particle.dt.expand(batch).clone()
        self.particle.current_time = self.particle.current_time.expand(batch).clone()
        self.start_time = self.particle.current_time.clone()
        self.accepted = torch.zeros(batch, dtype=torch.long, device=like.device)
        self.rejections = torch.zeros(steps, batch, dtype=torch.long, device=like.device)
        self.dt_star = torch.full_like(like, torch.nan)  # of the present states, where known
        self.dt, self.errors, self.time, self.last_dt, self.energy = (
            like.new_zeros(steps, batch) for _ in range(5)
        )
        self.seen = like.new_zeros(steps, batch, width)
        self.position, self.velocity, self.acceleration = (
            like.new_zeros(steps, *self.states.position.shape) for _ in range(3)
        )
        self.optimizer_steps = 0

    def run(self, watcher: Watcher, max_retrain_warn: int = 1000) -> None:
        """Until every orbit has its steps."""
        config = self.config
        while len(orbits := self._collecting()):
            dt = gate_dt(self.model, self.features[orbits])
            step = self.states.take(orbits).step(dt, config.n_steps)
            passed = step.energy_error < config.energy_threshold
            self._accept(orbits[passed], dt[passed], _take_step(step, passed))
            failing, failing_dt = orbits[~passed], dt[~passed]
            if len(failing):
                count = self._count_rejections(failing, max_retrain_warn)
                if config.max_retrain_steps:
                    spent = count > config.max_retrain_steps
                    self._accept_shortened(failing[spent], failing_dt[spent])
                    failing = failing[~spent]
                elif (count == max_retrain_warn).any():
                    self._shorten(failing, failing_dt)  # raises where no step would pass
                if len(failing):
                    self._retrain(failing)
            watcher.tick()

    def trajectory(self, warmup: int) -> Trajectory:
        """What was recorded after the first `warmup` steps of each orbit, step by step."""
        slot = torch.arange(len(self.dt), device=self.dt.device).unsqueeze(1)  # (S, 1)
        kept = (slot >= warmup) & (slot < self.accepted)  # (S, B)
        states = States(
            self.position[kept],
            self.velocity[kept],
            self.states.mass.expand(*kept.shape, -1)[kept],
            self.acceleration[kept],
            self.energy[kept],
            self.states.softening,
            self.states.field,
        )
        return Trajectory(
            states, self.seen[kept], self.dt[kept], self.time[kept], self.last_dt[kept]
        )

    def metrics(self, trajectory_length: int, warmup: int) -> dict[str, Any]:
        """The epoch_metrics of `collect_trajectory`."""
        slot = torch.arange(len(self.dt), device=self.dt.device).unsqueeze(1)
        taken = slot < self.accepted  # (S, B)
        errors, dt, rejections = self.errors[taken], self.dt[taken], self.rejections[taken]
        return {
            "total_steps": int(taken.sum()),
            "warmup_discarded": int(self.accepted.clamp_max(warmup).sum()),
            "trajectory_length": trajectory_length,
            "mean_retrain_iterations": float(rejections.double().mean()),
            "max_retrain_iterations": int(rejections.max()),
            "mean_energy_error": float(errors.mean()),
            "min_energy_error": float(errors.min()),
            "max_energy_error": float(errors.max()),
            "mean_dt": float(dt.mean()),
            "min_dt": float(dt.min()),
            "max_dt": float(dt.max()),
            "final_particle": self.final_particle(),
        }

    def final_particle(self) -> ParticleTorch:
        """Where the orbits are now; a single system where one was given."""
        particle = self.particle.clone_detached()
        particle.acceleration = self.states.acceleration.clone()
        return particle.select(0) if self.single else particle

    def _collecting(self) -> Tensor:
        """Indices of the orbits that still need steps."""
        needs = self.accepted < len(self.dt)
        if self.config.stop_at_period and self.particle.period is not None:
            needs &= self.particle.current_time - self.start_time < self.particle.period
        return needs.nonzero().squeeze(1)

    def _accept(self, orbits: Tensor, dt: Tensor, step: Step) -> None:
        """Record the tested states of some orbits and move those orbits on."""
        if not len(orbits):
            return
        slot, states, particle = self.accepted[orbits], self.states, self.particle
        self.dt[slot, orbits], self.errors[slot, orbits] = dt, step.energy_error
        self.time[slot, orbits] = particle.current_time[orbits]
        self.last_dt[slot, orbits] = particle.dt[orbits]
        self.energy[slot, orbits] = states.energy[orbits]
        self.seen[slot, orbits] = self.features[orbits]
        self.position[slot, orbits] = states.position[orbits]
        self.velocity[slot, orbits] = states.velocity[orbits]
        self.acceleration[slot, orbits] = states.acceleration[orbits]
        if self.history is not None:
            mask = torch.zeros(len(states), dtype=torch.bool, device=orbits.device)
            mask[orbits] = True
            self.history.push(particle, mask)
        self.accepted[orbits] += 1
        self.dt_star[orbits] = torch.nan
        states.position[orbits], states.velocity[orbits] = step.position, step.velocity
        states.acceleration[orbits], states.energy[orbits] = step.acceleration, step.energy
        particle.position, particle.velocity = states.position, states.velocity
        particle.dt[orbits] = dt
        particle.current_time[orbits] += dt * self.config.n_steps
        self.features = self._features()

    def _count_rejections(self, failing: Tensor, max_retrain_warn: int) -> Tensor:
        """Rejections (A,) of the present state of each failing orbit, this one included."""
        slot = self.accepted[failing]
        self.rejections[slot, failing] += 1
        count = self.rejections[slot, failing]
        if (count == max_retrain_warn + 1).any():
            warnings.warn(
                f"one step was rejected more than {max_retrain_warn} times; max_retrain_steps "
                "would cap its retraining",
                stacklevel=4,
            )
        return count

    def _retrain(self, failing: Tensor) -> None:
        """One optimizer step on the states that failed."""
        states, features = self.states.take(failing), self.features[failing]
        if self.config.loss == "oracle":
            unknown = self.dt_star[failing].isnan()
            if unknown.any():
                fresh = Samples.of(states.take(unknown), features[unknown], self.config)
                if fresh.dt_star is not None:
                    self.dt_star[failing[unknown]] = fresh.dt_star
            samples = Samples(states, features, self.dt_star[failing])
        else:
            samples = Samples(states, features, None)
        self.model.train()
        descend(losses_of(self.model, samples, self.config).mean(), self.optimizer)
        self.optimizer_steps += 1

    def _shorten(self, orbits: Tensor, dt: Tensor) -> Tensor:
        """Halve steps until each passes the gate.

        Raises:
            StepImpossible: none does.
        """
        states, dt = self.states.take(orbits), dt.clone()
        fails = torch.zeros_like(orbits, dtype=torch.bool)
        for _ in range(HALVINGS):
            error = states.step(dt, self.config.n_steps).energy_error
            fails = ~(error < self.config.energy_threshold)
            if not fails.any():
                return dt
            dt = torch.where(fails, torch.where(dt.isfinite(), dt / 2, torch.ones_like(dt)), dt)
        raise StepImpossible(orbits[fails].tolist(), self.config.energy_threshold)

    def _accept_shortened(self, orbits: Tensor, dt: Tensor) -> None:
        """Move on orbits whose retraining is spent, with a step that passes."""
        if len(orbits):
            dt = self._shorten(orbits, dt)
            self._accept(orbits, dt, self.states.take(orbits).step(dt, self.config.n_steps))

    def _features(self) -> Tensor:
        features = self.adapter.build_feature_tensor(self.particle, history_buffer=self.history)
        return at_least_2d(features)

    def _check_energy(self) -> None:
        """A relative error needs an energy that is finite and not zero."""
        kinetic, potential = self.particle.energies()
        scale = torch.finfo(kinetic.dtype).eps * (kinetic.abs() + potential.abs())
        usable = self.states.energy.isfinite() & (self.states.energy.abs() > scale)
        if not usable.all():
            raise StepImpossible(
                (~usable).nonzero().squeeze(1).tolist(), self.config.energy_threshold
            )


def _take_step(step: Step, mask: Tensor) -> Step:
    return Step(*(part[mask] for part in step))


def _advanced(particle: ParticleTorch, step: Step, dt: Tensor, n_steps: int) -> ParticleTorch:
    """The state after a step, shaped as the state before it."""
    squeeze = 0 if not particle.is_batch else None

    def shaped(tensor: Tensor) -> Tensor:
        return tensor if squeeze is None else tensor.squeeze(0)

    after = ParticleTorch.from_tensors(
        particle.mass.detach(),
        shaped(step.position),
        shaped(step.velocity),
        shaped(dt),
        particle.softening,
    )
    after.acceleration = shaped(step.acceleration)
    after.current_time = particle.current_time.detach() + n_steps * shaped(dt).detach()
    after.period, after.external_field = particle.period, particle.external_field
    return after
