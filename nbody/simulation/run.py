"""Integrate a system with a stepping rule, and report what the run kept and what it cost.

Legend: B systems, N particles, D dimensions, K recorded states.
"""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nbody.config import Config
from nbody.errors import SimulationImpossible
from nbody.gravity.invariants import angular_momentum, momentum
from nbody.gravity.vectors import lengths
from nbody.particle import ParticleTorch
from nbody.simulation.integration import check_systems, integrate
from nbody.simulation.rules import rule_of
from nbody.stepper import Stepper
from nbody.watcher import NoWatcher, Watcher

DEFAULT_STEPS = 10_000
MOST_NUMBERS = 2**27  # of all recorded states: a gigabyte
NUMBERS_OF_OVERHEAD = 200  # what a state's small tensors take besides their numbers


@dataclass(frozen=True)
class Simulation:
    """A finished run: K recorded states, the initial one first, and what was conserved.

    Residuals are relative: |E - E0| / |E0|, and |p - p0| and |L - L0| over the largest Σ m|v| and
    Σ m|r||v| of the run.
    """

    time: Float[Tensor, " K *B"]  # or (K, B)
    position: Float[Tensor, "K *B N D"]
    velocity: Float[Tensor, "K *B N D"]
    mass: Float[Tensor, "*B N"]
    dt: Float[Tensor, " steps *B"]  # or (K - 1, B)
    energy_error: Float[Tensor, " K *B"]  # or (K, B)
    momentum_error: Float[Tensor, " K *B"]
    angular_momentum_error: Float[Tensor, " K *B"]
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
    start = particle.batched().clone_detached()
    start = start.replace(
        energy_threshold=torch.full_like(start.current_time, config.energy_threshold)
    )
    states, time, span = start.states(), start.current_time, _span(config, start)
    recorded = [_Recorded(time, states.position, states.velocity, states.energy)]
    steps: list[Tensor] = []
    forces = 1
    watcher = watcher or NoWatcher()
    most = max(2, MOST_NUMBERS // (2 * states.position.numel() + NUMBERS_OF_OVERHEAD))
    limit = config.steps or (DEFAULT_STEPS if span is None else None)
    run = integrate(states, rule, span, time=time, last_dt=start.dt.expand(time.shape))
    for states, time, dt, rejected in islice(run, limit):
        check_systems(states.energy.isfinite(), states)
        recorded.append(_Recorded(time, states.position, states.velocity, states.energy))
        steps.append(dt)
        forces += rule.repeats * (1 + int(rejected.max()))
        if len(recorded) > most:
            raise SimulationImpossible(
                f"no more than {most} states are kept; end earlier (steps, duration, Nperiod)"
            )
        watcher.tick()
    return _measure(particle, recorded, steps, forces)


def _span(config: Config, start: ParticleTorch) -> Tensor | None:
    """Time (B,) at which the run ends, if time ends it."""
    if config.duration is not None:
        return torch.full_like(start.current_time, config.duration)
    if config.steps is None and start.period is not None:
        return config.Nperiod * start.period.expand(start.current_time.shape)
    return None


class _Recorded(NamedTuple):
    """What is kept of a state: (B,), (B, N, D) twice, (B,)."""

    time: Tensor
    position: Tensor
    velocity: Tensor
    energy: Tensor


def _measure(
    first: ParticleTorch, recorded: list[_Recorded], steps: list[Tensor], force_evaluations: int
) -> Simulation:
    series = [torch.stack(values) for values in zip(*recorded, strict=True)]
    series.append(torch.stack(steps) if steps else series[0][:0])
    if not first.is_batch:
        series = [values.squeeze(1) for values in series]
    time, position, velocity, energy, dt = series
    mass = first.mass
    total_momentum = momentum(velocity, mass)
    spin = angular_momentum(position, velocity, mass)
    tiny = torch.finfo(position.dtype).tiny
    speed = lengths(velocity)  # (K, ..., N)
    momentum_scale = (mass * speed).sum(-1).amax(0)
    spin_scale = (mass * lengths(position) * speed).sum(-1).amax(0)
    return Simulation(
        time,
        position,
        velocity,
        mass,
        dt,
        (energy - energy[0]).abs() / energy[0].abs(),
        lengths(total_momentum - total_momentum[0]) / momentum_scale.clamp_min(tiny),
        lengths(spin - spin[0]) / spin_scale.clamp_min(tiny),
        force_evaluations,
    )
