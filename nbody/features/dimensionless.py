"""The shape of a state: features that no change of units, frame or order of the particles changes.

Legend: ... any leading axes (systems), N particles, D dimensions, E edges.
"""

import math
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.features.original import RMS_FLOOR
from nbody.gravity.edges import Edges, edges_of, squared_distance_floor, squared_lengths
from nbody.gravity.invariants import Energies, kinetic_energy
from nbody.gravity.vectors import dot, total

SOFT_MINIMUM_POWER = 4.0
LOG_RANGE = 30.0
LEAST_PAIR_MASS = 1e-18  # of the system's mass


class _PairsAlong:
    """What the pairs along some edges are: their masses, distances and time scales, (..., E)."""

    def __init__(
        self,
        edges: Edges,
        position: Float[Tensor, "*B N D"],
        mass: Float[Tensor, "*B N"],
        softening: float,
    ) -> None:
        self.edges, self.softening = edges, softening
        self.separation = edges.difference(position)  # (D, ..., E)
        squared = squared_lengths(edges, self.separation, softening)  # r² + ε²
        first, second = edges.ends(mass)
        # Two massless bodies do not pull: a pair that never decides, and numbers that stay finite.
        least = LEAST_PAIR_MASS * mass.sum(-1, keepdim=True)
        self.mass = torch.maximum(first + second, least)
        self.mass_product = first * second
        self.distance = squared.sqrt()
        self.binding = self.mass_product / self.distance  # |φ_ij|
        log_time = 0.5 * (1.5 * squared.log() - self.mass.log())  # ln t_ff
        steepness = math.log(edges.share) - SOFT_MINIMUM_POWER * log_time
        self.steepness = edges.without_loops(steepness, -math.inf)

    @property
    def potential(self) -> Float[Tensor, "*B"]:
        """|φ| of these pairs."""
        bound = self.edges.without_loops(self.binding, 0.0)
        return self.edges.share * total(bound, -1)

    def means(
        self,
        velocity: Float[Tensor, "*B N D"],
        log_total: Float[Tensor, "*B"],
        potential: Float[Tensor, "*B"],
    ) -> Float[Tensor, " Q *B"]:
        """Pair quantities (Q, ...), summed with the weights of the soft minimum over all pairs.

        Args:
            log_total: ln of the sum over all pairs of exp(steepness).
            potential: |φ| of all pairs.
        """
        floor = squared_distance_floor(velocity.dtype)
        relative_velocity = self.edges.difference(velocity)
        weight = (self.steepness - log_total.unsqueeze(-1)).exp()  # (..., E)
        circular2 = self.mass / self.distance  # speed of a circular orbit, squared
        radial = dot(self.separation, relative_velocity, dim=0) / (self.distance * circular2.sqrt())
        swiftness = dot(relative_velocity, relative_velocity, dim=0) / circular2  # v² r / GM
        direction = radial / (swiftness + RMS_FLOOR).sqrt()  # cos(r, v)
        dominance = _bounded_log(self.binding / potential.unsqueeze(-1).clamp_min(floor))
        quantities = [
            radial,
            direction,
            swiftness / (1 + swiftness),
            (swiftness + 0.01).log(),
            dominance,
            (weight / self.edges.share + RMS_FLOOR).log(),
            4 * self.mass_product / self.mass.square(),
        ]
        if self.softening:
            quantities.append(self.softening / self.distance)
        else:
            quantities.append(torch.zeros_like(radial))
        return torch.stack([total(weight * quantity, -1) for quantity in quantities])


def dimensionless_features(
    position: Float[Tensor, "*B N D"],
    velocity: Float[Tensor, "*B N D"],
    mass: Float[Tensor, "*#B N"],
    softening: float,
) -> Float[Tensor, "*B F"]:
    """Scale-, rotation-, permutation- and boost-invariant features, (..., 12); the last is ln
    t_ref.

    t_ref = (Σ_pairs t_ff^-p)^(-1/p) · (|E|/|φ|)^(1/3), with t_ff = sqrt(r³/G(m_i + m_j)): the time
    scale of the closest encounter, longer where the state is deep in its potential. Pair quantities
    are averaged with the weights of that soft minimum, so that the pair which decides the step is
    the one that is described.
    """
    mass = mass.expand(velocity.shape[:-1])
    edges = edges_of(position)

    def pairs_along(part: Edges) -> _PairsAlong:
        return _PairsAlong(part, position, mass, softening)

    # Many particles are gone through twice: what their pairs are is not kept.
    kept = [pairs_along(edges[0])] if len(edges) == 1 else map(pairs_along, edges)
    totals = [(pairs.steepness.logsumexp(-1), pairs.potential) for pairs in kept]
    log_total = reduce(torch.logaddexp, (of_part for of_part, _ in totals))  # (...,)
    potential = reduce(torch.add, (part for _, part in totals))
    again = kept if isinstance(kept, list) else map(pairs_along, edges)
    means = reduce(torch.add, (pairs.means(velocity, log_total, potential) for pairs in again))

    kinetic, floor = kinetic_energy(velocity, mass), squared_distance_floor(velocity.dtype)
    scale = Energies(kinetic, -potential).scale
    log_depth = _bounded_log(potential / scale.clamp_min(floor))
    log_reference = -log_total / SOFT_MINIMUM_POWER - log_depth / 3
    radial, direction, swiftness, log_swiftness, *others = means.unbind()
    columns = [
        *(log_depth, radial, direction, swiftness, log_swiftness),
        kinetic / (kinetic + potential).clamp_min(floor),
        *others,
        torch.full_like(potential, math.log(position.shape[-2])),
    ]
    return torch.stack([*columns, log_reference], dim=-1)


def _bounded_log(values: Tensor) -> Tensor:
    """ln, held within ±30 so that singular states still give finite features."""
    return values.clamp(math.exp(-LOG_RANGE), math.exp(LOG_RANGE)).log()
