"""Softened Newtonian gravity: one pairwise pass gives force and potential.

Legend: ... any leading axes (systems), N particles, D dimensions. G = 1 unless given.
"""

import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.config.size import FUSED_BEYOND
from nbody.gravity.blocked import blocked_pairwise, plain_pairwise
from nbody.gravity.edges import Listed, are_listed, listed, squared_distance_floor
from nbody.gravity.external_field import TidalField
from nbody.gravity.vectors import dot, total

PLAIN_UP_TO = 2**11  # pairs in all, for which a block is more trouble than it saves


class Pairs(NamedTuple):
    """What one pass over all pairs gives."""

    acceleration: Float[Tensor, "*B N D"]
    potential_energy: Float[Tensor, "*B"]  # of the pairs and the external field


class ForceCount:
    """Systems whose forces were found, one by one."""

    systems = 0


_COUNT: ContextVar[ForceCount | None] = ContextVar("forces", default=None)


@contextmanager
def counted_forces() -> Generator[ForceCount]:
    """Count every pass over the pairs in what follows: of a batch of B systems, or of B trials of
    one, as B.
    """
    token = _COUNT.set(ForceCount())
    try:
        yield cast(ForceCount, _COUNT.get())
    finally:
        _COUNT.reset(token)


def count_forces(position: Float[Tensor, "*B N D"]) -> None:
    """Count a pass over the pairs of systems at these positions, for whoever counts."""
    if (count := _COUNT.get()) is not None:
        count.systems += position.shape[:-2].numel()


def pairwise(
    position: Float[Tensor, "*B N D"],
    mass: Float[Tensor, "*#B N"],
    softening: float = 0.0,
    field: TidalField | None = None,
    G: float = 1.0,
    *,
    counted: bool = True,
) -> Pairs:
    """Acceleration and potential energy in one pass over the pairs.

    a_i = G Σ_j m_j (x_j - x_i) / (r_ij² + ε²)^{3/2},  U = -G Σ_{i<j} m_i m_j / (r_ij² + ε²)^{1/2}

    Differentiable with respect to positions and masses; with more than 512 particles on a GPU once.
    Memory grows as N, not as N², but for second derivatives.

    Args:
        softening: Plummer softening length ε.
        field: external field, acting on every particle.
        counted: whether `counted_forces` counts it; not what is only looked at.
    """
    mass = mass.expand(position.shape[:-1])
    if counted:
        count_forces(position)
    acceleration, potential = _pass_for(position)(position, mass, softening)
    if G != 1.0:
        acceleration, potential = G * acceleration, G * potential
    if field is not None:
        acceleration = acceleration + field.acceleration(position, G)
        potential = potential + (mass * field.potential(position, G)).sum(-1)
    return Pairs(acceleration, potential)


def _pass_for(position: Tensor) -> Callable[[Tensor, Tensor, float], Any]:
    """The fastest way through the pairs of systems like these (..., N, D)."""
    particles = position.shape[-2]
    if are_listed(particles, position.device):
        return partial(_listed_pairwise, listed(particles, position.device))
    if particles > FUSED_BEYOND:
        return pairwise_of_many(position.device)
    few = position.shape[:-1].numel() * particles <= PLAIN_UP_TO
    return plain_pairwise if few or torch.compiler.is_compiling() else blocked_pairwise


@lru_cache(maxsize=16)
def pairwise_of_many(device: torch.device) -> Callable[[Tensor, Tensor, float], Any]:
    """The pass for more than 512 particles: on a GPU one kernel, once it has proved itself."""
    if device.type != "cuda":
        return blocked_pairwise
    try:
        from nbody.gravity.fused import fused_pairwise  # noqa: PLC0415 - needs Triton

        trial = torch.linspace(0, 1, 3 * 65, dtype=torch.float64, device=device).sin()
        position, mass = trial.view(65, 3), trial[:65] + 1
        for found, expected in zip(
            fused_pairwise(position, mass, 0.01),
            blocked_pairwise(position, mass, 0.01),
            strict=True,
        ):
            torch.testing.assert_close(found, expected)
    except Exception as error:  # noqa: BLE001 - whatever a compiler or a driver may raise
        warnings.warn(f"large systems go without the fused kernel: {error}", stacklevel=3)
        return blocked_pairwise
    return fused_pairwise


def _listed_pairwise(
    edges: Listed, position: Tensor, mass: Tensor, softening: float
) -> tuple[Tensor, Tensor]:
    """Few particles: systems run along memory, in (D, N, ...) and (E, ...)."""
    planes, rows = position.movedim((-1, -2), (0, 1)), mass.movedim(-1, 0)
    first, second = edges.first, edges.second
    separation = planes.index_select(1, second) - planes.index_select(1, first)
    squared = dot(separation, separation, dim=0)
    if softening:
        squared = squared + softening**2
    inverse = squared.clamp_min(squared_distance_floor(squared.dtype)).rsqrt()
    here, there = rows.index_select(0, first), rows.index_select(0, second)
    pull = inverse * inverse * inverse * separation  # (D, E, ...)
    acceleration = torch.zeros_like(planes).index_add_(1, first, there * pull)
    acceleration.index_add_(1, second, here * pull, alpha=-1)
    return acceleration.movedim((0, 1), (-1, -2)), -total(here * there * inverse, 0)
