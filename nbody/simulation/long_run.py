"""What a stepping rule costs, and what it keeps, over many orbits.

A threshold on the error of one step does not bound the error of a run: both are reported. Nothing
is recorded on the way, so that a run may be as long as one likes.

Legend: B systems.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nbody.errors import StepImpossible
from nbody.integrators.gated_step import gated_step
from nbody.integrators.states import States
from nbody.simulation.time_symmetry import symmetric_step

Rule = Callable[[States], Tensor]
LOOK_EVERY = 64  # steps between looks at whether all systems are done
MOST_STEPS = 20_000_000


@dataclass(frozen=True)
class LongRun:
    """The outcome of a run of each system, (B,) each; energy errors are relative."""

    force_evaluations: Tensor
    max_energy_error: Tensor
    final_energy_error: Tensor


@torch.no_grad()
def long_run(
    states: States,
    rule: Rule,
    span: Tensor,
    *,
    gate: float | None = None,
    reversible: bool = False,
) -> LongRun:
    """Integrate B systems for the times `span` (B,), each with its own steps.

    Args:
        rule: states → steps (B,).
        gate: halve every step until its relative energy error is under this; rejected steps cost
            their force evaluations.
        reversible: symmetrize the rule in time, which must be even in it.

    Raises:
        StepImpossible: a step is not finite, or none passes the gate.
    """
    start, clock = states.energy, torch.zeros_like(states.energy)
    forces, largest = torch.ones_like(clock), torch.zeros_like(clock)
    previous = rule(states)
    for count in range(MOST_STEPS):
        if count % LOOK_EVERY == 0 and bool((clock >= span * (1 - 1e-12)).all()):
            break
        if count % LOOK_EVERY == 0 and not bool(clock.isfinite().all()):
            raise StepImpossible((~clock.isfinite()).nonzero().squeeze(1).tolist(), gate or 0.0)
        dt = symmetric_step(rule(states), previous) if reversible else rule(states)
        previous = dt
        dt = torch.minimum(dt, span - clock).clamp_min(0)
        if gate is not None:
            dt, rejected = gated_step(states, dt, gate)
            forces = forces + rejected
        states = states.after(states.step(dt))
        forces = forces + (dt > 0)
        clock = clock + dt
        largest = torch.maximum(largest, ((states.energy - start) / start).abs())
    else:
        raise StepImpossible([], gate or 0.0)
    return LongRun(forces, largest, ((states.energy - start) / start).abs())
