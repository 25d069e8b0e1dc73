"""A step that passes the energy gate, without a network to retrain: halve it until it does.

Legend: B systems.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nbody.integrators.measured_step import Step
from nbody.integrators.states import States


class Halved(NamedTuple):
    """What became of the steps of B systems."""

    dt: Float[Tensor, " B"]
    step: Step  # with these dt
    rejected: Float[Tensor, " B"]  # how often each was halved
    impossible: Bool[Tensor, " B"]  # bool: no step passes, however small


def halve_until_passing(
    states: States,
    dt: Float[Tensor, " B"],
    threshold: Float[Tensor, " B"] | float,
    n_steps: int = 1,
    resting: Bool[Tensor, " B"] | None = None,
    shrink: float = 0.5,
) -> Halved:
    """Halve the steps (B,) whose relative energy error is not under the threshold, until it is.

    A step that is not finite begins again at 1; one that has come down to zero is none.

    Args:
        threshold: one number or (B,).
        n_steps: KDK steps of one dt.
        shrink: what a step that fails is multiplied by.
        resting: (B,) bool, systems that do not move: whatever their step is, it passes.
    """
    rejected = torch.zeros_like(dt)
    while True:
        vanished = dt == 0
        step = states.step(dt, n_steps)
        fails = ~(step.energy_error < threshold) | vanished
        if resting is not None:
            fails = fails & ~resting
        if not bool((fails & ~vanished).any()):
            return Halved(dt, step, rejected, fails)
        rejected = rejected + fails
        dt = torch.where(fails, torch.where(dt.isfinite(), shrink * dt, torch.ones_like(dt)), dt)
