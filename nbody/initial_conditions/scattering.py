"""A single body that comes in from far away to a pair. G = 1. Legend: B systems, D dimensions."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.gravity.invariants import centre_of_mass
from nbody.initial_conditions.conics import mean_anomaly, mean_motion, relative_motion
from nbody.initial_conditions.few_body import rotations, turn
from nbody.initial_conditions.kepler import relative_orbit
from nbody.particle import ParticleTorch

LARGEST_ECCENTRICITY = 0.9  # of the pair
FARTHEST_PASSAGE = 3.0  # pericentre of the single body's orbit, in the pair's axes
START = 20.0  # distance of the single body, in the pair's axes


def binary_single(
    dim: int,
    masses: Float[Tensor, "B 3"],
    semi_major: Float[Tensor, " B"],
    speed: float,
    generator: torch.Generator,
) -> ParticleTorch:
    """Encounters (B, 3, D) of a pair with a third body (Hut & Bahcall 1983).

    The third body's orbit about the pair has its pericentre within three of the pair's axes,
    uniformly; it starts twenty axes away. `period` is the time of its passage.

    Args:
        masses: (B, 3), the pair first.
        semi_major: (B,) of the pair.
        speed: at infinity, in units of the critical one, at which the total energy is zero.
    """
    systems = len(masses)
    draw = torch.rand(5, systems, generator=generator, dtype=torch.float64)
    pair_mass, total = masses[:, :2].sum(1), masses.sum(1)
    critical = masses[:, :2].prod(1) * total / (masses[:, 2] * pair_mass * semi_major)  # squared
    incoming = critical * speed**2
    pericentre = FARTHEST_PASSAGE * semi_major * draw[0].clamp_min(1e-3)
    hyperbola = total / incoming.clamp_min(1e-12 * critical)  # |a|
    parabola = incoming <= 1e-12 * critical
    e = torch.where(parabola, 1.0, 1 + pericentre / hyperbola)
    size = torch.where(parabola, pericentre, hyperbola)
    away = START * semi_major / size  # r = size · (e cosh H - 1), of a parabola size · (1 + D²)
    far = torch.where(parabola, (away - 1).clamp_min(0).sqrt(), ((away + 1) / e).acosh())
    outer = relative_motion(-far, e, size, total)
    inner = relative_orbit(
        LARGEST_ECCENTRICITY * draw[1],
        semi_major,
        2 * math.pi * draw[2],
        pair_mass,
        2 * math.pi * draw[3],
    )
    turns = rotations(systems, dim, generator), rotations(systems, dim, generator)
    shares = masses[:, :2].flip(1) / pair_mass.unsqueeze(1)
    signs = torch.tensor([-1.0, 1.0], dtype=masses.dtype)
    place: list[Tensor] = []
    for near, distant in zip(inner, outer, strict=True):
        pair = (shares * signs).unsqueeze(-1) * turn(near, turns[0], dim).unsqueeze(1)
        place.append(torch.cat((pair, turn(distant, turns[1], dim).unsqueeze(1)), dim=1))
    position, velocity = (values - centre_of_mass(values, masses) for values in place)
    passage = 2 * mean_anomaly(far, e) / mean_motion(e, size, total)
    return ParticleTorch(masses, position, velocity, period=passage)
