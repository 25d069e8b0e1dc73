"""What a stepping rule costs, and what it keeps, over many orbits.

A threshold on the error of one step does not bound the error of a run: both are reported. Nothing
is recorded on the way, so that a run may be as long as one likes.

Legend: B systems.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.errors import SimulationImpossible
from nbody.integrators.states import States
from nbody.simulation.integration import integrate
from nbody.simulation.rules import Rule

LOOK_EVERY = 64  # steps between looks at whether all systems are done
MOST_STEPS = 20_000_000


@dataclass(frozen=True)
class LongRun:
    """The outcome of a run of each system, (B,) each; energy errors are relative."""

    force_evaluations: Float[Tensor, " B"]
    max_energy_error: Float[Tensor, " B"]
    final_energy_error: Float[Tensor, " B"]


@torch.no_grad()
def long_run(states: States, rule: Rule, span: Float[Tensor, " B"]) -> LongRun:
    """Integrate B systems for the times `span` (B,), each with its own steps.

    Steps that the gate rejects cost their force evaluations, too.

    Raises:
        StepImpossible: a step is not finite, or none passes the gate.
        SimulationImpossible: it takes more than twenty million steps.
    """
    start, energy = states.energy, states.energy
    forces, largest = torch.ones_like(start), torch.zeros_like(start)
    passes = _passes(states, rule)
    for number, step in enumerate(integrate(states, rule, span, look_every=LOOK_EVERY)):
        if number == MOST_STEPS:
            raise SimulationImpossible(f"the run is not over after {MOST_STEPS} steps")
        energy = step.states.energy
        forces = forces + passes * (step.rejected + (step.dt > 0))
        largest = torch.maximum(largest, ((energy - start) / start).abs())
    return LongRun(forces, largest, ((energy - start) / start).abs())


def _passes(states: States, rule: Rule) -> int:
    """Force passes of a step that is tried, with what a gate costs."""
    method = states.integrator.method
    return method.passes + (method.predicts and rule.gate is not None)
