"""States along systems that a stepper was not trained on, and the oracle's step at each.

Legend: B systems, K states of each; N particles, D dimensions.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nbody.config import Config
from nbody.config.size import STATES_PER_SYSTEM
from nbody.gravity.free_fall import free_fall_time
from nbody.gravity.vectors import as_like
from nbody.history_buffer import HistoryBuffer
from nbody.initial_conditions.conics import (
    farthest_anomaly,
    mean_anomaly,
    mean_anomaly_slope,
    mean_motion,
)
from nbody.initial_conditions.draws import draw_elements, draw_masses, draw_thresholds
from nbody.initial_conditions.from_config import initial_particle
from nbody.initial_conditions.kepler import kepler_orbits
from nbody.initial_conditions.renewal import crossing_time
from nbody.integrators.oracle import first_crossing
from nbody.integrators.states import States
from nbody.model_adapter import gate_threshold
from nbody.particle import ParticleTorch
from nbody.stepper import Stepper
from nbody.watcher import NoWatcher, Watcher

HELD_OUT_SEED = 0x5EED_0FF0  # xor-ed into the seed: never the seed of a training draw
SAMPLING_ETA = 0.05  # of the free-fall time, to walk along systems without a closed form
MAX_WALK_STEPS = 200_000
PAIRS_AT_ONCE = 2**18  # of particles, in memory

Predict = Callable[["HeldOut"], Tensor]


@dataclass(frozen=True)
class HeldOut:
    """States along held-out systems, and the oracle's step at each."""

    states: States  # (B·K, ...), with thresholds
    system: Int[Tensor, " T"]  # index of the system that each state belongs to
    weight: Float[Tensor, " T"]  # time that each state stands for
    dt_star: Float[Tensor, " T"]
    n_steps: int

    @property
    def threshold(self) -> Float[Tensor, " T"]:
        """The gate's threshold (B·K,) of each state."""
        return cast(Tensor, self.states.threshold)

    def take(self, index: Int[Tensor, " A"] | Bool[Tensor, " T"]) -> "HeldOut":
        """The states that a mask picks."""
        return HeldOut(
            self.states.take(index),
            self.system[index],
            self.weight[index],
            self.dt_star[index],
            self.n_steps,
        )

    def halves(self) -> "tuple[HeldOut, HeldOut]":
        """The states of every other system, and the rest; all of them twice, of a single system."""
        if self.systems == 1:
            return self, self
        return self.take(self.system % 2 == 0), self.take(self.system % 2 == 1)

    @property
    def systems(self) -> int:
        """B, how many systems the states are of."""
        return int(self.system.max()) + 1

    def each(self, function: Predict) -> Float[Tensor, " T"]:
        """`function` of all states (B·K,), evaluated for some of them at a time."""
        parts = self.states.parts(PAIRS_AT_ONCE)
        return torch.cat([function(self.take(rows)) for rows in parts])

    def efficiency(self, dt: Float[Tensor, " T"]) -> float:
        """η of steps dt (B·K,)."""
        oracle = (self.weight / self.dt_star).sum()
        return float(oracle / (self.weight / dt).sum())

    def violation_rate(self, dt: Float[Tensor, " T"]) -> float:
        """Share of steps dt whose energy error is at the threshold or above."""
        return self.violations(dt) / len(dt)

    def violations(self, dt: Float[Tensor, " T"]) -> int:
        """How many steps dt have an energy error at the threshold or above."""
        return int((~(self.energy_errors(dt) < self.threshold)).sum())

    def energy_errors(self, dt: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """The relative energy error (T,) of one step dt from each state."""
        parts = self.states.parts(PAIRS_AT_ONCE)
        steps = [self.states.take(rows).step(dt[rows], self.n_steps) for rows in parts]
        return torch.cat([step.energy_error for step in steps])

    def overshoot_rate(self, dt: Float[Tensor, " T"]) -> float:
        """Share of steps dt beyond the first crossing."""
        return float((dt > self.dt_star).double().mean())


def held_out_states(
    config: Config,
    *,
    seed: int,
    systems: int,
    data_folder: Path | None = None,
    watcher: Watcher | None = None,
) -> HeldOut:
    """States along systems of the config's population that training never draws.

    Kepler orbits are sampled uniformly in eccentric anomaly, other systems uniformly in time; each
    state carries the time that it stands for. Violations are counted state by state. The config's
    hard systems are none of them.
    """
    seed ^= HELD_OUT_SEED
    config = config.model_copy(update={"hard_systems": None})
    watcher = watcher or NoWatcher()
    if config.initial_conditions in {"kepler", "kepler_ensemble"}:
        particle, weight = _kepler_states(config, seed, systems)
        system = torch.arange(len(weight), device=weight.device) // STATES_PER_SYSTEM
    else:
        particle, weight, system = _walked_states(config, seed, systems, data_folder, watcher)
    states = particle.states()
    threshold = as_like(gate_threshold(states, config), weight).expand(len(weight))
    states = replace(states, threshold=threshold)
    dt_star = first_crossing(states, threshold, config.n_steps, watcher)
    return HeldOut(states, system, weight, dt_star, config.n_steps)


def _kepler_states(config: Config, seed: int, systems: int) -> tuple[ParticleTorch, Tensor]:
    """K states of each orbit, uniform in its anomaly w, which resolves the pericentre.

    A state stands for the time dt = (dM/dw) dw / n, M the mean anomaly and n the mean motion.
    Unbound orbits are followed from fifty pericentres in to fifty out.
    """
    generator = torch.Generator().manual_seed(seed)
    orbits = draw_elements(config, systems, generator)
    mass = draw_masses(config, systems, generator)
    threshold = draw_thresholds(config, (systems,), generator)
    place = torch.arange(STATES_PER_SYSTEM, dtype=torch.float64) + orbits.phase.unsqueeze(1)
    e = orbits.eccentricity.unsqueeze(1).expand(place.shape)
    width = 2 / STATES_PER_SYSTEM * farthest_anomaly(e)  # of dw; an ellipse goes all around
    anomaly = torch.where(e < 1, place, place - STATES_PER_SYSTEM / 2) * width  # (B, K)
    motion = mean_motion(orbits.eccentricity, orbits.semi_major, mass.sum(1)).unsqueeze(1)
    weight = mean_anomaly_slope(anomaly, e) * width / motion  # (B, K)

    def each(values: Tensor) -> Tensor:
        return values.repeat_interleave(STATES_PER_SYSTEM, dim=0)

    bare = kepler_orbits(
        each(orbits.eccentricity),
        each(orbits.semi_major),
        mean_anomaly(anomaly, e).flatten(),
        each(mass),
        config.dim,
        each(orbits.pericentre_angle),
    )
    like = initial_particle(config, seed=seed)
    particle = ParticleTorch(
        bare.mass.to(like.mass),
        bare.position.to(like.position),
        bare.velocity.to(like.velocity),
        softening=like.softening,
        external_field=like.external_field,
        energy_threshold=None if threshold is None else each(threshold).to(like.position),
        gate=like.gate,
        integrator=like.integrator,
    )
    return particle, weight.flatten().to(like.position)


def _walked_states(
    config: Config, seed: int, systems: int, data_folder: Path | None, watcher: Watcher
) -> tuple[ParticleTorch, Tensor, Tensor]:
    """Walk along each system with small steps and keep K states at equal time intervals.

    The walk covers one period where it is known, else one crossing time or the systems' lifetime.
    """
    several = {"num_systems": systems} if config.is_drawn else {}
    population = config.model_copy(update=several)
    walker = initial_particle(population, seed=seed, data_folder=data_folder).batched()
    states = walker.states()
    crossings = config.lifetime or 1.0
    span = crossings * crossing_time(walker) if walker.period is None else walker.period
    interval = span / STATES_PER_SYSTEM
    clock, due = torch.zeros_like(span), torch.zeros_like(span)
    count = torch.zeros(len(states), dtype=torch.long, device=span.device)
    kept = walker.select(torch.arange(len(states)).repeat_interleave(STATES_PER_SYSTEM))
    walking = torch.arange(len(states), device=span.device)
    for _ in range(MAX_WALK_STEPS):
        ready = walking[clock[walking] >= due[walking]]
        if len(ready):
            place = ready * STATES_PER_SYSTEM + count[ready]
            kept.position[place] = states.position[ready]
            kept.velocity[place] = states.velocity[ready]
            due[ready] += interval[ready]
            count[ready] += 1
            walking = walking[count[walking] < STATES_PER_SYSTEM]
        if not len(walking):
            break
        here = states.take(walking)
        dt = SAMPLING_ETA * free_fall_time(here.position, here.mass, here.softening)
        late = (due - clock)[walking].clamp_min(0) + 1e-12 * span[walking]
        dt = torch.minimum(dt, late)
        clock[walking] += dt
        states = states.replaced(walking, here.after(here.step(dt)))
        watcher.tick()
    else:
        warnings.warn(
            f"{len(walking)} of {len(states)} held-out systems were followed for the first part of "
            f"their time only, which {MAX_WALK_STEPS} steps covered",
            stacklevel=4,
        )
    place = torch.arange(len(kept.position), device=span.device)
    owner = place // STATES_PER_SYSTEM
    reached = place % STATES_PER_SYSTEM < count[owner]
    return kept.select(reached), interval[owner[reached]], owner[reached]


def predicted_steps(stepper: Stepper, part: HeldOut) -> Float[Tensor, " T"]:
    """What the network says, also of states that are not like those of its training."""
    return stepper.of_states(*_asked(stepper, part), network_alone=True)


def known_states(stepper: Stepper, part: HeldOut) -> Bool[Tensor, " T"]:
    """Which states are like those that the network was trained on."""
    return stepper.knows(*_asked(stepper, part))


def _asked(stepper: Stepper, part: HeldOut) -> tuple[States, Tensor, HistoryBuffer | None]:
    """What a stepper is shown; one that uses history sees the past that oracle steps would have
    left.
    """
    states = part.states
    if not stepper.adapter.history_enabled:
        return states, torch.zeros_like(part.dt_star), None
    history = HistoryBuffer(stepper.config.history_len, stepper.config.feature_type)
    past: list[tuple[States, Tensor]] = []
    backward = states.reversed()
    for _ in range(stepper.config.history_len):
        backward = backward.after(backward.step(part.dt_star, part.n_steps))
        past.append((backward.reversed(), part.dt_star))
    for earlier, last_dt in reversed(past):
        history.push_states(earlier, last_dt)
    return states, part.dt_star, history
