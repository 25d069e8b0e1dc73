"""Integrate a system with a stepping rule, and report what the run kept and what it cost.

Legend: B systems, N particles, D dimensions, K recorded states.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nbody.config import Config
from nbody.config.particle_file import HDF5
from nbody.gravity.invariants import Energies, angular_momentum, kinetic_energy, momentum
from nbody.gravity.vectors import lengths
from nbody.integrators.each_body import dominant_neighbour
from nbody.integrators.states import States
from nbody.particle import ParticleTorch
from nbody.simulation.integration import Advance, check_systems, integrate
from nbody.simulation.measures import (
    MOST_ORBITS,
    MOST_SYSTEMS,
    closest_encounter,
    osculating_orbits,
    plain,
    run_warnings,
)
from nbody.simulation.recording import AtTimes, EveryStep, Recorded
from nbody.simulation.rules import rule_of
from nbody.stepper import Stepper
from nbody.watcher import NoWatcher, Watcher

DEFAULT_STEPS = 10_000
LOOK_AT_BODIES_EVERY = 8  # steps, with one more force each time
OUTPUTS = 1_000_000  # most that output_every may ask for


@dataclass(frozen=True)
class Simulation:
    """A finished run: K recorded states, the initial one first, and what was conserved.

    Residuals are relative: |E - E0| / |E0|, and |p - p0| and |L - L0| over the largest Σ m|v| and
    Σ m|r||v| of the run. Where E0 is small against K0 + |U0|, as on a parabola, energy errors are
    relative to that sum.

    Attributes:
        largest_energy_error: after any step, recorded or not.
        body_errors: the largest relative error that one step made to the orbit of each body, of
            the steps that were looked at; None where the gate is on the total energy alone.
        outside: predictions for states that the stepper was not trained on.
    """

    time: Float[Tensor, " K *B"]  # or (K, B)
    position: Float[Tensor, "K *B N D"]
    velocity: Float[Tensor, "K *B N D"]
    mass: Float[Tensor, "*B N"]
    dt: Float[Tensor, " steps *B"]  # or (steps, B)
    energy: Float[Tensor, " K *B"]  # in the frame of the centre of mass
    energy_error: Float[Tensor, " K *B"]  # or (K, B)
    momentum_error: Float[Tensor, " K *B"]
    angular_momentum_error: Float[Tensor, " K *B"]
    largest_energy_error: Float[Tensor, "*B"]
    parabolic: bool
    body_errors: Float[Tensor, "*B N"] | None
    force_evaluations: int
    outside: int
    newton: float = 1.0  # G in the units of the states

    @property
    def steps(self) -> int:
        """Steps taken."""
        return len(self.dt)

    def report(self) -> dict[str, Any]:
        """Steps, cost, and the largest and the final residual of each conserved quantity.

        Besides, for each of the first 32 systems, what it began and ended with, and where there are
        no more than 32 bodies the orbit of each about the neighbour that dominates it and the
        closest encounter; warnings.
        """
        found: dict[str, Any] = {
            "steps": self.steps,
            "force_evaluations": self.force_evaluations,
            "final_time": float(self.time[-1].abs().max() * self.time[-1].flatten()[0].sign()),
        }
        for name in ("energy_error", "momentum_error", "angular_momentum_error"):
            residual: Tensor = getattr(self, name)
            found[f"max_{name}"] = float(residual.max())
            found[f"final_{name}"] = float(residual[-1].max())
        found["max_energy_error"] = float(self.largest_energy_error.max())
        relative = "kinetic_and_potential_energy" if self.parabolic else "energy"
        found["energy_error_relative_to"] = relative
        if self.body_errors is not None:
            errors = self.body_errors.reshape(-1, self.mass.shape[-1]).amax(0)
            found["worst_body"] = self._lighter(int(errors.argmax()))
            found["worst_body_step_error"] = float(errors.max())
        found["steps_outside_training"] = self.outside
        found["systems"] = [self._system(row) for row in self._rows()[:MOST_SYSTEMS]]
        found["warnings"] = run_warnings(found["max_energy_error"], self.outside, self.steps)
        return found

    def save(self, path: Path) -> None:
        """Write the states as an npz file that needs no pickle to read, or as HDF5 (.h5, .hdf5).

        Raises:
            ModuleNotFoundError: h5py is not installed.
        """
        names = ("time", "position", "velocity", "mass", "dt", "energy_error")
        arrays = {name: getattr(self, name).cpu().numpy() for name in names}
        if path.suffix not in HDF5:
            np.savez_compressed(path, **arrays)
            return
        h5py: Any = import_module("h5py")
        with h5py.File(path, "w") as file:
            file.attrs["G"] = self.newton
            for name, values in arrays.items():
                file.create_dataset(name, data=values)

    def _lighter(self, body: int) -> int:
        """Of a body and the neighbour whose orbit it shares, the one that has less mass."""
        position = self.position[-1].reshape(-1, *self.position.shape[-2:])[0]
        mass = self.mass.reshape(-1, self.mass.shape[-1])[0]
        other = int(dominant_neighbour(position, mass)[body])
        return body if mass[body] <= mass[other] else other

    def _rows(self) -> "Sequence[Simulation]":
        """The run of each system."""
        if self.time.dim() == 1:
            return [self]
        series = ("time", "position", "velocity", "dt", "energy", "energy_error")
        series += ("momentum_error", "angular_momentum_error")

        def of(system: int) -> Simulation:
            parts: dict[str, Any] = {name: getattr(self, name)[:, system] for name in series}
            bodies = None if self.body_errors is None else self.body_errors[system]
            largest = self.largest_energy_error[system]
            return replace(
                self,
                **parts,
                mass=self.mass[system],
                largest_energy_error=largest,
                body_errors=bodies,
            )

        return [of(system) for system in range(min(self.time.shape[1], MOST_SYSTEMS))]

    def _system(self, one: "Simulation") -> dict[str, Any]:
        ends = [0, -1]
        total = momentum(one.velocity[ends], one.mass)
        spin = angular_momentum(one.position[ends], one.velocity[ends], one.mass)
        known: dict[str, Any] = {
            "final_time": float(one.time[-1]),
            "energy": plain(one.energy[ends]),
            "max_energy_error": float(one.largest_energy_error),
            "signed_energy_error": float((one.energy[-1] - one.energy[0]) * _sign_of(one)),
            "momentum": plain(total),
            "angular_momentum": plain(spin),
        }
        if one.mass.shape[-1] * len(self._rows()) <= MOST_ORBITS:
            known["closest"] = closest_encounter(one.time, one.position)
            first, last = (
                osculating_orbits(one.position[k], one.velocity[k], one.newton * one.mass)
                for k in ends
            )
            known["orbits"] = {"initial": first, "final": last}
        return known


def _sign_of(one: Simulation) -> float:
    """What an energy's change is multiplied by to be relative, with its sign."""
    change = (one.energy[-1] - one.energy[0]).abs()
    return float(one.energy_error[-1] / change) if float(change) > 0 else 0.0


