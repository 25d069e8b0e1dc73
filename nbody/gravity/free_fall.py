"""The free-fall time of the closest pair, the time scale of a state.

Legend: ... any leading axes (systems), N particles, D dimensions, P = N(N-1)/2 pairs.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nbody.config.size import BLOCKED_BEYOND
from nbody.gravity.blocked import BLOCK_ELEMENTS
from nbody.gravity.edges import squared_distance_floor


def pair_index(n: int, device: torch.device) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"]]:
    """Indices i < j of all pairs, each (P,)."""
    i, j = torch.triu_indices(n, n, offset=1, device=device)
    return i, j


def free_fall_times(
    squared: Float[Tensor, "*B"], pair_mass: Float[Tensor, "*#B"]
) -> Float[Tensor, "*B"]:
    """sqrt(r³ / G(m_i + m_j)) of each pair; `squared` is r² + ε²."""
    return (squared**1.5 / pair_mass).sqrt()


def free_fall_time(
    position: Float[Tensor, "*B N D"], mass: Float[Tensor, "*#B N"], softening: float
) -> Float[Tensor, "*B"]:
    """The shortest free-fall time over the pairs, (...,); of many particles some rows at a time."""
    if position.shape[-2] > BLOCKED_BEYOND:
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
