"""What is added up over the steps of a run, and the finished run that comes of it.

Legend: B systems, N particles, D dimensions, K states.
"""

from typing import Any

import torch
from torch import Tensor

from nbody.gravity.invariants import Energies, angular_momentum, kinetic_energy, momentum
from nbody.gravity.vectors import lengths
from nbody.integrators.measured_step import orbits_after
from nbody.integrators.states import States
from nbody.particle import ParticleTorch
from nbody.simulation.finished import Series, Simulation
from nbody.simulation.integration import Advance
from nbody.simulation.measures import ClosestEncounters, few_bodies
from nbody.simulation.recording import Recorded

LOOK_AT_BODIES_EVERY = 8  # steps, with more forces each time


class Progress:
    """Of a run of B systems that begins with `states` at `time`."""

    def __init__(self, states: States, time: Tensor, *, every_body: bool) -> None:
        self._steps: list[Tensor] = []
        kinetic = kinetic_energy(states.velocity, states.mass, states.field)
        energies = Energies(kinetic, states.energy - kinetic)
        whole = energies.kinetic + energies.potential.abs()
        self._parabolic = states.energy.abs() < energies.scale
        self._scale = torch.where(self._parabolic, whole, states.energy.abs())
        self._largest = torch.zeros_like(states.energy)
        self._body_errors = torch.zeros_like(states.mass) if every_body else None
        self._first = self._last = Recorded.of(states, time)
        self._closest = ClosestEncounters() if few_bodies(states.mass) else None
        self._look_for_encounters()

    def step(self, before: States, step: Advance) -> None:
        """Note a step."""
        self._steps.append(step.dt)
        self._last = Recorded.of(step.states, step.time)
        self._largest = torch.maximum(self._largest, self._error(step.states.energy))
        self._look_for_encounters()
        if self._body_errors is not None and len(self._steps) % LOOK_AT_BODIES_EVERY == 0:
            errors = orbits_after(
                before.orbits(), before.motion, step.states.motion, step.dt, before.integrator
            ).errors()
            self._body_errors = torch.maximum(self._body_errors, errors)

    def finished(
        self,
        first: ParticleTorch,
        recorded: list[Recorded],
        outside: int,
        newton: float,
        sign: float,
    ) -> Simulation:
        """The run, in the frame and in the units in which its particle was given.

        Args:
            sign: of time.
        """
        ends = [self._first, self._last]
        stacked = [torch.stack(values) for values in zip(*recorded, *ends, strict=True)]
        dt = torch.stack(self._steps) if self._steps else stacked[0][:0]
        tensors = [*stacked, self._error(stacked[3]), dt]
        largest, bodies = self._largest, self._body_errors
        if not first.is_batch:
            tensors = [values.squeeze(1) for values in tensors]
            largest = largest.squeeze(0)
            bodies = None if bodies is None else bodies.squeeze(0)
        *states, error, dt = tensors
        series = _series(first, states, error, newton, sign)
        kept, own = series.states(slice(-2)), series.states(slice(-2, None))
        return Simulation(
            **vars(kept),
            ends=own,
            mass=first.mass / newton,
            dt=dt,
            largest_energy_error=largest,
            parabolic=bool(self._parabolic.any()),
            closest=None if self._closest is None else self._closest.found(),
            body_errors=bodies,
            outside=outside,
            newton=newton,
            field=first.external_field,
        )

    def _error(self, energy: Tensor) -> Tensor:
        """Relative errors of energies (..., B)."""
        tiny = torch.finfo(energy.dtype).tiny
        return (energy - self._first.energy).abs() / self._scale.clamp_min(tiny)

    def _look_for_encounters(self) -> None:
        if self._closest is not None:
            self._closest.see(self._last.time, self._last.position)


def _series(
    first: ParticleTorch, states: list[Tensor], error: Tensor, newton: float, sign: float
) -> Series:
    """States with their residuals, back in the frame in which they came."""
    time, position, velocity, energy = states
    mass: Any = first.mass / newton
    total_momentum = momentum(velocity, mass)
    spin = angular_momentum(position, velocity, mass)
    tiny = torch.finfo(position.dtype).tiny
    speed = lengths(velocity)  # (K, ..., N)
    momentum_scale = (mass * speed).sum(-1).amax(0).clamp_min(tiny)
    spin_scale = (mass * lengths(position) * speed).sum(-1).amax(0).clamp_min(tiny)
    at_first = total_momentum[-2], spin[-2]
    if first.centre is not None:
        place, drift = first.centre
        position = position + place + sign * drift * time[..., None, None]
        velocity = velocity + sign * drift
    return Series(
        time,
        position,
        velocity,
        energy / newton,
        error,
        lengths(total_momentum - at_first[0]) / momentum_scale,
        lengths(spin - at_first[1]) / spin_scale,
    )
