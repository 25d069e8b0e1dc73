"""Populations in which most bodies are light: planets, asteroids, a companion far out.

G = 1. Legend: B systems, N particles, D dimensions. Orbits are about the centre of mass of what is
inside of them (Jacobi coordinates).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.gravity.invariants import centre_of_mass
from nbody.initial_conditions.kepler import relative_orbit
from nbody.particle import ParticleTorch

PLANETS = 1e-6, 1e-3  # masses, in stars
SPACING = 1.5, 2.2  # of one semi-major axis over the next one in
PLANET_ECCENTRICITY, PLANET_INCLINATION = 0.03, 0.02  # scales of Rayleigh distributions
ASTEROID_ECCENTRICITY = 0.9  # largest
KOZAI_PLANET = 1e-3, 0.01  # mass in stars, eccentricity
KOZAI_DISTANCE = 8.0, 15.0  # of the companion, in orbits of the planet
KOZAI_COMPANION_ECCENTRICITY = 0.4  # largest
KOZAI_INCLINATION = math.radians(65), math.radians(90)
# Of TRAPPIST-1: masses in stars, and periods over the next one in (Agol et al. 2021, table 6).
CHAIN_MASSES = (4.6e-5, 4.4e-5, 1.3e-5, 2.3e-5, 3.5e-5, 4.4e-5, 1.1e-5)
CHAIN_RATIOS = (8 / 5, 5 / 3, 3 / 2, 3 / 2, 4 / 3, 3 / 2)
CHAIN_ECCENTRICITY = 0.005


def planetary_systems(
    systems: int, number: int, dim: int, mass: float, inner: Tensor, generator: torch.Generator
) -> ParticleTorch:
    """A star, planets, and as many massless asteroids among them, (B, N, D).

    Args:
        mass: of the star.
        inner: (B,) semi-major axis of the innermost planet.
    """
    planets = max(1, number // 2)
    asteroids = number - 1 - planets

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)

    share = uniform(math.log(PLANETS[0]), math.log(PLANETS[1]), systems, planets).exp()
    ratios = uniform(*SPACING, systems, planets - 1)
    axis = inner.unsqueeze(1) * torch.cat((torch.ones(systems, 1), ratios), dim=1).cumprod(1)
    wide = uniform(0.0, 1.0, systems, asteroids)
    axis = torch.cat((axis, 0.5 * axis[:, :1] + wide * 1.5 * axis[:, -1:]), dim=1)
    eccentricity = torch.cat(
        (
            _rayleigh(PLANET_ECCENTRICITY, systems, planets, generator).clamp_max(0.3),
            uniform(0.0, ASTEROID_ECCENTRICITY, systems, asteroids),
        ),
        dim=1,
    )
    inclination = _rayleigh(PLANET_INCLINATION, systems, number - 1, generator)
    masses = torch.cat(
        (torch.full((systems, 1), mass), mass * share, torch.zeros(systems, asteroids)), dim=1
    )
    return _around(masses.double(), axis, eccentricity, inclination, dim, generator)


def kozai_triples(
    systems: int, mass: float, inner: Tensor, generator: torch.Generator
) -> ParticleTorch:
    """A star, a planet, and another star on a steep orbit far out, (B, 3, 3) (Kozai 1962)."""
    draw = torch.rand(3, systems, generator=generator, dtype=torch.float64)
    low, high = KOZAI_DISTANCE
    axis = torch.stack((inner, inner * (low + (high - low) * draw[0])), dim=1)
    planet, eccentricity = KOZAI_PLANET
    both = torch.stack(
        (torch.full_like(inner, eccentricity), KOZAI_COMPANION_ECCENTRICITY * draw[1]), dim=1
    )
    low, high = KOZAI_INCLINATION
    inclination = torch.stack((torch.zeros_like(inner), low + (high - low) * draw[2]), dim=1)
    masses = torch.tensor([mass, planet * mass, mass], dtype=torch.float64).expand(systems, 3)
    return _around(masses, axis, both, inclination, 3, generator)


def resonant_chains(
    systems: int, dim: int, mass: float, inner: Tensor, generator: torch.Generator
) -> ParticleTorch:
    """A star and seven planets whose periods are in the ratios of TRAPPIST-1's, (B, 8, D)."""
    ratios = torch.tensor((1.0, *CHAIN_RATIOS), dtype=torch.float64).cumprod(0) ** (2 / 3)
    axis = inner.unsqueeze(1) * ratios
    eccentricity = _rayleigh(CHAIN_ECCENTRICITY, systems, 7, generator).clamp_max(0.02)
    inclination = _rayleigh(PLANET_INCLINATION / 10, systems, 7, generator)
    masses = mass * torch.tensor((1.0, *CHAIN_MASSES), dtype=torch.float64).expand(systems, 8)
    return _around(masses, axis, eccentricity, inclination, dim, generator)


def _around(
    masses: Float[Tensor, "B N"],
    axis: Float[Tensor, "B O"],
    eccentricity: Float[Tensor, "B O"],
    inclination: Float[Tensor, "B O"],
    dim: int,
    generator: torch.Generator,
) -> ParticleTorch:
    """The first body, and the others on orbits around all within, O = N - 1; angles at random.

    Their period is that of the widest orbit.
    """
    systems, orbits = axis.shape
    angles = 2 * math.pi * torch.rand(3, systems, orbits, generator=generator, dtype=torch.float64)
    position, velocity = (torch.zeros(systems, 1, dim, dtype=torch.float64) for _ in range(2))
    for k in range(orbits):
        within = masses[:, : k + 1]
        phase, pericentre, node = angles[:, :, k]
        mass = masses[:, : k + 2].sum(1)
        relative = relative_orbit(eccentricity[:, k], axis[:, k], phase, mass, pericentre)
        turned = [_inclined(part, inclination[:, k], node, dim) for part in relative]
        position, velocity = (
            torch.cat((values, centre_of_mass(values, within) + new.unsqueeze(1)), dim=1)
            for values, new in zip((position, velocity), turned, strict=True)
        )
    return ParticleTorch(
        masses,
        position - centre_of_mass(position, masses),
        velocity - centre_of_mass(velocity, masses),
        period=2 * math.pi * (axis.amax(1) ** 3 / masses.sum(1)).sqrt(),
    )


def _inclined(vectors: Tensor, inclination: Tensor, node: Tensor, dim: int) -> Tensor:
    """Vectors (B, 2) of an orbit's plane, in space; in two dimensions as they are."""
    if dim == 2:
        return vectors
    x, along = vectors.unbind(1)
    y, z = along * inclination.cos(), along * inclination.sin()
    cos, sin = node.cos(), node.sin()
    return torch.stack((cos * x - sin * y, sin * x + cos * y, z), dim=1)


def _rayleigh(scale: float, systems: int, number: int, generator: torch.Generator) -> Tensor:
    draw = torch.rand(systems, number, generator=generator, dtype=torch.float64)
    return scale * (-2 * (1 - draw).log()).sqrt()
