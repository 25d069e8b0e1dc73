"""A prediction's worth of steps, and what they did to the energy and to each body's orbit.

Legend: ... any leading axes (systems), N particles, D dimensions.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nbody.gravity.invariants import Energies
from nbody.gravity.vectors import broadcast_mask
from nbody.integrators.each_body import Orbits
from nbody.integrators.integrator import Integrator
from nbody.integrators.motion import Attraction, Motion

SIMPSON_UP_TO = 2  # order of a step beside which the error of Simpson's rule is small


class Step(NamedTuple):
    """The state after a prediction's worth of steps, and how well they kept the energy."""

    position: Float[Tensor, "*B N D"]
    velocity: Float[Tensor, "*B N D"]
    acceleration: Float[Tensor, "*B N D"]  # of the last force pass
    derivatives: Float[Tensor, "*B 4 N D"] | None  # of an integrator that keeps them
    energy: Float[Tensor, "*B"]  # total, after the step
    scale: Float[Tensor, "*B"]  # what an energy error is relative to, after the step
    energy_error: Float[Tensor, "*B"]  # largest over the steps: what the gate looks at

    def take(self, index: Int[Tensor, " A"]) -> "Step":
        """The steps of the systems that an index picks."""
        taken: list[Any] = [None if v is None else v.index_select(0, index) for v in self]
        return Step(*taken)

    def where(self, mask: Bool[Tensor, " T"], other: "Step") -> "Step":
        """These steps where a mask is true, else the other ones, without their gradients."""

        chosen: list[Any] = [
            torch.where(broadcast_mask(mask, mine), mine, theirs.detach())
            if mine is not None and theirs is not None
            else None
            for mine, theirs in zip(self, other, strict=True)
        ]
        return Step(*chosen)


def measured_step(
    motion: Motion,
    dt: Float[Tensor, "*#B"],
    pulled: Attraction,
    integrator: Integrator,
    *,
    energy: Float[Tensor, "*#B"],
    scale: Float[Tensor, "*#B"],
    n_steps: int = 1,
    orbits: Orbits | None = None,
    gated: bool = True,
) -> Step:
    """`n_steps` steps of dt each.

    Args:
        motion: (..., N, D).
        dt: (...,) time step of each system.
        energy: (...,) total energy before the step.
        scale: (...,) what energy errors are relative to; where it is zero there are none.
        orbits: of each body before the step, where their errors count, too.
        gated: whether somebody waits for the error: force passes that it costs are counted then.
    """
    errors: list[Tensor] = []
    divisor = torch.where(scale > 0, scale, 1.0)
    energies = Energies(energy, torch.zeros_like(energy))
    for _ in range(n_steps):
        before, motion = motion, integrator.step(motion, dt, pulled)
        energies = pulled.energies(motion, counted=gated)
        errors.append((energies.total - energy).abs() / divisor)
        if orbits is not None:
            orbits = orbits_after(orbits, before, motion, dt, integrator)
            errors.append(orbits.errors().amax(-1))
    error = errors[0] if len(errors) == 1 else torch.stack(errors).amax(0)
    return Step(*motion[:4], energies.total, energies.scale, error)


def orbits_after(
    orbits: Orbits, before: Motion, after: Motion, dt: Float[Tensor, "*B"], integrator: Integrator
) -> Orbits:
    """The orbits with the error of a step from one motion to the next added."""
    if integrator.method.order <= SIMPSON_UP_TO:
        return orbits.after(before, after, dt)
    halved = before
    for _ in range(2):
        halved = integrator.step(halved, 0.5 * dt, orbits.pulled)
    return orbits.beside(after, halved, integrator.method.order)
