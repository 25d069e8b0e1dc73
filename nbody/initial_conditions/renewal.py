"""Populations that evolve from epoch to epoch: systems that are old make way for fresh ones.

Legend: B systems, N particles, D dimensions. G = 1.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.particle import ParticleTorch


def crossing_time(particle: ParticleTorch) -> Float[Tensor, "*B"]:
    """M^2.5 / (2|E|)^1.5, () or (B,): a virialized system's time to cross itself.

    Of an unbound one, whose E may be zero, with K + |U| in its place.
    """
    energies = particle.energies()
    total = energies.total
    unbound = energies.kinetic + energies.potential.abs()
    return particle.mass.sum(-1) ** 2.5 / (2 * torch.where(total < 0, -total, unbound)) ** 1.5


def renew(evolved: ParticleTorch, fresh: ParticleTorch, lifetime: float) -> ParticleTorch:
    """`evolved`, with those of its systems that are older than `lifetime` crossing times replaced.

    The gate's thresholds, where systems have their own, are those of `fresh`.
    """
    old = evolved.current_time >= lifetime * crossing_time(evolved)  # () or (B,)

    def chosen(name: str) -> Tensor:
        kept, new = getattr(evolved, name), getattr(fresh, name)
        return torch.where(old.reshape(old.shape + (1,) * (new.dim() - old.dim())), new, kept)

    names = ("mass", "position", "velocity", "dt", "current_time")
    tensors: dict[str, Any] = {name: chosen(name) for name in names}
    return ParticleTorch(
        **tensors,
        softening=fresh.softening,
        period=None if fresh.period is None else chosen("period"),
        external_field=fresh.external_field,
        energy_threshold=fresh.energy_threshold,
        gate=fresh.gate,
        integrator=fresh.integrator,
    )
