"""Plummer spheres in Hénon units. G = 1. Legend: B systems, N particles."""

import math

import torch
from torch import Tensor

from nbody.gravity.invariants import centre_of_mass, energies
from nbody.particle import ParticleTorch

SALPETER = 2.35
PLUMMER_SCALE = 3 * math.pi / 16  # a in Hénon units, where G = M = 1 and E = -1/4


def plummer_spheres(
    systems: int,
    number: int,
    generator: torch.Generator,
    mass_ratio: float = 1.0,
    virial_ratio: float = 0.5,
) -> ParticleTorch:
    """B spheres of N masses (B, N, 3): M = 1, U = -1/2, in equilibrium E = -1/4 (Plummer 1911).

    Radii and speeds after Aarseth, Hénon & Wielen (1974); then scaled, so that energy and virial
    ratio hold for each drawn system and not only on average. Both are without softening.

    Args:
        mass_ratio: of the least to the largest; below 1 they follow dN ∝ m^-2.35 dm (Salpeter
            1955).
        virial_ratio: K / |U|.
    """
    shape = (systems, number)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    def isotropic(length: Tensor) -> Tensor:
        direction = torch.randn(*shape, 3, generator=generator, dtype=torch.float64)
        return length.unsqueeze(-1) * torch.nn.functional.normalize(direction, dim=-1)

    mass_fraction = 0.001 + 0.998 * uniform(*shape)  # leaves out the rare very distant particle
    radius = (mass_fraction ** (-2 / 3) - 1).rsqrt()  # in units of a
    q = torch.zeros(systems * number, dtype=torch.float64)  # speed over escape speed
    pending = torch.arange(len(q))
    while len(pending):  # density q²(1 - q²)^3.5
        trial, height = uniform(2, len(pending))
        good = 0.1 * height < trial.square() * (1 - trial.square()) ** 3.5
        q[pending[good]] = trial[good]
        pending = pending[~good]
    escape = math.sqrt(2) * (1 + radius.square()) ** -0.25
    mass = torch.full(shape, 1 / number, dtype=torch.float64)
    if mass_ratio < 1:
        steep = 1 - SALPETER
        draw = mass_ratio**steep + (1 - mass_ratio**steep) * uniform(*shape)
        mass = draw ** (1 / steep)
        mass = mass / mass.sum(1, keepdim=True)
    position = PLUMMER_SCALE * isotropic(radius)
    velocity = isotropic(q.reshape(shape) * escape) / math.sqrt(PLUMMER_SCALE)
    position = position - centre_of_mass(position, mass)
    velocity = velocity - centre_of_mass(velocity, mass)
    kinetic, potential = energies(position, velocity, mass)
    position = position * (potential / -0.5)[:, None, None]
    velocity = velocity * (0.5 * virial_ratio / kinetic).sqrt()[:, None, None]
    return ParticleTorch(mass, position, velocity)
