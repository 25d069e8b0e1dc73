"""State → network input.

Legend: ... any leading axes (systems), N particles, D dimensions, P = N(N-1)/2 pairs, F features.

`basic`, `rich` and `delta_mag` are those of AITimeStepper. `dimensionless` and `error_series` are
ours: their columns do not change under translation, boost, rotation, permutation of the particles,
or a change of units, and the last one is ln t_ref, the time scale that turns the network's answer
into a time step.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from nbody.blocked_gravity import BLOCK_ELEMENTS
from nbody.config_sections import FeatureType
from nbody.edges import Edges, edges_of, squared_distance_floor
from nbody.error_crossing import crossing_of
from nbody.error_series import error_series
from nbody.gravity import WHOLE, centre_of_mass, kinetic_energy, pairwise
from nbody.states import States
from nbody.vectors import lengths

# Columns of `basic` and `rich` that are lengths, speeds and accelerations.
LENGTHS = {"basic": (3, 4, 9, 10), "rich": (7, 8, 9, 10, 19, 20, 21, 22)}
SPEEDS = {"basic": (5, 6), "rich": (11, 12, 13, 14)}
ACCELERATIONS = {"basic": (7, 8), "rich": (15, 16, 17, 18)}
RMS_FLOOR = 1e-12
SOFT_MINIMUM_POWER = 4.0
LOG_RANGE = 30.0


def _rms(values: Tensor) -> Tensor:
    return (values.square().mean(-1) + RMS_FLOOR).sqrt()


def pair_index(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices i < j of all pairs, each (P,)."""
    i, j = torch.triu_indices(n, n, offset=1, device=device)
    return i, j


def system_features(
    position: Tensor, velocity: Tensor, mass: Tensor, softening: float, mode: str
) -> Tensor:
    """The original's statistics of a state, (..., 11) for `basic` or (..., 23) for `rich`."""
    relative = position - centre_of_mass(position, mass)
    radius = lengths(relative)  # (..., N)
    speed = lengths(velocity - centre_of_mass(velocity, mass))
    force = pairwise(position, mass, softening).acceleration
    acceleration = lengths(force)
    i, j = pair_index(position.shape[-2], position.device)
    separation = position[..., j, :] - position[..., i, :]  # (..., P, D)
    pair = (separation.square().sum(-1) + softening**2 + RMS_FLOOR).sqrt()  # (..., P)
    ones = torch.ones_like(radius[..., 0])
    count, dim = ones * position.shape[-2], ones * position.shape[-1]
    total = mass.sum(-1)
    if mode == "basic":
        columns = [count, dim, total]
        for values in (radius, speed, acceleration):
            columns += [values.mean(-1), values.amax(-1)]
        columns += [pair.amin(-1), pair.mean(-1)]
    else:
        columns = [count, dim, total]
        columns += [mass.mean(-1), mass.amin(-1), mass.amax(-1), _rms(mass)]
        for values in (radius, speed, acceleration):
            columns += [values.mean(-1), values.amin(-1), values.amax(-1), _rms(values)]
        columns += [pair.amin(-1), pair.mean(-1), pair.amax(-1), ones * softening]
    return torch.stack(columns, dim=-1)


def delta_features(position: Tensor, velocity: Tensor, acceleration: Tensor, dt: Tensor) -> Tensor:
    """Mean, max and rms of |Δx|, |Δv|, |Δa| between consecutive states, then dt.

    Args:
        position, velocity, acceleration: (..., K + 1, N, D), oldest to newest.
        dt: (..., K + 1), the step that led to each state.

    Returns:
        (..., K, 10)
    """
    columns: list[Tensor] = []
    for series in (position, velocity, acceleration):
        change = lengths(series.diff(dim=-3))  # (..., K, N)
        columns += [change.mean(-1), change.amax(-1), _rms(change)]
    return torch.stack([*columns, dt[..., 1:]], dim=-1)


def free_fall_times(squared: Tensor, pair_mass: Tensor) -> Tensor:
    """sqrt(r³ / G(m_i + m_j)) of each pair; `squared` is r² + ε²."""
    return (squared**1.5 / pair_mass).sqrt()


def free_fall_time(position: Tensor, mass: Tensor, softening: float) -> Tensor:
    """The shortest free-fall time over the pairs, (...,); of many particles some rows at a time."""
    if position.shape[-2] > WHOLE:
        return _blocked_free_fall_time(position, mass, softening)
    i, j = pair_index(position.shape[-2], position.device)
    squared = (position[..., j, :] - position[..., i, :]).square().sum(-1) + softening**2
    floor = squared_distance_floor(position.dtype)
    return free_fall_times(squared.clamp_min(floor), mass[..., i] + mass[..., j]).amin(-1)


