"""Energy and momenta of states, in the frames in which they are conserved.

Legend: ... any leading axes (systems), N particles, D dimensions. G = 1 unless given.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.gravity.external_field import TidalField
from nbody.gravity.force import pairwise
from nbody.gravity.vectors import cross, dot, total

# Least share of K + |U| that an energy error is relative to: rounding stays well under the gate.
LEAST_SHARE = {torch.float32: 1e-2, torch.float64: 1e-4}
TINY_ENERGY = 1e-12  # what the original divides by where an energy is zero


class Energies(NamedTuple):
    """Kinetic and potential energy, each (...,)."""

    kinetic: Float[Tensor, "*B"]
    potential: Float[Tensor, "*B"]

    @property
    def total(self) -> Float[Tensor, "*B"]:
        return self.kinetic + self.potential

    @property
    def scale(self) -> Float[Tensor, "*B"]:
        """What energy errors are relative to: |E|, but where E is small against K + |U| a share of
        that, which no parabolic orbit makes vanish."""
        least = LEAST_SHARE.get(self.kinetic.dtype, LEAST_SHARE[torch.float32])
        return torch.maximum(self.total.abs(), least * (self.kinetic + self.potential.abs()))


def centre_of_mass(
    values: Float[Tensor, "*B N D"], mass: Float[Tensor, "*#B N"]
) -> Float[Tensor, "*B 1 D"]:
    """Mass-weighted mean (..., 1, D) of positions or velocities (..., N, D)."""
    weights = (mass / total(mass, -1).unsqueeze(-1)).unsqueeze(-1)  # (..., N, 1)
    return total(weights * values, -2).unsqueeze(-2)


def kinetic_energy(
    velocity: Float[Tensor, "*B N D"],
    mass: Float[Tensor, "*#B N"],
    field: TidalField | None = None,
) -> Float[Tensor, "*B"]:
    """Kinetic energy (...,) in the centre-of-mass frame, where no external field sets the frame.

    A boost adds a constant to the energy and so would hide a relative error. With a field at rest
    only the energy in the field's own frame is conserved.
    """
    if field is None:
        velocity = velocity - centre_of_mass(velocity, mass)
    return 0.5 * total(mass * dot(velocity, velocity), -1)


def energies(
    position: Float[Tensor, "*B N D"],
    velocity: Float[Tensor, "*B N D"],
    mass: Float[Tensor, "*#B N"],
    softening: float = 0.0,
    field: TidalField | None = None,
    G: float = 1.0,
) -> Energies:
    """Kinetic and potential energy, each (...,), of states (..., N, D)."""
    potential = pairwise(position, mass, softening, field, G).potential_energy
    return Energies(kinetic_energy(velocity, mass, field), potential)


def momentum(
    velocity: Float[Tensor, "*#B N D"], mass: Float[Tensor, "*#B N"]
) -> Float[Tensor, "... D"]:
    """Total momentum (..., D)."""
    return (mass.unsqueeze(-1) * velocity).sum(-2)


def angular_momentum(
    position: Float[Tensor, "*#B N D"],
    velocity: Float[Tensor, "*#B N D"],
    mass: Float[Tensor, "*#B N"],
) -> Float[Tensor, "... 3"]:
    """Total angular momentum about the origin, (..., 3); planar systems have only L_z."""
    if position.shape[-1] == 2:
        position, velocity = (torch.nn.functional.pad(t, (0, 1)) for t in (position, velocity))
    return (mass.unsqueeze(-1) * cross(position, velocity)).sum(-2)


def relative_energy_error(
    energy_before: Float[Tensor, "*#B"], energy_after: Float[Tensor, "*#B"]
) -> Float[Tensor, "..."]:
    """|E1 - E0| / |E0|, elementwise; not finite where an energy is not finite.

    As in the original an energy of zero counts as 1e-12; the gate, which knows the state and not
    only its energy, takes `Energies.scale`.
    """
    return (energy_after - energy_before).abs() / energy_before.abs().clamp_min(TINY_ENERGY)
