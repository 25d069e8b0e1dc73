"""The loop over the steps of a run; who consumes it records, counts or measures.

Legend: B systems.
"""

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nbody.errors import SimulationImpossible, StepImpossible
from nbody.integrators.gated_step import halve_until_passing
from nbody.integrators.states import States
from nbody.simulation.rules import Rule
from nbody.simulation.time_symmetry import symmetric_step

SHRINK, REGROW = 0.8, 1.05  # of a gated step that fails, and of those after one that passes


class Advance(NamedTuple):
    """One step of all systems."""

    states: States  # after it
    time: Float[Tensor, " B"]  # after it
    dt: Float[Tensor, " B"]  # 0 for systems that have covered their time
    rejected: Float[Tensor, " B"]  # steps that the gate refused before


def integrate(
    states: States,
    rule: Rule,
    span: Float[Tensor, " B"] | None = None,
    *,
    time: Float[Tensor, " B"] | None = None,
    last_dt: Float[Tensor, " B"] | None = None,
    look_every: int = 1,
) -> Iterator[Advance]:
    """The steps of B systems, each with its own, until all have covered their time.

    Args:
        span: (B,) time at which each system rests; without it there is no end.
        time: (B,) at the beginning; zero where it is left out.
        last_dt: (B,) steps that led to the states; zero where it is left out.
        look_every: steps between two looks at whether all is over or has failed. A look waits for
            the device.

    Raises:
        StepImpossible: the rule's step is not finite or not above zero, or none passes the gate.
        SimulationImpossible: a step is too small for the clock.
    """
    time = torch.zeros_like(states.energy) if time is None else time
    last_dt = torch.zeros_like(states.energy) if last_dt is None else last_dt
    previous: Tensor | None = None
    share = torch.ones_like(states.energy)  # of the rule's step that passed the gate
    for number in count():
        looks = number % look_every == 0
        if looks and span is not None and bool((time >= span * (1 - 1e-12)).all()):
            return
        dt = rule.steps(states, last_dt)
        if rule.reversible:
            dt = previous = symmetric_step(dt, dt if previous is None else previous)
        if looks:
            check_systems(dt.isfinite() & (dt > 0), states)
            _check_clock(rule.repeats * dt, time, span)
        asked = dt
        if rule.gate is not None:
            dt = share * dt
        if span is not None:
            dt = torch.minimum(dt, (span - time) / rule.repeats).clamp_min(0)
        rejected = torch.zeros_like(dt)
        if rule.gate is not None:
            dt, step, rejected, impossible = halve_until_passing(
                states, dt, rule.gate, rule.repeats, resting=dt == 0, shrink=SHRINK
            )
            check_systems(~impossible, states)
            tried = (dt / asked).nan_to_num(1.0)
            share = torch.where(rejected > 0, tried, share * REGROW).clamp_max(1.0)
        else:
            step = states.step(dt, rule.repeats, gated=False)
        states = states.after(step)
        last_dt, time = dt, time + rule.repeats * dt
        yield Advance(states, time, dt, rejected)


def _check_clock(dt: Tensor, time: Tensor, span: Tensor | None) -> None:
    """A step that is lost in the rounding of its time, or of the whole span, leads nowhere."""
    horizon = time if span is None else torch.where(time < span, span, 0.0)
    stuck = dt < torch.finfo(time.dtype).eps * horizon
    if bool(stuck.any()):
        raise SimulationImpossible(
            f"the clock stands still at t = {float(time[stuck][0]):g} with steps of "
            f"{float(dt[stuck][0]):g}: a singular encounter, or units that do not fit (G)"
        )


def check_systems(fine: Bool[Tensor, " B"], states: States) -> None:
    """Raises StepImpossible with the systems that a mask (B,) does not pick."""
    if not bool(fine.all()):
        failed = cast(list[int], (~fine).nonzero().squeeze(1).tolist())
        threshold = 0.0 if states.threshold is None else float(states.threshold.max())
        raise StepImpossible(failed, threshold)
