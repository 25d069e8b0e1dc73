"""State → network input.

Legend: ... any leading axes (systems), N particles, D dimensions, P = N(N-1)/2 pairs, F features.

`basic`, `rich` and `delta_mag` are those of AITimeStepper. `dimensionless` is ours: its columns do
not change under translation, boost, rotation, permutation of the particles, or a change of units,
and the last one is ln t_ref, the time scale that turns the network's answer into a time step.
"""

import math

import torch
from torch import Tensor

from nbody.gravity import (
    centre_of_mass,
    kinetic_energy,
    pairwise,
    squared_distance_floor,
)
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
    """The shortest free-fall time over the pairs, (...,)."""
    i, j = pair_index(position.shape[-2], position.device)
    squared = (position[..., j, :] - position[..., i, :]).square().sum(-1) + softening**2
    floor = squared_distance_floor(position.dtype)
    return free_fall_times(squared.clamp_min(floor), mass[..., i] + mass[..., j]).amin(-1)


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
    i, j = pair_index(position.shape[-2], position.device)
    mass = mass.expand(position.shape[:-1])
    separation = position[..., j, :] - position[..., i, :]  # (..., P, D)
    relative = velocity[..., j, :] - velocity[..., i, :]  # (..., P, D)
    pair_mass = mass[..., i] + mass[..., j]  # (..., P)
    floor = squared_distance_floor(position.dtype)
    squared = (separation.square().sum(-1) + softening**2).clamp_min(floor)  # (..., P)
    distance = squared.sqrt()
    log_time = 0.5 * (1.5 * squared.log() - pair_mass.log())  # ln t_ff, (..., P)

    steepness = -SOFT_MINIMUM_POWER * log_time
    log_soft_minimum = -steepness.logsumexp(-1) / SOFT_MINIMUM_POWER  # (...,)
    weight = steepness.softmax(-1)  # (..., P)

    binding = mass[..., i] * mass[..., j] / distance  # |φ_ij|, (..., P)
    potential = binding.sum(-1)
    kinetic = kinetic_energy(velocity, mass)
    log_depth = _bounded_log(potential / (kinetic - potential).abs().clamp_min(floor))
    log_reference = log_soft_minimum - log_depth / 3

    circular = (pair_mass / distance).sqrt()  # speed of a circular orbit, (..., P)
    radial = (separation * relative).sum(-1) / distance / circular  # (..., P)
    swiftness = relative.square().sum(-1) / circular.square()  # v² r / GM, 2 at escape
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
        (weight * (weight + RMS_FLOOR).log()).sum(-1),
        (weight * (4 * mass[..., i] * mass[..., j] / pair_mass.square())).sum(-1),
        (weight * softening / distance).sum(-1),
        torch.full_like(potential, math.log(position.shape[-2])),
    ]
    return torch.stack([*columns, log_reference], dim=-1)


def _bounded_log(values: Tensor) -> Tensor:
    """ln, held within ±30 so that singular states still give finite features."""
    return values.clamp(math.exp(-LOG_RANGE), math.exp(LOG_RANGE)).log()
