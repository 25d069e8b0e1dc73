"""The pairs of a system of N particles, as edges: differences between particles, sums onto them.

Legend: ... any leading axes (systems), N particles, D dimensions, E edges, R rows of a block.

Vectors along edges are planes (D, ..., E), one for each dimension, so that the arithmetic runs
along memory. Few particles have one edge for each pair i < j. More have the full matrix of directed
edges, N² of them, in which a pair counts twice with half the share and the diagonal has none: that
is twice the arithmetic, but without gathering and scattering, and faster from six particles on.
Many have the matrix in blocks of rows, so that memory grows as N. On a GPU, which scatters sums in
any order, pairs are listed only where the order cannot change a sum's bits: as long as each
particle gets two terms at most.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nbody.config.size import LISTED_UP_TO, PAIRS_AT_ONCE, PAIRS_AT_ONCE_ON_GPU
from nbody.gravity.vectors import dot

LISTED_ON_GPU = 3  # particles, up to which pairs are listed


def squared_distance_floor(dtype: torch.dtype) -> float:
    """Least r² + ε² whose inverse cube of r is finite: coincident particles give finite numbers."""
    return torch.finfo(dtype).tiny ** 0.6


def pairs_at_once(device: torch.device) -> int:
    """Pairs that are in memory at once: on a CPU as many as stay in its cache."""
    return PAIRS_AT_ONCE if device.type == "cpu" else PAIRS_AT_ONCE_ON_GPU


@dataclass(frozen=True)
class Listed:
    """Each pair i < j is one edge.

    Attributes:
        first, second: the particles i and j.
        share: of a pair that an edge stands for.
    """

    particles: int
    first: Int[Tensor, " E"]
    second: Int[Tensor, " E"]
    share = 1.0

    def difference(self, values: Float[Tensor, "*B N D"]) -> Float[Tensor, "D *B E"]:
        """values_j - values_i (D, ..., E) of values (..., N, D)."""
        planes = values.movedim((-1, -2), (0, 1))  # systems run along memory in what follows
        planes = planes.index_select(1, self.second) - planes.index_select(1, self.first)
        return planes.movedim(1, -1)

    def ends(
        self, values: Float[Tensor, "*B N"]
    ) -> tuple[Float[Tensor, "*B E"], Float[Tensor, "*B E"]]:
        """(values_i, values_j), each (..., E), of values (..., N)."""
        rows = values.movedim(-1, 0)
        first, second = rows.index_select(0, self.first), rows.index_select(0, self.second)
        return first.movedim(0, -1), second.movedim(0, -1)

    def without_loops(self, values: Float[Tensor, "*B E"], _: float) -> Float[Tensor, "*B E"]:
        """The edge values: no edge is a loop."""
        return values

    def pull(
        self, vectors: Float[Tensor, "D *B E"], mass: Float[Tensor, "*#B N"]
    ) -> Float[Tensor, "... N D"]:
        """Σ_j m_j f_ij (..., N, D) of edge vectors f_ij = -f_ji (D, ..., E)."""
        rows, edges = mass.movedim(-1, 0), vectors.movedim(-1, 1)  # (N, ...), (D, E, ...)
        total = edges.new_zeros(len(edges), self.particles, *edges.shape[2:])
        total.index_add_(1, self.first, edges * rows.index_select(0, self.second))
        total.index_add_(1, self.second, edges * rows.index_select(0, self.first), alpha=-1)
        return total.movedim((0, 1), (-1, -2))


@dataclass(frozen=True)
class Rows:
    """Some rows of the matrix of directed edges, those from particles i = start … stop - 1."""

    particles: int
    start: int
    stop: int
    share = 0.5

    def difference(self, values: Float[Tensor, "*B N D"]) -> Float[Tensor, "D *B E"]:
        """values_j - values_i (D, ..., E) of values (..., N, D)."""
        planes = values.movedim(-1, 0).contiguous()  # (D, ..., N)
        here = planes[..., self.start : self.stop]
        return (planes.unsqueeze(-2) - here.unsqueeze(-1)).flatten(-2)

    def ends(
        self, values: Float[Tensor, "*B N"]
    ) -> tuple[Float[Tensor, "*B E"], Float[Tensor, "*B E"]]:
        """(values_i, values_j), each (..., E), of values (..., N)."""
        here = values[..., self.start : self.stop]
        shape = (*here.shape, self.particles)
        first, second = here.unsqueeze(-1).expand(shape), values.unsqueeze(-2).expand(shape)
        return first.flatten(-2), second.flatten(-2)

    def without_loops(self, values: Float[Tensor, "*B E"], fill: float) -> Float[Tensor, "*B E"]:
        """The edge values, with `fill` where an edge is a loop."""
        values = values.clone()
        self._matrix(values).diagonal(self.start, -2, -1).fill_(fill)
        return values

    def pull(
        self, vectors: Float[Tensor, "D *B E"], mass: Float[Tensor, "*#B N"]
    ) -> Float[Tensor, "... R D"]:
        """Σ_j m_j f_ij (..., R, D) of edge vectors f_ij = -f_ji (D, ..., E)."""
        pulls = mass.unsqueeze(-2) * self._matrix(vectors)
        return pulls.sum(-1).movedim(0, -1)  # no matrix product: no TF32

    def _matrix(self, values: Tensor) -> Tensor:
        """Edge values (..., E) as (..., R, N)."""
        return values.view(*values.shape[:-1], self.stop - self.start, self.particles)


Edges = Listed | Rows


def squared_lengths(
    edges: Edges, separation: Float[Tensor, "D *B E"], softening: float
) -> Float[Tensor, "*B E"]:
    """r² + ε² (..., E) of separations (D, ..., E), not zero, and one where i = j."""
    squared = dot(separation, separation, dim=0)
    if softening:
        squared = squared + softening**2
    return edges.without_loops(squared.clamp_min(squared_distance_floor(squared.dtype)), 1.0)


def edges_of(position: Float[Tensor, "*B N D"]) -> list[Edges]:
    """All edges of systems (..., N, D), in as many parts as keep memory from growing as N²."""
    particles, device = position.shape[-2], position.device
    if are_listed(particles, device):
        return [listed(particles, device)]
    rows = max(1, pairs_at_once(device) // particles)
    return [
        Rows(particles, start, min(start + rows, particles)) for start in range(0, particles, rows)
    ]


def are_listed(particles: int, device: torch.device) -> bool:
    """Whether systems of so many particles have their pairs listed."""
    return particles <= (LISTED_UP_TO if device.type == "cpu" else LISTED_ON_GPU)


@lru_cache(maxsize=64)
def listed(particles: int, device: torch.device) -> Listed:
    """Every pair of so many particles."""
    first, second = torch.triu_indices(particles, particles, offset=1, device=device)
    return Listed(particles, first, second)
