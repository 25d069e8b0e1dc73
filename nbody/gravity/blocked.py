"""The pairwise pass over the N × N matrix of pairs: in blocks that fit in a cache.

A block is the pairs of several systems, or some rows of a large one's. Forward and backward hold
one block at a time, so that memory does not grow with the number of systems, and as N, not N². The
work is done on planes, one for each dimension, in place.

Legend: S systems, N particles, D dimensions, R rows of a block; s = x_j - x_i,
p = (s² + ε²)^(-1/2).
"""

from collections.abc import Iterator
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.gravity.edges import pairs_at_once, squared_distance_floor
from nbody.gravity.vectors import dot


def blocked_pairwise(
    position: Float[Tensor, "*B N D"], mass: Float[Tensor, "*B N"], softening: float
) -> tuple[Float[Tensor, "*B N D"], Float[Tensor, "*B"]]:
    """Acceleration (..., N, D) and potential energy (...,) with G = 1.

    Differentiable; second derivatives have the whole matrix in memory.
    """
    shape = position.shape
    planes = position.reshape(-1, *shape[-2:]).movedim(-1, 0)
    acceleration, potential = cast(
        tuple[Tensor, Tensor],
        _BlockedPairs.apply(planes, mass.reshape(-1, shape[-2]), softening),
    )
    return acceleration.movedim(0, -1).reshape(shape), potential.reshape(shape[:-2])


def plain_pairwise(
    position: Float[Tensor, "*B N D"], mass: Float[Tensor, "*B N"], softening: float
) -> tuple[Float[Tensor, "*B N D"], Float[Tensor, "*B"]]:
    """The matrix of pairs in plain arithmetic: where it is small, and for torch's compiler."""
    planes = position.movedim(-1, 0)  # (D, ..., N)
    separation = planes.unsqueeze(-2) - planes.unsqueeze(-1)  # (D, ..., N, N)
    squared = dot(separation, separation, dim=0)
    if softening:
        squared = squared + softening**2
    squared = squared.clamp_min(squared_distance_floor(squared.dtype))
    squared.diagonal(0, -2, -1).fill_(torch.inf)
    inverse = squared.rsqrt()
    weight = inverse * mass.unsqueeze(-2)  # m_j / r_ij
    potential = -0.5 * (mass * weight.sum(-1)).sum(-1)
    pull = inverse * inverse * weight * separation
    return pull.sum(-1).movedim(0, -1), potential


