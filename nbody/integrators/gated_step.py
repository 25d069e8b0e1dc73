"""A step that passes the energy gate, without a network to retrain: halve it until it does.

Legend: B systems.
"""

import torch
from torch import Tensor

from nbody.errors import StepImpossible
from nbody.integrators.states import States

HALVINGS = 200


def gated_step(
    states: States, dt: Tensor, threshold: float, n_steps: int = 1
) -> tuple[Tensor, Tensor]:
    """Steps (B,) that pass, and how many were rejected for each system (B,).

    Steps of zero are those of systems that rest, and pass.

    Raises:
        StepImpossible: none passes.
    """
    rejected, fails = torch.zeros_like(dt), torch.zeros_like(dt, dtype=torch.bool)
    for _ in range(HALVINGS):
        fails = ~(states.step(dt, n_steps).energy_error < threshold) & (dt > 0)
        if not bool(fails.any()):
            return dt, rejected
        rejected, dt = rejected + fails, torch.where(fails, dt / 2, dt)
    raise StepImpossible(fails.nonzero().squeeze(1).tolist(), threshold)
