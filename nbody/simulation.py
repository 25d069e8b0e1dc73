"""Integrate a system with a stepping rule, and report what the run kept and what it cost.

Legend: B systems, N particles, D dimensions, K recorded states.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nbody.config import Config
from nbody.errors import SimulationImpossible, StepImpossible
from nbody.features import free_fall_time
from nbody.gated_step import gated_step
from nbody.gravity import angular_momentum, energies, momentum
from nbody.history_buffer import HistoryBuffer
from nbody.particle import ParticleTorch
from nbody.states import States
from nbody.stepper import Stepper
from nbody.time_symmetry import symmetric_step, time_even_step
from nbody.vectors import at_least_1d, lengths
from nbody.watcher import NoWatcher, Watcher

DEFAULT_STEPS = 10_000
MOST_NUMBERS = 2**27  # of all recorded states: a gigabyte
NUMBERS_OF_OVERHEAD = 200  # what a state's small tensors take besides their numbers
StepRule = Callable[[ParticleTorch], Tensor]


@dataclass(frozen=True)
class Simulation:
    """A finished run: K recorded states, the initial one first, and what was conserved.

    Residuals are relative to the initial value: |E - E0| / |E0|, |p - p0| / Σ m|v0| and
    |L - L0| / Σ m|r0 × v0|.
    """

    time: Tensor  # (K,) or (K, B)
    position: Tensor  # (K, ..., N, D)
    velocity: Tensor  # (K, ..., N, D)
    mass: Tensor  # (..., N)
    dt: Tensor  # (K - 1,) or (K - 1, B)
    energy_error: Tensor  # (K,) or (K, B)
    momentum_error: Tensor
    angular_momentum_error: Tensor
    force_evaluations: int

    @property
    def steps(self) -> int:
        """Steps taken."""
        return len(self.dt)

    def report(self) -> dict[str, float | int]:
        """Steps, cost, and the largest and the final residual of each conserved quantity."""
        found: dict[str, float | int] = {
            "steps": self.steps,
            "force_evaluations": self.force_evaluations,
            "final_time": float(self.time[-1].max()),
        }
        for name in ("energy_error", "momentum_error", "angular_momentum_error"):
            residual: Tensor = getattr(self, name)
            found[f"max_{name}"] = float(residual.max())
            found[f"final_{name}"] = float(residual[-1].max())
        return found

    def save(self, path: Path) -> None:
        """Write the states as an npz file that needs no pickle to read."""
        names = ("time", "position", "velocity", "mass", "dt", "energy_error")
        np.savez_compressed(path, **{name: getattr(self, name).cpu().numpy() for name in names})


def simulate(
    config: Config,
    particle: ParticleTorch,
    stepper: Stepper | None = None,
    *,
    watcher: Watcher | None = None,
) -> Simulation:
    """Integrate `particle`, which is not changed, with the rule `config.integrator_mode`.

    `config.energy_threshold` is what the stepper's steps are for, and the gate of `gated`.

    Ends at `duration` or after `steps` steps, whichever comes first; without either, after
    `Nperiod` periods where the period is known, else after 10,000 steps. Batches advance each
    with its own steps until the slowest has covered the time.

    Args:
        stepper: the trained network of the modes `ml` and `history`.
        watcher: ticked with every step.

    Raises:
        SimulationImpossible: the mode needs a step or a stepper that is not there; or the run has
            more states than can be kept.
        StepImpossible: the step or the energy is not finite.
    """
    rule, history = _rule(config, stepper)
    state = particle.clone_detached()
    state.energy_threshold = torch.full_like(state.current_time, config.energy_threshold)
    duration = _duration(config, state)
    states = States.of(state)
    recorded = [_recorded(state)]
    steps: list[Tensor] = []
    forces = 1
    watcher = watcher or NoWatcher()
    most = max(2, MOST_NUMBERS // (2 * state.position.numel() + NUMBERS_OF_OVERHEAD))
    limit = config.steps or (DEFAULT_STEPS if duration is None else 10**9)
    while len(steps) < limit and not _is_over(state, duration):
        dt = rule(state)
        if config.integrator_mode == "reversible":
            dt = symmetric_step(dt, steps[-1] if steps else dt)
        if not bool((dt.isfinite() & (dt > 0)).all()):
            raise StepImpossible([], config.energy_threshold)
        if duration is not None:
            dt = torch.minimum(dt, duration - state.current_time).clamp_min(0)
        if config.integrator_mode == "gated":
            passing, rejected = gated_step(states, at_least_1d(dt), config.energy_threshold)
            dt, forces = passing.reshape(dt.shape), forces + int(rejected.max())
        if history is not None:
            history.push(state)
        states = _advance(state, states, at_least_1d(dt))
        state.dt = dt
        state.current_time = state.current_time + dt
        recorded.append(_recorded(state))
        steps.append(dt)
        if len(recorded) > most:
            raise SimulationImpossible(
                f"no more than {most} states are kept; end earlier (steps, duration, Nperiod)"
            )
        watcher.tick()
    return _measured(particle, recorded, steps, forces + len(steps))


def _rule(config: Config, stepper: Stepper | None) -> tuple[StepRule, HistoryBuffer | None]:
    mode = config.integrator_mode
    if mode == "fixed":
        if config.dt is None:
            raise SimulationImpossible("integrator_mode 'fixed' needs dt")
        fixed = config.dt
        return (lambda state: torch.full_like(state.current_time, fixed)), None
    if mode == "analytic" or (stepper is None and mode in {"gated", "reversible"}):
        return (
            lambda state: config.eta * free_fall_time(state.position, state.mass, state.softening)
        ), None
    if stepper is None:
        raise SimulationImpossible(f"integrator_mode {mode!r} needs a trained stepper")
    if mode == "history" and not stepper.adapter.history_enabled:
        raise SimulationImpossible("integrator_mode 'history' needs a stepper trained with history")
    scale = config.dt_scale
    if not stepper.adapter.history_enabled:
        if mode == "reversible":
            return (lambda state: scale * _time_even(stepper, state)), None
        return (lambda state: scale * stepper.of_particle(state)), None
    if mode == "reversible":
        raise SimulationImpossible(
            "integrator_mode 'reversible' needs a stepper trained without history"
        )
    history = HistoryBuffer(stepper.config.history_len, stepper.config.feature_type)
    return (lambda state: scale * stepper.of_particle(state, history)), history


def _time_even(stepper: Stepper, state: ParticleTorch) -> Tensor:
    dt = time_even_step(stepper, States.of(state))
    return dt if state.is_batch else dt.squeeze(0)


def _duration(config: Config, state: ParticleTorch) -> Tensor | None:
    """Time () or (B,) at which the run ends, if time ends it."""
    if config.duration is not None:
        return torch.full_like(state.current_time, config.duration)
    if config.steps is None and state.period is not None:
        return config.Nperiod * state.period.expand(state.current_time.shape)
    return None


def _is_over(state: ParticleTorch, duration: Tensor | None) -> bool:
    if duration is None:
        return False
    return bool((state.current_time >= duration * (1 - 1e-12)).all())


def _advance(state: ParticleTorch, states: States, dt: Tensor) -> States:
    """Move `state` by one KDK step; the force at its end serves the next step."""
    step = states.step(dt)
    after = states.after(step)
    shape = state.position.shape
    state.position = step.position.reshape(shape)
    state.velocity = step.velocity.reshape(shape)
    state.acceleration = step.acceleration.reshape(shape)
    return after


class _Recorded(NamedTuple):
    """What is kept of a state."""

    time: Tensor
    position: Tensor
    velocity: Tensor


def _recorded(state: ParticleTorch) -> _Recorded:
    found = state.current_time, state.position, state.velocity
    return _Recorded(*(tensor.detach().clone() for tensor in found))


def _measured(
    first: ParticleTorch, recorded: list[_Recorded], steps: list[Tensor], force_evaluations: int
) -> Simulation:
    time, position, velocity = (torch.stack(series) for series in zip(*recorded, strict=True))
    mass, softening, field = first.mass, first.softening, first.external_field
    energy = torch.stack([energies(x, v, mass, softening, field).total for _, x, v in recorded])
    total_momentum = momentum(velocity, mass)
    spin = angular_momentum(position, velocity, mass)
    tiny = torch.finfo(position.dtype).tiny
    momentum_scale = (mass * lengths(velocity[0])).sum(-1)
    reach = lengths(position[0])
    speed = lengths(velocity[0])
    spin_scale = (mass * reach * speed).sum(-1)
    return Simulation(
        time,
        position,
        velocity,
        mass,
        torch.stack(steps) if steps else position.new_zeros(0, *first.current_time.shape),
        (energy - energy[0]).abs() / energy[0].abs(),
        lengths(total_momentum - total_momentum[0]) / momentum_scale.clamp_min(tiny),
        lengths(spin - spin[0]) / spin_scale.clamp_min(tiny),
        force_evaluations,
    )