def _blocked_free_fall_time(position: Tensor, mass: Tensor, softening: float) -> Tensor:
    n, floor = position.shape[-2], squared_distance_floor(position.dtype)
    every = torch.arange(n, device=position.device)
    shortest = torch.full_like(mass[..., 0], torch.inf)
    size = max(1, BLOCK_ELEMENTS // mass.numel())
    for first in range(0, n, size):
        rows = every[first : first + size]
        separation = position[..., rows, None, :] - position[..., None, :, :]
        squared = (separation.square().sum(-1) + softening**2).clamp_min(floor)  # (..., R, N)
        times = free_fall_times(squared, mass[..., rows, None] + mass[..., None, :])
        times = times.masked_fill(rows.unsqueeze(1) == every, torch.inf)  # no pair with itself
        shortest = torch.minimum(shortest, times.amin((-2, -1)))
    return shortest


class Geometry(NamedTuple):
    """What all pair quantities of a state are made of."""

    edges: Edges
    separation: Tensor  # (..., E, D)
    relative_velocity: Tensor  # (..., E, D)
    squared: Tensor  # (..., E) r² + ε²


def geometry(position: Tensor, velocity: Tensor, softening: float) -> Geometry:
    """The pairs of states (..., N, D)."""
    edges = edges_of(position.shape[-2], position.dtype, position.device)
    separation = edges.difference(position)
    floor = squared_distance_floor(position.dtype)
    squared = edges.squared(separation, softening, floor)
    return Geometry(edges, separation, edges.difference(velocity), squared)


def dimensionless_features(
    position: Tensor, velocity: Tensor, mass: Tensor, softening: float
) -> Tensor:
    """Scale-, rotation-, permutation- and boost-invariant features, (..., 12); the last is ln
    t_ref.

    t_ref = (Σ_pairs t_ff^-p)^(-1/p) · (|E|/|φ|)^(1/3), with t_ff = sqrt(r³/G(m_i + m_j)): the time
    scale of the closest encounter, longer where the state is deep in its potential. Pair quantities
    are averaged with the weights of that soft minimum, so that the pair which decides the step is
    the one that is described.
    """
    return _shape_features(geometry(position, velocity, softening), velocity, mass, softening)


def error_series_features(states: States, threshold: Tensor | float) -> Tensor:
    """Features of the step's own error series, (..., 24), invariant as those above; the last is
    ln of the step at which the series crosses the threshold.

    Args:
        states: leading axes of any shape.
        threshold: of the relative energy error, one number or (...,).
    """
    velocity = states.velocity
    pairs = geometry(states.position, velocity, states.softening)
    shape = _shape_features(pairs, velocity, states.mass, states.softening)
    log_unit = shape[..., -1]
    coefficients = error_series(
        states.position,
        velocity,
        states.mass,
        states.acceleration,
        states.softening,
        states.field,
        pairs.edges,
        log_unit.exp(),
    )
    crossing = crossing_of(coefficients, threshold * states.energy.abs())
    columns = (crossing.features, crossing.log_step.unsqueeze(-1), shape[..., :-1])
    return torch.cat((*columns, (log_unit + crossing.log_step).unsqueeze(-1)), dim=-1)


def features_of_states(
    states: States, feature_type: FeatureType, threshold: Tensor | float
) -> Tensor:
    """What a network without history sees of states with leading axes (...): (..., F).

    Args:
        threshold: of the relative energy error; only `error_series` looks at it.
    """
    if feature_type == "error_series":
        return error_series_features(states, threshold)
    position, velocity, mass = states.position, states.velocity, states.mass
    if feature_type == "dimensionless":
        return dimensionless_features(position, velocity, mass, states.softening)
    return system_features(position, velocity, mass, states.softening, feature_type)


def _shape_features(pairs: Geometry, velocity: Tensor, mass: Tensor, softening: float) -> Tensor:
    edges, squared, floor = pairs.edges, pairs.squared, squared_distance_floor(velocity.dtype)
    mass = mass.expand(velocity.shape[:-1])
    first, second = edges.ends(mass)
    pair_mass = first + second  # (..., E)
    distance = squared.sqrt()
    log_time = 0.5 * (1.5 * squared.log() - pair_mass.log())  # ln t_ff, (..., E)

    steepness = edges.log_share - SOFT_MINIMUM_POWER * log_time
    log_soft_minimum = -steepness.logsumexp(-1) / SOFT_MINIMUM_POWER  # (...,)
    weight = steepness.softmax(-1)  # (..., E)
    share = edges.share

    binding = first * second / distance  # |φ_ij|, (..., E)
    potential = edges.total(binding)
    kinetic = kinetic_energy(velocity, mass)
    log_depth = _bounded_log(potential / (kinetic - potential).abs().clamp_min(floor))
    log_reference = log_soft_minimum - log_depth / 3

    circular = (pair_mass / distance).sqrt()  # speed of a circular orbit, (..., E)
    approach = (pairs.separation * pairs.relative_velocity).sum(-1)
    radial = approach / distance / circular
    swiftness = pairs.relative_velocity.square().sum(-1) / circular.square()  # v² r / GM
    direction = radial / (swiftness + RMS_FLOOR).sqrt()  # cos(r, v)
    dominance = _bounded_log(binding / potential.unsqueeze(-1))
    columns = [
        log_depth,
        (weight * radial).sum(-1),
        (weight * direction).sum(-1),
        (weight * swiftness / (1 + swiftness)).sum(-1),
        (weight * (swiftness + 0.01).log()).sum(-1),
        kinetic / (kinetic + potential),
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