def simulate(
    config: Config,
    particle: ParticleTorch,
    stepper: Stepper | None = None,
    *,
    watcher: Watcher | None = None,
) -> Simulation:
    """Integrate `particle`, which is not changed, with the rule `config.integrator_mode`.

    `config.energy_threshold` is what the stepper's steps are for, and the gate of `gated`.

    States come back in the frame in which the particle's rows were given. Ends at `duration`, which
    may be negative, or after `steps` steps, whichever comes first; without either, after
    `Nperiod` periods where the period is known, else after 10,000 steps. Batches advance each
    with its own steps until the slowest has covered the time. A network that sees its past and was
    trained with several KDK steps of one dt (`n_steps`) takes as many at a time here.

    Args:
        stepper: the trained network of the modes `ml` and `history`.
        watcher: ticked with every step.

    Raises:
        SimulationImpossible: the mode needs a step or a stepper that is not there; or the run has
            more states than can be kept.
        StepImpossible: the step or the energy is not finite.
    """
    rule = rule_of(config, stepper)
    backward = config.duration is not None and config.duration < 0
    start = particle.batched().clone_detached()
    start = start.replace(
        energy_threshold=torch.full_like(start.current_time, config.energy_threshold),
        velocity=-start.velocity if backward else start.velocity,
        current_time=torch.zeros_like(start.current_time),
    )
    states, time, span = start.states(), start.current_time, _span(config, start)
    kept = _recorder(config, states, time, span)
    progress = _Progress(states, every_body=states.gate == "each" and rule.repeats == 1)
    watcher = watcher or NoWatcher()
    limit = config.steps or (DEFAULT_STEPS if span is None else None)
    asked_before = 0 if stepper is None else stepper.outside
    run = integrate(states, rule, span, time=time, last_dt=start.dt.expand(time.shape))
    for step in islice(run, limit):
        check_systems(step.states.energy.isfinite(), step.states)
        kept.step(states, step.states, time, step.time)
        progress.step(states, step)
        progress.forces += rule.repeats * (1 + int(step.rejected.max()))
        states, time = step.states, step.time
        watcher.tick()
    outside = 0 if stepper is None else stepper.outside - asked_before
    sign = -1.0 if backward else 1.0
    found = _measure(particle, kept.kept, progress, outside, config.newton, sign)
    return _reversed(found) if backward else found


