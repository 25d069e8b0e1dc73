# pyright: basic, reportArgumentType=false, reportCallIssue=false
"""The pairwise pass for many particles on a GPU: one kernel, which keeps no pair in memory.

The kernels take softening and floor as tensors: Triton passes a Python number as float32.

Legend: S systems, N particles, D dimensions; s = x_j - x_i, p = (s² + ε²)^(-1/2). The gradients are
those of `blocked_gravity`.
"""

from typing import Any, cast

import torch
import triton
import triton.language as tl
from torch import Tensor

from nbody.gravity.edges import squared_distance_floor

ROWS, COLUMNS = 32, 64  # pairs (i, j) that a program works on at once
# With four warps its numbers do not fit into the registers. Fusion: a * b + c is one rounding.
LAUNCH = {"num_warps": 8, "enable_fp_fusion": True}


def fused_pairwise(position: Tensor, mass: Tensor, softening: float) -> tuple[Tensor, Tensor]:
    """Acceleration (..., N, D) and potential energy (...,), once differentiable, with G = 1.

    Args:
        position: (..., N, D)
        mass: (..., N)
    """
    shape = position.shape
    acceleration, potential = cast(
        tuple[Tensor, Tensor],
        _FusedPairs.apply(
            position.reshape(-1, *shape[-2:]), mass.reshape(-1, shape[-2]), softening
        ),
    )
    return acceleration.reshape(shape), potential.reshape(shape[:-2])


class _FusedPairs(torch.autograd.Function):
    """Systems (S, N, D) and masses (S, N)."""

    @staticmethod
    def forward(
        ctx: Any, position: Tensor, mass: Tensor, softening: float
    ) -> tuple[Tensor, Tensor]:
        position, mass = position.contiguous(), mass.contiguous()
        ctx.save_for_backward(position, mass)
        ctx.softening = softening
        acceleration = torch.empty_like(position)
        potential = torch.empty_like(mass)  # of each particle
        with torch.cuda.device_of(position):  # Triton launches on the current one
            sizes = _sizes(position, softening)
            _forces[_grid(mass)](position, mass, acceleration, potential, *sizes, **LAUNCH)
        return acceleration, -0.5 * (mass * potential).sum(-1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, by_acceleration: Tensor, by_potential: Tensor
    ) -> tuple[Tensor, Tensor, None]:
        position, mass = cast(tuple[Tensor, Tensor], ctx.saved_tensors)
        by_position, by_mass = torch.empty_like(position), torch.empty_like(mass)
        bars = by_acceleration.contiguous(), by_potential.contiguous()
        with torch.cuda.device_of(position):
            sizes = _sizes(position, ctx.softening)
            found = by_position, by_mass
            _gradients[_grid(mass)](position, mass, *bars, *found, *sizes, **LAUNCH)
        return by_position, by_mass, None


def _grid(mass: Tensor) -> tuple[int, int]:
    """Programs: systems first, of whose axis a GPU takes 2³¹; of the second, of rows, 65,535."""
    return mass.shape[0], triton.cdiv(mass.shape[1], ROWS)


def _sizes(position: Tensor, softening: float) -> tuple[Any, ...]:
    n, dim = position.shape[1:]
    constants = (
        torch.full((), number, dtype=position.dtype, device=position.device)
        for number in (softening**2, squared_distance_floor(position.dtype))
    )
    return n, *constants, dim, ROWS, COLUMNS


@triton.jit
def _particles(values, system, index, inside, n, plane, dim: tl.constexpr):
    """One coordinate of the particles at an index; zero in a plane that is not there."""
    there = inside & (plane < dim)
    return tl.load(values + (system * n + index) * dim + plane, mask=there, other=0.0)


@triton.jit
def _inverse_distance(dx, dy, dz, rows, columns, n, softening2, floor):
    """p of the pairs, zero where i = j and outside the system."""
    squared = dx * dx + dy * dy + dz * dz + tl.load(softening2)
    squared = tl.maximum(squared, tl.load(floor), propagate_nan=tl.PropagateNan.ALL)
    pair = (rows[:, None] != columns[None, :]) & (columns < n)[None, :]
    return tl.where(pair, 1.0 / tl.sqrt(squared), 0.0)


