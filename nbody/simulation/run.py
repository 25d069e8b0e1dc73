"""Integrate a system with a stepping rule, and report what the run kept and what it cost.

Legend: B systems, N particles, D dimensions, K recorded states.
"""

from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from nbody.config import Config
from nbody.config.plausibility import MOST_PARTICLES, doubts
from nbody.errors import SimulationImpossible
from nbody.gravity.force import counted_forces
from nbody.integrators.states import States
from nbody.particle import ParticleTorch
from nbody.simulation.finished import Simulation
from nbody.simulation.integration import check_systems, integrate
from nbody.simulation.progress import Progress
from nbody.simulation.recording import AtTimes, EveryStep, most_states
from nbody.simulation.rules import rule_of
from nbody.stepper import Stepper
from nbody.watcher import NoWatcher, Watcher

DEFAULT_STEPS = 10_000
OUTPUTS = 1_000_000  # most that output_every may ask for


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
    with counted_forces() as count:
        found = _run(config, particle, stepper, watcher or NoWatcher())
    forces = round(count.systems / particle.batched().position.shape[0])
    return replace(
        found,
        force_evaluations=forces,
        rule=config.integrator_mode,
        threshold=config.energy_threshold,
        doubts=_doubts(particle, config),
    )


def _run(
    config: Config, particle: ParticleTorch, stepper: Stepper | None, watcher: Watcher
) -> Simulation:
    rule = rule_of(config, stepper)
    backward = config.duration is not None and config.duration < 0
    start = particle.batched().clone_detached()
    start = start.replace(
        energy_threshold=torch.full_like(start.current_time, config.energy_threshold),
        velocity=-start.velocity if backward else start.velocity,
        current_time=torch.zeros_like(start.current_time),
    )
    states, time, span = start.states(), start.current_time, _span(config, start)
    kept = _recorder(config, states, time, span, rule.repeats)
    looks = states.gate == "each" and rule.repeats == 1
    progress = Progress(states, time, every_body=looks)
    limit = config.steps or (DEFAULT_STEPS if span is None else None)
    asked_before = 0 if stepper is None else stepper.outside
    run = integrate(states, rule, span, time=time, last_dt=start.dt.expand(time.shape))
    for step in islice(run, limit):
        check_systems(step.states.energy.isfinite(), step.states)
        kept.step(states, step.states, time, step.time)
        progress.step(states, step)
        states, time = step.states, step.time
        watcher.tick()
    outside = 0 if stepper is None else stepper.outside - asked_before
    sign = -1.0 if backward else 1.0
    found = progress.finished(particle, kept.kept, outside, config.newton, sign)
    return found.reversed() if backward else found


def _doubts(particle: ParticleTorch, config: Config) -> list[str]:
    """What is strange about a system that somebody gave."""
    if particle.is_batch or len(particle.mass) > MOST_PARTICLES:
        return []
    mass = particle.mass.unsqueeze(1) / config.newton
    rows = torch.cat((mass, particle.position, particle.velocity), dim=1)
    return doubts(rows.tolist(), config.newton, config.dt)


def _span(config: Config, start: ParticleTorch) -> Tensor | None:
    """Time (B,) at which the run ends, if time ends it."""
    if config.duration is not None:
        return torch.full_like(start.current_time, abs(config.duration))
    if config.steps is None and start.period is not None:
        return config.Nperiod * start.period.expand(start.current_time.shape)
    return None


def _recorder(
    config: Config, states: States, time: Tensor, span: Tensor | None, repeats: int
) -> EveryStep | AtTimes:
    """Keeps what the config asks for: every state, or those at its output times."""
    if config.output_times is not None:
        times = torch.tensor(config.output_times, dtype=time.dtype, device=time.device)
        return AtTimes(states, time, times, repeats)
    if config.output_every is None:
        return EveryStep(states, time)
    most = min(OUTPUTS + 1, most_states(states))
    ends = None if span is None else float(span.max())
    count = most if ends is None else ends / config.output_every * (1 + 1e-12) + 1
    if count > most:
        raise SimulationImpossible(
            f"output_every {config.output_every:g} asks for {count:.2g} states of the {most} that "
            "can be kept: raise it"
        )
    order = torch.arange(int(count), dtype=time.dtype, device=time.device)
    return AtTimes(states, time, order * config.output_every, repeats)
