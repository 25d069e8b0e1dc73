"""The pairwise pass for many particles: blocks of rows of the N × N matrix that fit in a cache.

Forward and backward hold one block at a time, so that memory grows as N. Each block works on planes
(rows, N), one for each dimension, in place.

Legend: N particles, D dimensions, R rows of a block; s = x_j - x_i, p = (s² + ε²)^(-1/2).
"""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.gravity.edges import squared_distance_floor

BLOCK_ELEMENTS = 2**17  # of one plane on a CPU: a megabyte of doubles
GPU_BLOCK_ELEMENTS = 2**24


def blocked_pairwise(
    position: Float[Tensor, "*B N D"], mass: Float[Tensor, "*B N"], softening: float
) -> tuple[Float[Tensor, "*B N D"], Float[Tensor, "*B"]]:
    """Acceleration (..., N, D) and potential energy (...,), once differentiable, with G = 1."""
    shape = position.shape
    systems = position.reshape(-1, *shape[-2:]), mass.reshape(-1, shape[-2])
    results = [
        cast(tuple[Tensor, Tensor], _BlockedPairs.apply(x, m, softening))
        for x, m in zip(*systems, strict=True)
    ]
    acceleration = torch.stack([result[0] for result in results]).reshape(shape)
    potential = torch.stack([result[1] for result in results]).reshape(shape[:-2])
    return acceleration, potential


class _BlockedPairs(torch.autograd.Function):
    """One system. The gradients are those of the formulas, summed block by block.

    With cotangents ā of the accelerations and Ū of the potential, and c_ij = m_j ā_i - m_i ā_j:

    x̄_i = -Σ_j p³ [c_ij + (Ū m_i m_j - 3 p² c_ij·s) s],  m̄_i = -Σ_j [p³ ā_j·s + Ū m_j p]
    """

    @staticmethod
    def forward(
        ctx: Any, position: Tensor, mass: Tensor, softening: float
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(position, mass)
        ctx.softening = softening
        planes = position.T.contiguous()  # (D, N)
        acceleration = torch.empty_like(planes)
        potential = torch.empty_like(mass)  # of each particle
        for rows in _blocks(mass):
            separation, inverse = _geometry(planes, rows, softening)
            torch.mv(inverse, mass, out=potential[rows])
            weight = inverse.square().mul_(inverse).mul_(mass)  # (R, N): m_j p³
            for along, total in zip(separation, acceleration, strict=True):
                torch.sum(along.mul_(weight), dim=1, out=total[rows])
        return acceleration.T.contiguous(), -0.5 * mass.dot(potential)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, by_acceleration: Tensor, by_potential: Tensor
    ) -> tuple[Tensor, Tensor, None]:
        position, mass = cast(tuple[Tensor, Tensor], ctx.saved_tensors)
        planes, cotangent = position.T.contiguous(), by_acceleration.T.contiguous()  # (D, N)
        by_position, by_mass = torch.empty_like(planes), torch.empty_like(mass)
        for rows in _blocks(mass):
            separation, inverse = _geometry(planes, rows, ctx.softening)
            squared = inverse.square()
            cube = squared * inverse
            here = mass[rows].unsqueeze(1)  # (R, 1): m_i
            pull, push = torch.zeros_like(cube), torch.zeros_like(cube)  # ā_i·s, ā_j·s
            for along, bar in zip(separation, cotangent, strict=True):
                pull.addcmul_(along, bar[rows].unsqueeze(1))
                push.addcmul_(along, bar)
            by_mass[rows] = -(cube * push).sum(1) - by_potential * (inverse @ mass)
            # The stretch along s, from c and from the potential.
            stretch = pull.mul_(mass).sub_(push.mul_(here)).mul_(squared).mul_(-3.0)
            stretch.add_(by_potential * here * mass).mul_(cube)
            cube_mass = cube @ mass  # (R,)
            for along, bar, total in zip(separation, cotangent, by_position, strict=True):
                direct = bar[rows] * cube_mass - mass[rows] * (cube @ bar)
                total[rows] = -(along.mul_(stretch).sum(1) + direct)
        return by_position.T.contiguous(), by_mass, None


def _blocks(mass: Tensor) -> list[slice]:
    particles = len(mass)
    elements = GPU_BLOCK_ELEMENTS if mass.is_cuda else BLOCK_ELEMENTS
    rows = max(1, elements // particles)
    return [slice(start, min(start + rows, particles)) for start in range(0, particles, rows)]


def _geometry(planes: Tensor, rows: slice, softening: float) -> tuple[list[Tensor], Tensor]:
    """Separations, a plane (R, N) for each dimension, and 1/r, which is 0 where i = j."""
    separation = [plane.unsqueeze(0) - plane[rows].unsqueeze(1) for plane in planes]
    squared = separation[0].square()
    for along in separation[1:]:
        squared.addcmul_(along, along)
    squared.add_(softening**2).clamp_min_(squared_distance_floor(planes.dtype))
    squared.diagonal(offset=rows.start).fill_(torch.inf)
    return separation, squared.rsqrt_()