@triton.jit
def _forces(
    position,
    mass,
    acceleration,
    potential,
    n,
    softening2,
    floor,
    dim: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """a_i = Σ_j m_j p³ s and Σ_j m_j p of a block of particles i."""
    system = tl.program_id(0).to(tl.int64)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    here = rows < n
    x = _particles(position, system, rows, here, n, 0, dim)
    y = _particles(position, system, rows, here, n, 1, dim)
    z = _particles(position, system, rows, here, n, 2, dim)
    ax, ay, az, depth = x * 0, x * 0, x * 0, x * 0
    for start in range(0, n, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        there = columns < n
        dx = _particles(position, system, columns, there, n, 0, dim)[None, :] - x[:, None]
        dy = _particles(position, system, columns, there, n, 1, dim)[None, :] - y[:, None]
        dz = _particles(position, system, columns, there, n, 2, dim)[None, :] - z[:, None]
        p = _inverse_distance(dx, dy, dz, rows, columns, n, softening2, floor)
        pull = tl.load(mass + system * n + columns, mask=there, other=0.0)[None, :] * p
        depth += tl.sum(pull, axis=1)
        pull = pull * p * p
        ax += tl.sum(pull * dx, axis=1)
        ay += tl.sum(pull * dy, axis=1)
        az += tl.sum(pull * dz, axis=1)
    place = acceleration + (system * n + rows) * dim
    tl.store(place, ax, mask=here & (dim > 0))
    tl.store(place + 1, ay, mask=here & (dim > 1))
    tl.store(place + 2, az, mask=here & (dim > 2))
    tl.store(potential + system * n + rows, depth, mask=here)


@triton.jit
def _gradients(
    position,
    mass,
    by_acceleration,
    by_potential,
    by_position,
    by_mass,
    n,
    softening2,
    floor,
    dim: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The gradients with respect to a block of particles i."""
    system = tl.program_id(0).to(tl.int64)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    here = rows < n
    x = _particles(position, system, rows, here, n, 0, dim)
    y = _particles(position, system, rows, here, n, 1, dim)
    z = _particles(position, system, rows, here, n, 2, dim)
    bx = _particles(by_acceleration, system, rows, here, n, 0, dim)[:, None]
    by = _particles(by_acceleration, system, rows, here, n, 1, dim)[:, None]
    bz = _particles(by_acceleration, system, rows, here, n, 2, dim)[:, None]
    mi = tl.load(mass + system * n + rows, mask=here, other=0.0)[:, None]
    ubar = tl.load(by_potential + system)
    gx, gy, gz, gm = x * 0, x * 0, x * 0, x * 0
    for start in range(0, n, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        there = columns < n
        dx = _particles(position, system, columns, there, n, 0, dim)[None, :] - x[:, None]
        dy = _particles(position, system, columns, there, n, 1, dim)[None, :] - y[:, None]
        dz = _particles(position, system, columns, there, n, 2, dim)[None, :] - z[:, None]
        jx = _particles(by_acceleration, system, columns, there, n, 0, dim)[None, :]
        jy = _particles(by_acceleration, system, columns, there, n, 1, dim)[None, :]
        jz = _particles(by_acceleration, system, columns, there, n, 2, dim)[None, :]
        mj = tl.load(mass + system * n + columns, mask=there, other=0.0)[None, :]
        p = _inverse_distance(dx, dy, dz, rows, columns, n, softening2, floor)
        cube = p * p * p
        gm -= tl.sum(cube * (jx * dx + jy * dy + jz * dz) + ubar * mj * p, axis=1)
        cx, cy, cz = mj * bx - mi * jx, mj * by - mi * jy, mj * bz - mi * jz
        stretch = ubar * mi * mj - 3 * p * p * (cx * dx + cy * dy + cz * dz)
        gx -= tl.sum(cube * (cx + stretch * dx), axis=1)
        gy -= tl.sum(cube * (cy + stretch * dy), axis=1)
        gz -= tl.sum(cube * (cz + stretch * dz), axis=1)
    place = by_position + (system * n + rows) * dim
    tl.store(place, gx, mask=here & (dim > 0))
    tl.store(place + 1, gy, mask=here & (dim > 1))
    tl.store(place + 2, gz, mask=here & (dim > 2))
    tl.store(by_mass + system * n + rows, gm, mask=here)
