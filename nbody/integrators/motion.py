"""What moves, and what pulls it: the state that an integrator steps, and the forces it asks for.

Legend: ... any leading axes (systems), N particles, D dimensions.
"""

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from nbody.gravity.external_field import TidalField
from nbody.gravity.force import Pairs, count_forces, pairwise
from nbody.gravity.invariants import Energies, kinetic_energy
from nbody.integrators.force_series import acceleration_series


class Motion(NamedTuple):
    """Positions, velocities, and what the last force pass left for the next step."""

    position: Float[Tensor, "*B N D"]
    velocity: Float[Tensor, "*B N D"]
    acceleration: Float[Tensor, "*B N D"]
    derivatives: Float[Tensor, "*B 4 N D"] | None = None  # of it, first to fourth, where kept
    potential_energy: Float[Tensor, "*B"] | None = None  # where the last pass was at this position


@dataclass(frozen=True)
class Attraction:
    """What pulls the particles of systems: each other, and an external field.

    Attributes:
        mass: (..., N).
        softening: Plummer softening length.
        field: external field, acting on every particle, or None.
        G: Newton's constant.
    """

    mass: Float[Tensor, "*B N"]
    softening: float = 0.0
    field: TidalField | None = None
    G: float = 1.0

    def force(self, position: Float[Tensor, "*B N D"]) -> Pairs:
        """One pass over the pairs: accelerations and potential energy."""
        return pairwise(position, self.mass, self.softening, self.field, self.G)

    def force_and_jerk(
        self, position: Float[Tensor, "*B N D"], velocity: Float[Tensor, "*B N D"]
    ) -> tuple[Float[Tensor, "*B N D"], Float[Tensor, "*B N D"]]:
        """One pass over the pairs: accelerations, and how fast they change; G = 1."""
        count_forces(position)
        first, slope = acceleration_series(
            [position, velocity], self.mass, self.softening, self.field, 1
        )
        return first, slope

    def energies(self, motion: Motion, *, counted: bool) -> Energies:
        """Kinetic and potential energy, each (...,).

        Args:
            counted: where the last pass was not at this position, one more is made: whether whoever
                steps would make it, too.
        """
        potential = motion.potential_energy
        if potential is None:
            if counted:
                count_forces(motion.position)
            position, mass = motion.position, self.mass
            potential = pairwise(
                position, mass, self.softening, self.field, self.G, counted=False
            ).potential_energy
        return Energies(kinetic_energy(motion.velocity, self.mass, self.field), potential)
