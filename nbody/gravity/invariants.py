"""Energy and momenta of states, in the frames in which they are conserved.

Legend: ... any leading axes (systems), N particles, D dimensions. G = 1 unless given.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from nbody.gravity.external_field import PointMassTidalField
from nbody.gravity.force import pairwise
from nbody.gravity.vectors import cross


class Energies(NamedTuple):
    """Kinetic and potential energy, each (...,)."""

    kinetic: Tensor
    potential: Tensor

    @property
    def total(self) -> Tensor:
        return self.kinetic + self.potential


def centre_of_mass(values: Tensor, mass: Tensor) -> Tensor:
    """Mass-weighted mean (..., 1, D) of positions or velocities (..., N, D)."""
    weights = (mass / mass.sum(-1, keepdim=True)).unsqueeze(-1)  # (..., N, 1)
    return (weights * values).sum(-2, keepdim=True)


def kinetic_energy(
    velocity: Tensor, mass: Tensor, field: PointMassTidalField | None = None
) -> Tensor:
    """Kinetic energy (...,) in the centre-of-mass frame, where no external field sets the frame.

    A boost adds a constant to the energy and so would hide a relative error. With a field at rest
    only the energy in the field's own frame is conserved.
    """
    if field is None:
        velocity = velocity - centre_of_mass(velocity, mass)
    return 0.5 * (mass * velocity.square().sum(-1)).sum(-1)


def energies(
    position: Tensor,
    velocity: Tensor,
    mass: Tensor,
    softening: float = 0.0,
    field: PointMassTidalField | None = None,
    G: float = 1.0,
) -> Energies:
    """Kinetic and potential energy, each (...,), of states (..., N, D)."""
    potential = pairwise(position, mass, softening, field, G).potential_energy
    return Energies(kinetic_energy(velocity, mass, field), potential)


def momentum(velocity: Tensor, mass: Tensor) -> Tensor:
    """Total momentum (..., D)."""
    return (mass.unsqueeze(-1) * velocity).sum(-2)


def angular_momentum(position: Tensor, velocity: Tensor, mass: Tensor) -> Tensor:
    """Total angular momentum about the origin, (..., 3); planar systems have only L_z."""
    if position.shape[-1] == 2:
        position, velocity = (torch.nn.functional.pad(t, (0, 1)) for t in (position, velocity))
    return (mass.unsqueeze(-1) * cross(position, velocity)).sum(-2)


def relative_energy_error(energy_before: Tensor, energy_after: Tensor) -> Tensor:
    """|E1 - E0| / |E0|, elementwise; not finite where E0 is zero or an energy is not finite."""
    return (energy_after - energy_before).abs() / energy_before.abs()
