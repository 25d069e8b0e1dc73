"""Populations of few bodies without a closed form: random bound ones, triples, near-periodic ones.

G = 1. Legend: B systems, N particles, D dimensions.
"""

import math
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.gravity.invariants import centre_of_mass, energies
from nbody.initial_conditions.kepler import relative_orbit
from nbody.initial_conditions.named_systems import figure_eight
from nbody.particle import ParticleTorch, stack_particles

KINETIC_SHARE = (0.1, 0.9)  # K / |U| of a bound system: below 1 its energy is negative
INNER_ECCENTRICITY, OUTER_ECCENTRICITY = 0.9, 0.6  # of triples, largest
STABILITY = 2.8  # Mardling & Aarseth (2001), equation 90
LARGEST_SPACING = 10.0  # outer pericentre over the least stable one


def random_bound(
    systems: int,
    number: int,
    dim: int,
    masses: Float[Tensor, "B N"],
    pos_scale: float,
    generator: torch.Generator,
    softening: float = 0.0,
) -> ParticleTorch:
    """Gaussian positions and velocities (B, N, D), speeds scaled so that each system is bound.

    K / |U| is uniform in [0.1, 0.9].

    Args:
        pos_scale: standard deviation of each coordinate.
        softening: of the potential that binds them.
    """
    shape = (2, systems, number, dim)
    position, velocity = torch.randn(shape, generator=generator, dtype=torch.float64)
    velocity = velocity - centre_of_mass(velocity, masses)
    kinetic, potential = energies(pos_scale * position, velocity, masses, softening)
    low, high = KINETIC_SHARE
    share = low + (high - low) * torch.rand(systems, generator=generator, dtype=torch.float64)
    speed = (share * potential.abs() / kinetic).sqrt()
    return ParticleTorch(masses, pos_scale * position, speed[:, None, None] * velocity)


def hierarchical_triples(
    dim: int,
    masses: Float[Tensor, "B 3"],
    semi_major: Float[Tensor, " B"],
    generator: torch.Generator,
) -> ParticleTorch:
    """Stable triples (B, 3, D): a pair with semi-major axis a, and a third body far out.

    Eccentricities are uniform, the outer pericentre is log-uniform between the stability limit of
    Mardling & Aarseth (2001) and ten times that; orientations are random, in a plane where D = 2.

    Args:
        masses: (B, 3), the inner pair first.
        semi_major: (B,) of the inner orbit.
    """
    systems = len(masses)
    draw = torch.rand(7, systems, generator=generator, dtype=torch.float64)
    inner_e, outer_e = INNER_ECCENTRICITY * draw[0], OUTER_ECCENTRICITY * draw[1]
    inner_mass, total = masses[:, :2].sum(1), masses.sum(1)
    ratio = (total / inner_mass * (1 + outer_e) / (1 - outer_e).sqrt()) ** 0.4
    pericentre = STABILITY * ratio * LARGEST_SPACING ** draw[2] * semi_major
    phase, angle = 2 * math.pi * draw[3:5], 2 * math.pi * draw[5:7]
    inner = relative_orbit(inner_e, semi_major, phase[0], inner_mass, angle[0])
    outer = relative_orbit(outer_e, pericentre / (1 - outer_e), phase[1], total, angle[1])
    turns = rotations(systems, dim, generator), rotations(systems, dim, generator)
    shares = masses[:, :2].flip(1) / inner_mass.unsqueeze(1)
    signs = torch.tensor([-1.0, 1.0], dtype=masses.dtype)
    place: list[Tensor] = []
    for near, far in zip(inner, outer, strict=True):
        pair = (shares * signs).unsqueeze(-1) * turn(near, turns[0], dim).unsqueeze(1)
        third = turn(far, turns[1], dim).unsqueeze(1)  # from the pair to the third body
        place.append(torch.cat((pair, third), dim=1))
    position, velocity = (values - centre_of_mass(values, masses) for values in place)
    return ParticleTorch(masses, position, velocity)


def near_figure_eight(
    systems: int, dim: int, perturbation: float, generator: torch.Generator
) -> ParticleTorch:
    """Figure-eights (B, 3, D) with Gaussian noise on their coordinates, relative to their rms."""
    eight = stack_particles([figure_eight()] * systems)
    shape = (2, systems, 3, dim)
    noise = perturbation * torch.randn(shape, generator=generator, dtype=torch.float64)
    position, velocity = (
        torch.nn.functional.pad(values, (0, dim - 2)) for values in (eight.position, eight.velocity)
    )
    position = position + noise[0] * position.square().mean().sqrt()
    velocity = velocity + noise[1] * velocity.square().mean().sqrt()
    return ParticleTorch(eight.mass, position, velocity)


def rotations(systems: int, dim: int, generator: torch.Generator) -> Tensor:
    """Uniform rotations (B, D, D); none in a plane, where the argument of pericentre is random."""
    if dim == 2:
        return torch.eye(2, dtype=torch.float64).expand(systems, 2, 2)
    normal = torch.randn(systems, 3, 3, generator=generator, dtype=torch.float64)
    q, r = cast(tuple[Tensor, Tensor], torch.linalg.qr(normal))
    return q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)


def turn(vectors: Tensor, rotation: Tensor, dim: int) -> Tensor:
    """Vectors (B, 2) of a plane, turned in D dimensions: (B, D)."""
    flat = torch.nn.functional.pad(vectors, (0, dim - 2))
    return (rotation @ flat.unsqueeze(-1)).squeeze(-1)
