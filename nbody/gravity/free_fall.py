"""The free-fall time of the closest pair, the time scale of a state.

Legend: ... any leading axes (systems), N particles, D dimensions, P = N(N-1)/2 pairs, E edges.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nbody.gravity.edges import edges_of, squared_lengths


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
    """The shortest free-fall time over the pairs, (...,)."""
    shortest: list[Tensor] = []
    for edges in edges_of(position):
        first, second = edges.ends(mass.expand(position.shape[:-1]))
        squared = squared_lengths(edges, edges.difference(position), softening)  # (..., E)
        times = edges.without_loops(free_fall_times(squared, first + second), torch.inf)
        shortest.append(times.amin(-1))
    return torch.stack(shortest).amin(0)
