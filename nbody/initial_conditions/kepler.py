"""Two bodies on Kepler orbits.

G = 1. Legend: B systems, D dimensions.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.gravity.vectors import lengths
from nbody.initial_conditions.conics import anomaly_of, relative_motion
from nbody.particle import ParticleTorch


def kepler_orbits(
    eccentricity: Float[Tensor, " B"],
    semi_major: Float[Tensor, " B"],
    mean_anomaly: Float[Tensor, " B"],
    mass: Float[Tensor, "B 2"] | float,
    dim: int,
    angle: Float[Tensor, " B"] | None = None,
) -> ParticleTorch:
    """Two masses on Kepler orbits about their centre of mass at rest, (B, 2, D).

    Args:
        eccentricity, semi_major, mean_anomaly: (B,) each; mean anomaly 0 is pericentre. Sizes of
            unbound orbits are those of `conics`.
        mass: of each body, or (B, 2).
        dim: 2, or 3 with the orbit in the plane z = 0.
        angle: (B,) argument of pericentre.
    """
    both = torch.as_tensor(mass, dtype=eccentricity.dtype).expand(len(eccentricity), 2)
    total = both.sum(1)  # (B,)
    bound = bool((eccentricity < 1).all())
    relative, velocity = relative_orbit(eccentricity, semi_major, mean_anomaly, total, angle)
    shares = both.flip(1) / total.unsqueeze(1)  # (B, 2)
    bodies = (shares * torch.tensor([-1.0, 1.0], dtype=relative.dtype)).unsqueeze(-1)  # (B, 2, 1)
    particle = ParticleTorch(
        both,
        bodies * relative.unsqueeze(1),
        bodies * velocity.unsqueeze(1),
        period=2 * math.pi * (semi_major**3 / total).sqrt() if bound else None,
    )
    return pad_to(particle, dim)


def relative_orbit(
    eccentricity: Float[Tensor, " B"],
    semi_major: Float[Tensor, " B"],
    mean_anomaly: Float[Tensor, " B"],
    total_mass: Float[Tensor, " B"],
    angle: Float[Tensor, " B"] | None = None,
) -> tuple[Float[Tensor, "B 2"], Float[Tensor, "B 2"]]:
    """Relative position and velocity (B, 2), from the first body to the second. All are (B,)."""
    anomaly = anomaly_of(mean_anomaly, eccentricity)
    relative, velocity = relative_motion(anomaly, eccentricity, semi_major, total_mass)
    if angle is not None:
        cos, sin = angle.cos(), angle.sin()
        rotation = torch.stack((cos, -sin, sin, cos), dim=1).reshape(-1, 2, 2)
        relative = (rotation @ relative.unsqueeze(-1)).squeeze(-1)
        velocity = (rotation @ velocity.unsqueeze(-1)).squeeze(-1)
    return relative, velocity


def period_of_pair(particle: ParticleTorch) -> Float[Tensor, "*B"] | None:
    """Orbital period, () or (B,), of two bodies without softening, where every pair is bound."""
    if particle.position.shape[-2] != 2:
        return None
    separation, velocity = (
        values.diff(dim=-2).squeeze(-2) for values in (particle.position, particle.velocity)
    )
    total = particle.mass.sum(-1)
    inverse_axis = 2 / lengths(separation) - velocity.square().sum(-1) / total  # vis-viva: 1/a
    if not bool((inverse_axis > 0).all()):
        return None
    return 2 * math.pi * (inverse_axis**3 * total).rsqrt()


def pad_to(particle: ParticleTorch, dim: int) -> ParticleTorch:
    """A planar system in the plane z = 0 where three dimensions are asked for."""
    missing = dim - particle.position.shape[-1]
    if missing <= 0:
        return particle
    position, velocity = (
        torch.nn.functional.pad(t, (0, missing)) for t in (particle.position, particle.velocity)
    )
    return ParticleTorch(particle.mass, position, velocity, period=particle.period)
