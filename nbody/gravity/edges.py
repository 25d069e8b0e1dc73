"""The pairs of a system of N particles, as edges: differences between particles, sums onto them.

Legend: ... any leading axes (systems), N particles, D dimensions, E edges.

Few particles have one edge for each pair i < j. More have the full matrix of directed edges, N² of
them, in which a pair counts twice with half the share and the diagonal has none: that is twice the
arithmetic, but without gathering and scattering, and faster from six particles on. On a GPU, which
scatters sums in any order, pairs are listed only where the order cannot change a sum's bits: as
long as each particle gets two terms at most.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nbody.config.size import LISTED_UP_TO

LISTED_ON_GPU = 3  # particles, up to which pairs are listed


def squared_distance_floor(dtype: torch.dtype) -> float:
    """Least r² + ε² whose inverse cube of r is finite: coincident particles give finite numbers."""
    return torch.finfo(dtype).tiny ** 0.6


@dataclass(frozen=True)
class Edges:
    """Which particles each edge joins, and how much of a pair it stands for.

    Attributes:
        first, second: the particles i and j.
        share: 1 for a listed pair; 1/2, and 0 on the diagonal, for the full matrix.
        loops: 1 on the diagonal, else 0; None where no edge is a loop.
    """

    particles: int
    first: Int[Tensor, " E"]
    second: Int[Tensor, " E"]
    share: Float[Tensor, " E"]
    log_share: Float[Tensor, " E"]
    loops: Float[Tensor, " E"] | None

    @property
    def listed(self) -> bool:
        """Whether each pair is one edge."""
        return self.loops is None

    def difference(self, values: Float[Tensor, "*B N D"]) -> Float[Tensor, "*B E D"]:
        """values_j - values_i (..., E, D) of values (..., N, D)."""
        if self.listed:
            return values.index_select(-2, self.second) - values.index_select(-2, self.first)
        return (values.unsqueeze(-3) - values.unsqueeze(-2)).flatten(-3, -2)

    def ends(
        self, values: Float[Tensor, "*B N"]
    ) -> tuple[Float[Tensor, "*B E"], Float[Tensor, "*B E"]]:
        """(values_i, values_j), each (..., E), of values (..., N)."""
        if self.listed:
            return values.index_select(-1, self.first), values.index_select(-1, self.second)
        shape = (*values.shape[:-1], self.particles, self.particles)
        first, second = values.unsqueeze(-1).expand(shape), values.unsqueeze(-2).expand(shape)
        return first.flatten(-2), second.flatten(-2)

    def squared(
        self, separation: Float[Tensor, "*B E D"], softening: float, floor: float
    ) -> Float[Tensor, "*B E"]:
        """r² + ε² (..., E) of separations (..., E, D), >= `floor`, and not small where i = j."""
        squared = (separation.square().sum(-1) + softening**2).clamp_min(floor)
        return squared if self.loops is None else squared + self.loops

    def pull(
        self, vectors: Float[Tensor, "*#B E D"], mass: Float[Tensor, "*#B N"]
    ) -> Float[Tensor, "... N D"]:
        """Σ_j m_j f_ij (..., N, D) of edge vectors f_ij = -f_ji (..., E, D)."""
        if not self.listed:
            sides = (self.particles, self.particles)
            square = vectors.reshape(*vectors.shape[:-2], *sides, vectors.shape[-1])
            return (mass[..., None, :, None] * square).sum(-2)  # no matrix product: no TF32
        first, second = self.ends(mass)
        total = vectors.new_zeros(*vectors.shape[:-2], self.particles, vectors.shape[-1])
        total = total.index_add(-2, self.first, second.unsqueeze(-1) * vectors)
        return total.index_add(-2, self.second, -first.unsqueeze(-1) * vectors)

    def total(self, values: Float[Tensor, "*B E"]) -> Float[Tensor, "*B"]:
        """Sum (...,) over the pairs of symmetric edge values (..., E)."""
        return values.sum(-1) if self.listed else (values * self.share).sum(-1)


@lru_cache(maxsize=64)
def edges_of(particles: int, dtype: torch.dtype, device: torch.device) -> Edges:
    """The edges of N particles."""
    if particles <= (LISTED_UP_TO if device.type == "cpu" else LISTED_ON_GPU):
        first, second = torch.triu_indices(particles, particles, offset=1, device=device)
        ones = torch.ones(len(first), dtype=dtype, device=device)
        return Edges(particles, first, second, ones, torch.zeros_like(ones), None)
    place = torch.arange(particles, device=device)
    first, second = place.repeat_interleave(particles), place.repeat(particles)
    loops = (first == second).to(dtype)
    share = 0.5 * (1 - loops)
    return Edges(particles, first, second, share, share.log(), loops)
