"""One kick-drift-kick leapfrog step (Hockney & Eastwood 1988, §4-4): second order, symplectic,
reversible.

Legend: ... any leading axes (systems), N particles, D dimensions.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from nbody.external_field import PointMassTidalField
from nbody.gravity import kinetic_energy, pairwise, relative_energy_error


class Step(NamedTuple):
    """The state after a step, and what the step's last force pass gave."""

    position: Tensor  # (..., N, D)
    velocity: Tensor  # (..., N, D)
    acceleration: Tensor  # (..., N, D) at the new position
    energy: Tensor  # (...,) total, after the step
    energy_error: Tensor  # (...,) largest relative error over the step's substeps


def kick_drift_kick(
    position: Tensor,
    velocity: Tensor,
    mass: Tensor,
    acceleration: Tensor,
    energy: Tensor,
    dt: Tensor,
    *,
    softening: float = 0.0,
    field: PointMassTidalField | None = None,
    n_steps: int = 1,
    G: float = 1.0,
) -> Step:
    """`n_steps` KDK steps of dt each. One new force evaluation a step.

    Args:
        position, velocity, acceleration: (..., N, D); acceleration at `position`.
        mass: (..., N)
        energy: (...,) total energy before the step.
        dt: (...,) time step of each system.
    """
    step = dt[..., None, None]
    errors: list[Tensor] = []
    energy_after = energy
    for _ in range(n_steps):
        half = velocity + 0.5 * step * acceleration
        position = position + step * half
        acceleration, potential = pairwise(position, mass, softening, field, G)
        velocity = half + 0.5 * step * acceleration
        energy_after = kinetic_energy(velocity, mass, field) + potential
        errors.append(relative_energy_error(energy, energy_after))
    error = errors[0] if n_steps == 1 else torch.stack(errors).amax(0)
    return Step(position, velocity, acceleration, energy_after, error)