class _BlockedPairs(torch.autograd.Function):
    """Planes (D, S, N) of the positions. The gradients are those of the formulas, block by block.

    With cotangents ā of the accelerations and Ū of the potential, and c_ij = m_j ā_i - m_i ā_j:

    x̄_i = -Σ_j p³ [c_ij + (Ū m_i m_j - 3 p² c_ij·s) s],  m̄_i = -Σ_j [p³ ā_j·s + Ū m_j p]
    """

    @staticmethod
    def forward(ctx: Any, planes: Tensor, mass: Tensor, softening: float) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(planes, mass)
        ctx.softening = softening
        planes, mass = planes.contiguous(), mass.contiguous()
        acceleration = torch.empty_like(planes)
        depth = torch.empty_like(mass)  # Σ_j m_j p of each particle
        space = _Workspace(mass, len(planes))
        for block in _blocks(mass):
            systems, rows = block
            separation, inverse = space.geometry(planes, block, softening)
            weight = space.plane(block)
            torch.mul(inverse, mass[systems].unsqueeze(-2), out=weight)
            torch.sum(weight, -1, out=depth[systems, rows])
            weight.mul_(inverse.square_())  # m_j p³
            torch.sum(separation.mul_(weight), -1, out=acceleration[:, systems, rows])
        return acceleration, -0.5 * (mass * depth).sum(-1)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, by_acceleration: Tensor, by_potential: Tensor
    ) -> tuple[Tensor, Tensor, None]:
        planes, mass = cast(tuple[Tensor, Tensor], ctx.saved_tensors)
        if torch.is_grad_enabled():  # the gradients are to be differentiated, too
            inputs = [t if t.requires_grad else t.clone().requires_grad_() for t in (planes, mass)]
            found = plain_pairwise(inputs[0].movedim(0, -1), inputs[1], ctx.softening)
            bars = by_acceleration.movedim(0, -1), by_potential
            by_planes, by_masses = torch.autograd.grad(found, inputs, bars, create_graph=True)
            return by_planes, by_masses, None
        planes, mass = planes.contiguous(), mass.contiguous()
        cotangent = by_acceleration.contiguous()  # (D, S, N)
        by_position, by_mass = torch.empty_like(planes), torch.empty_like(mass)
        space = _Workspace(mass, len(planes))
        for block in _blocks(mass):
            systems, rows = block
            separation, inverse = space.geometry(planes, block, ctx.softening)
            here, there = mass[systems, rows].unsqueeze(-1), mass[systems].unsqueeze(-2)
            bar, bars = by_potential[systems, None, None], cotangent[:, systems]
            squared = inverse.square()
            cube = squared * inverse
            pull, push = torch.zeros_like(cube), torch.zeros_like(cube)  # ā_i·s, ā_j·s
            for along, all_bars in zip(separation, bars, strict=True):
                pull.addcmul_(along, all_bars[:, rows].unsqueeze(-1))
                push.addcmul_(along, all_bars.unsqueeze(-2))
            by_mass[systems, rows] = -(cube * push).sum(-1)
            by_mass[systems, rows] -= bar.squeeze(-1) * _times(inverse, mass[None, systems])[0]
            # The stretch along s, from c and from the potential.
            stretch = pull.mul_(there).sub_(push.mul_(here)).mul_(squared).mul_(-3.0)
            stretch.addcmul_(bar * here, there).mul_(cube)
            direct = bars[:, :, rows] * _times(cube, mass[None, systems])
            direct -= mass[systems, rows] * _times(cube, bars)
            torch.sum(separation.mul_(stretch), -1, out=by_position[:, systems, rows])
            by_position[:, systems, rows] += direct
        return by_position.neg_(), by_mass, None


def _times(matrix: Tensor, planes: Tensor) -> Tensor:
    """Σ_j (K, S, R) of a matrix (S, R, N) times planes (K, S, N)."""
    if matrix.is_cuda:  # no matrix product: no TF32
        return (matrix * planes.unsqueeze(-2)).sum(-1)
    return (matrix @ planes.movedim(0, -1)).movedim(-1, 0)


Block = tuple[slice, slice]  # of systems, of rows


def _blocks(mass: Tensor) -> Iterator[Block]:
    """Blocks of the pairs of systems (S, N)."""
    systems, particles = mass.shape
    at_once = pairs_at_once(mass.device)
    several = max(1, at_once // particles**2)
    rows = min(particles, max(1, at_once // particles))
    for first in range(0, systems, several):
        some = slice(first, min(first + several, systems))
        for row in range(0, particles, rows):
            yield some, slice(row, min(row + rows, particles))


class _Workspace:
    """Memory of one block, used by each in its turn: (D + 2, S, R, N) at most."""

    def __init__(self, mass: Tensor, dim: int) -> None:
        systems, rows = next(_blocks(mass))
        size = dim + 2, systems.stop, rows.stop, mass.shape[1]
        self._numbers = mass.new_empty(size)

    def _of(self, block: Block) -> Tensor:
        systems, rows = (part.stop - part.start for part in block)
        return self._numbers[:, :systems, :rows]

    def plane(self, block: Block) -> Tensor:
        """Room for a number of each pair (S, R, N) of a block."""
        return self._of(block)[-1]

    def geometry(self, planes: Tensor, block: Block, softening: float) -> tuple[Tensor, Tensor]:
        """Separations (D, S, R, N) and 1/r (S, R, N), which is 0 where i = j."""
        systems, rows = block
        room = self._of(block)
        separation, squared = room[:-2], room[-2]
        there, here = planes[:, systems].unsqueeze(-2), planes[:, systems, rows].unsqueeze(-1)
        torch.sub(there, here, out=separation)
        torch.mul(separation[0], separation[0], out=squared)
        for along in separation[1:]:
            squared.addcmul_(along, along)
        if softening:
            squared.add_(softening**2)
        squared.clamp_min_(squared_distance_floor(planes.dtype))
        squared.diagonal(rows.start, -2, -1).fill_(torch.inf)
        return separation, squared.rsqrt_()
