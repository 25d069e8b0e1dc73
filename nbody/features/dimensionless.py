"""The shape of a state: features that no change of units, frame or order of the particles changes.

Legend: ... any leading axes (systems), N particles, D dimensions, E edges.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.features.original import RMS_FLOOR
from nbody.gravity.edges import Edges, edges_of, squared_distance_floor
from nbody.gravity.invariants import Energies, kinetic_energy

SOFT_MINIMUM_POWER = 4.0
LOG_RANGE = 30.0
LEAST_PAIR_MASS = 1e-18  # of the system's mass


class Geometry(NamedTuple):
    """What all pair quantities of a state are made of."""

    edges: Edges
    separation: Float[Tensor, "*B E D"]
    relative_velocity: Float[Tensor, "*B E D"]
    squared: Float[Tensor, "*B E"]  # r² + ε²


def geometry(
    position: Float[Tensor, "*B N D"], velocity: Float[Tensor, "*B N D"], softening: float
) -> Geometry:
    """The pairs of states (..., N, D)."""
    edges = edges_of(position.shape[-2], position.dtype, position.device)
    separation = edges.difference(position)
    floor = squared_distance_floor(position.dtype)
    squared = edges.squared(separation, softening, floor)
    return Geometry(edges, separation, edges.difference(velocity), squared)


def dimensionless_features(
    position: Float[Tensor, "*B N D"],
    velocity: Float[Tensor, "*B N D"],
    mass: Float[Tensor, "*#B N"],
    softening: float,
) -> Float[Tensor, "*B F"]:
    """Scale-, rotation-, permutation- and boost-invariant features, (..., 12); the last is ln
    t_ref.

    t_ref = (Σ_pairs t_ff^-p)^(-1/p) · (|E|/|φ|)^(1/3), with t_ff = sqrt(r³/G(m_i + m_j)): the time
    scale of the closest encounter, longer where the state is deep in its potential. Pair quantities
    are averaged with the weights of that soft minimum, so that the pair which decides the step is
    the one that is described.
    """
    return shape_features(geometry(position, velocity, softening), velocity, mass, softening)


def shape_features(
    pairs: Geometry,
    velocity: Float[Tensor, "*B N D"],
    mass: Float[Tensor, "*#B N"],
    softening: float,
) -> Float[Tensor, "*B F"]:
    edges, squared, floor = pairs.edges, pairs.squared, squared_distance_floor(velocity.dtype)
    mass = mass.expand(velocity.shape[:-1])
    first, second = edges.ends(mass)
    # Two massless bodies do not pull: a pair that never decides, and numbers that stay finite.
    pair_mass = (first + second).clamp_min(LEAST_PAIR_MASS * mass.sum(-1, keepdim=True))  # (..., E)
    distance = squared.sqrt()
    log_time = 0.5 * (1.5 * squared.log() - pair_mass.log())  # ln t_ff, (..., E)

    steepness = edges.log_share - SOFT_MINIMUM_POWER * log_time
    log_soft_minimum = -steepness.logsumexp(-1) / SOFT_MINIMUM_POWER  # (...,)
    weight = steepness.softmax(-1)  # (..., E)
    share = edges.share

    binding = first * second / distance  # |φ_ij|, (..., E)
    potential = edges.total(binding)
    kinetic = kinetic_energy(velocity, mass)
    scale = Energies(kinetic, -potential).scale
    log_depth = _bounded_log(potential / scale.clamp_min(floor))
    log_reference = log_soft_minimum - log_depth / 3

    circular = (pair_mass / distance).sqrt()  # speed of a circular orbit, (..., E)
    approach = (pairs.separation * pairs.relative_velocity).sum(-1)
    radial = approach / distance / circular
    swiftness = pairs.relative_velocity.square().sum(-1) / circular.square()  # v² r / GM
    direction = radial / (swiftness + RMS_FLOOR).sqrt()  # cos(r, v)
    dominance = _bounded_log(binding / potential.unsqueeze(-1).clamp_min(floor))
    columns = [
        log_depth,
        (weight * radial).sum(-1),
        (weight * direction).sum(-1),
        (weight * swiftness / (1 + swiftness)).sum(-1),
        (weight * (swiftness + 0.01).log()).sum(-1),
        kinetic / (kinetic + potential).clamp_min(floor),
        (weight * dominance).sum(-1),
        (weight * (weight / share.clamp_min(floor) + RMS_FLOOR).log()).sum(-1),
        (weight * (4 * first * second / pair_mass.square())).sum(-1),
        (weight * softening / distance).sum(-1),
        torch.full_like(potential, math.log(edges.particles)),
    ]
    return torch.stack([*columns, log_reference], dim=-1)


def _bounded_log(values: Tensor) -> Tensor:
    """ln, held within ±30 so that singular states still give finite features."""
    return values.clamp(math.exp(-LOG_RANGE), math.exp(LOG_RANGE)).log()
