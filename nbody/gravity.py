"""Softened Newtonian gravity: one pairwise pass gives force and potential; energy and momenta.

Legend: ... any leading axes (systems), N particles, D dimensions. G = 1 unless given.
"""

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nbody.blocked_gravity import blocked_pairwise
from nbody.edges import edges_of, squared_distance_floor
from nbody.external_field import PointMassTidalField
from nbody.vectors import cross

WHOLE = 512  # particles, up to which all pairs are in memory at once


class Pairs(NamedTuple):
    """What one pass over all pairs gives."""

    acceleration: Tensor  # (..., N, D)
    potential_energy: Tensor  # (...,) of the pairs and the external field


class Energies(NamedTuple):
    """Kinetic and potential energy, each (...,)."""

    kinetic: Tensor
    potential: Tensor

    @property
    def total(self) -> Tensor:
        return self.kinetic + self.potential


def pairwise(
    position: Tensor,
    mass: Tensor,
    softening: float = 0.0,
    field: PointMassTidalField | None = None,
    G: float = 1.0,
) -> Pairs:
    """Acceleration and potential energy in one pass over the pairs.

    a_i = G Σ_j m_j (x_j - x_i) / (r_ij² + ε²)^{3/2},  U = -G Σ_{i<j} m_i m_j / (r_ij² + ε²)^{1/2}

    Differentiable with respect to positions and masses. Systems of more than 512 particles are
    passed through in blocks of rows: memory grows as N, not as N².

    Args:
        position: (..., N, D)
        mass: (..., N), or (N,)
        softening: Plummer softening length ε.
        field: external field, acting on every particle.
    """
    mass = mass.expand(position.shape[:-1])
    if position.shape[-2] > WHOLE:
        many = _pairwise_of_many(position.device)
        acceleration, potential = many(position, mass, softening)
    else:
        acceleration, potential = _whole_pairwise(position, mass, softening)
    if G != 1.0:
        acceleration, potential = G * acceleration, G * potential
    if field is not None:
        acceleration = acceleration + field.acceleration(position, G)
        potential = potential + (mass * field.potential(position, G)).sum(-1)
    return Pairs(acceleration, potential)


@lru_cache(maxsize=16)
def _pairwise_of_many(device: torch.device) -> Callable[[Tensor, Tensor, float], Any]:
    """The pass for more than 512 particles: on a GPU one kernel, once it has proved itself."""
    if device.type != "cuda":
        return blocked_pairwise
    try:
        from nbody.fused_gravity import fused_pairwise  # noqa: PLC0415 - needs Triton

        trial = torch.linspace(0, 1, 3 * 65, dtype=torch.float64, device=device).sin()
        position, mass = trial.view(65, 3), trial[:65] + 1
        for found, expected in zip(
            fused_pairwise(position, mass, 0.01),
            blocked_pairwise(position, mass, 0.01),
            strict=True,
        ):
            torch.testing.assert_close(found, expected)
    except Exception as error:  # noqa: BLE001 - whatever a compiler or a driver may raise
        warnings.warn(f"large systems go without the fused kernel: {error}", stacklevel=3)
        return blocked_pairwise
    return fused_pairwise


def _whole_pairwise(position: Tensor, mass: Tensor, softening: float) -> tuple[Tensor, Tensor]:
    edges = edges_of(position.shape[-2], position.dtype, position.device)
    separation = edges.difference(position)  # (..., E, D)
    squared = edges.squared(separation, softening, squared_distance_floor(position.dtype))
    inverse = squared.rsqrt()  # (..., E)
    first, second = edges.ends(mass)
    acceleration = edges.pull((inverse * inverse * inverse).unsqueeze(-1) * separation, mass)
    return acceleration, -edges.total(first * second * inverse)


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