def _span(config: Config, start: ParticleTorch) -> Tensor | None:
    """Time (B,) at which the run ends, if time ends it."""
    if config.duration is not None:
        return torch.full_like(start.current_time, abs(config.duration))
    if config.steps is None and start.period is not None:
        return config.Nperiod * start.period.expand(start.current_time.shape)
    return None


def _recorder(
    config: Config, states: States, time: Tensor, span: Tensor | None
) -> EveryStep | AtTimes:
    """Keeps what the config asks for: every state, or those at its output times."""
    if config.output_times is not None:
        times = torch.tensor(config.output_times, dtype=time.dtype, device=time.device)
        return AtTimes(states, time, times)
    if config.output_every is None:
        return EveryStep(states, time)
    last = OUTPUTS * config.output_every if span is None else float(span.max())
    count = min(int(last / config.output_every * (1 + 1e-12)) + 1, OUTPUTS)
    order = torch.arange(count, dtype=time.dtype, device=time.device)
    return AtTimes(states, time, order * config.output_every)


class _Progress:
    """What is added up over the steps of a run."""

    def __init__(self, states: States, *, every_body: bool) -> None:
        self.forces = 1
        self.steps: list[Tensor] = []
        kinetic = kinetic_energy(states.velocity, states.mass, states.field)
        energies = Energies(kinetic, states.energy - kinetic)
        whole = energies.kinetic + energies.potential.abs()
        self.parabolic = states.energy.abs() < energies.scale
        self.scale = torch.where(self.parabolic, whole, states.energy.abs())
        self.start = states.energy
        self.largest = torch.zeros_like(states.energy)
        self.body_errors = torch.zeros_like(states.mass) if every_body else None

    def error(self, energy: Tensor) -> Tensor:
        """Relative errors of energies (..., B)."""
        tiny = torch.finfo(energy.dtype).tiny
        return (energy - self.start).abs() / self.scale.clamp_min(tiny)

    def step(self, before: States, step: Advance) -> None:
        """Note a step."""
        self.steps.append(step.dt)
        self.largest = torch.maximum(self.largest, self.error(step.states.energy))
        if self.body_errors is not None and len(self.steps) % LOOK_AT_BODIES_EVERY == 0:
            after = step.states.position, step.states.velocity, step.states.acceleration
            motion = before.position, before.velocity, before.acceleration
            errors = before.orbits().after(motion, after, step.dt).errors()
            self.body_errors = torch.maximum(self.body_errors, errors)
            self.forces += 1


def _measure(
    first: ParticleTorch,
    recorded: list[Recorded],
    progress: _Progress,
    outside: int,
    newton: float,
    sign: float,  # of time
) -> Simulation:
    series = [torch.stack(values) for values in zip(*recorded, strict=True)]
    series.append(torch.stack(progress.steps) if progress.steps else series[0][:0])
    error, largest, bodies = progress.error(series[3]), progress.largest, progress.body_errors
    if not first.is_batch:
        series = [values.squeeze(1) for values in series]
        error, largest = error.squeeze(1), largest.squeeze(0)
        bodies = None if bodies is None else bodies.squeeze(0)
    time, position, velocity, energy, dt = series
    mass = first.mass / newton
    total_momentum = momentum(velocity, mass)
    spin = angular_momentum(position, velocity, mass)
    tiny = torch.finfo(position.dtype).tiny
    speed = lengths(velocity)  # (K, ..., N)
    momentum_scale = (mass * speed).sum(-1).amax(0)
    spin_scale = (mass * lengths(position) * speed).sum(-1).amax(0)
    if first.centre is not None:  # back to the frame in which they came
        place, drift = first.centre
        position = position + place + sign * drift * time[..., None, None]
        velocity = velocity + sign * drift
    return Simulation(
        time,
        position,
        velocity,
        mass,
        dt,
        energy / newton,
        error,
        lengths(total_momentum - total_momentum[0]) / momentum_scale.clamp_min(tiny),
        lengths(spin - spin[0]) / spin_scale.clamp_min(tiny),
        largest,
        bool(progress.parabolic.any()),
        bodies,
        progress.forces,
        outside,
        newton,
    )


def _reversed(run: Simulation) -> Simulation:
    """A run of reversed velocities, as the run back in time that it is."""
    return replace(run, time=-run.time, velocity=-run.velocity, dt=-run.dt)
