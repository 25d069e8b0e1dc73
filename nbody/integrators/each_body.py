"""What a step does to the orbit of each body, however little of the system's energy it carries.

A light body may be thrown out of its orbit while the total energy is kept to all digits. So each
body is looked at together with the neighbour that dominates it, the one with the largest
M / r³, M = m_i + m_j: the pair's specific energy ε = v²/2 - M/r says how large its orbit is, the
vector of its eccentricity, e = [(v² - M/r) r - (r·v) v]/M, of what shape and which way round. All
others, with a relative acceleration P, change them by

    dε/dt = v·P,    de/dt = [2 (v·P) r - (r·P) v - (r·v) P]/M,

and what a step changes beyond that is its error. (Of two bodies alone that of ε is the error of
their total energy. On a circular orbit a step of a fifth of the period keeps the energy; it turns
the orbit, though, and a slow resonance with it.) The others' share is taken by Simpson's rule along
the step, with one more force in its middle: its own error is of higher order than that of a
kick-drift-kick step. That of a step of higher order is told by two steps of half its size.

Legend: ... any leading axes (systems), N particles, D dimensions. G = 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nbody.gravity.edges import squared_distance_floor
from nbody.gravity.external_field import TidalField
from nbody.gravity.invariants import Energies
from nbody.gravity.vectors import dot, lengths
from nbody.integrators.motion import Attraction, Motion

ROWS_AT_ONCE = 2**20  # numbers in memory while neighbours are looked for
UNEQUAL = 0.1  # mass ratio below which the total energy says little of the lighter body


@dataclass(frozen=True)
class Orbits:
    """The orbit of each body about its neighbour.

    Attributes:
        neighbour: j of each body.
        pulled: by whom the bodies are.
        scale: of specific energy, what each orbit's error is relative to: |ε|, or a share of the
            pair's kinetic and potential energy where ε is near zero, or, where the others pull
            harder than the neighbour, so that the pair is no orbit, their pull times the distance.
        error: of each orbit's specific energy so far.
        shape_scale: of eccentricity: one, or e of a hyperbola, or P over the pair's own pull; more
            where softening makes the orbit another one. Infinite where nobody else is there whom
            the orbit could meet turned.
        shape_error: of each orbit's vector of eccentricity so far.
    """

    neighbour: Int[Tensor, "*B N"]
    pulled: Attraction
    scale: Float[Tensor, "*B N"]
    error: Float[Tensor, "... N"]
    shape_scale: Float[Tensor, "*B N"]
    shape_error: Float[Tensor, "... N D"]

    @classmethod
    def at(cls, motion: Motion, pulled: Attraction) -> "Orbits":
        """The orbits of all bodies of states."""
        neighbour = dominant_neighbour(motion.position.detach(), pulled.mass)
        none, still = torch.zeros_like(pulled.mass), torch.zeros_like(motion.position)
        orbits = cls(neighbour, pulled, none, none, none, still)
        separation, velocity, acceleration = orbits.relative(motion)
        energies = orbits.energies(separation, velocity)
        others = lengths(acceleration - orbits.own_pull(separation))
        distance = orbits.squared(separation).sqrt()
        strength = orbits.pair_mass().clamp_min(torch.finfo(none.dtype).tiny)
        shape = lengths(orbits.eccentricity(separation, velocity))
        shape = torch.maximum(shape, others * distance.square() / strength).clamp_min(1.0)
        bare = orbits.squared(separation, 0.0)
        shape = shape * (1 + pulled.softening**2 / bare) ** 1.5
        alone = pulled.mass.shape[-1] == 2 and pulled.field is None
        return replace(
            orbits,
            scale=torch.maximum(energies.scale, distance * others),
            shape_scale=torch.full_like(shape, torch.inf) if alone else shape,
        )

    def relative(self, motion: Motion) -> list[Float[Tensor, "*B N D"]]:
        """Separation, velocity and acceleration of each neighbour, as its body sees it."""
        return [self.to_neighbour(values) for values in motion[:3]]

    def to_neighbour(self, values: Float[Tensor, "*B N D"]) -> Float[Tensor, "*B N D"]:
        """values_j - values_i of vectors (..., N, D)."""
        index = self.neighbour.unsqueeze(-1).expand(values.shape)
        return values.gather(-2, index) - values

    def pair_mass(self) -> Float[Tensor, "*B N"]:
        """m_i + m_j."""
        mass = self.pulled.mass
        return mass + mass.gather(-1, self.neighbour)

    def squared(
        self, separation: Float[Tensor, "*B N D"], softening: float | None = None
    ) -> Float[Tensor, "*B N"]:
        """r² + ε² of separations (..., N, D); with the orbits' softening, or another."""
        floor = squared_distance_floor(separation.dtype)
        length = self.pulled.softening if softening is None else softening
        return (dot(separation, separation) + length**2).clamp_min(floor)

    def energies(
        self, separation: Float[Tensor, "*B N D"], velocity: Float[Tensor, "*B N D"]
    ) -> Energies:
        """Of each pair, per reduced mass: (..., N) each."""
        potential = -self.pair_mass() / self.squared(separation).sqrt()
        return Energies(0.5 * dot(velocity, velocity), potential)

    def eccentricity(
        self, separation: Float[Tensor, "*B N D"], velocity: Float[Tensor, "*B N D"]
    ) -> Float[Tensor, "*B N D"]:
        """The vector of eccentricity of each pair; zero of two massless ones."""
        strength = self._divisor()
        away = strength / self.squared(separation, 0.0).sqrt().unsqueeze(-1)
        along = dot(separation, velocity).unsqueeze(-1)
        speed = dot(velocity, velocity).unsqueeze(-1)
        return ((speed - away) * separation - along * velocity) / strength

    def _divisor(self) -> Tensor:
        """M of each pair (..., N, 1); infinite where it is zero."""
        mass = self.pair_mass().unsqueeze(-1)
        return torch.where(mass > 0, mass, torch.inf)

    def own_pull(
        self, separation: Float[Tensor, "*B N D"], softening: float | None = None
    ) -> Float[Tensor, "*B N D"]:
        """Relative acceleration (..., N, D) that each pair gives itself."""
        strength = -self.pair_mass() * self.squared(separation, softening) ** -1.5
        return strength.unsqueeze(-1) * separation

    def after(self, before: Motion, after: Motion, dt: Float[Tensor, "*B"]) -> "Orbits":
        """The orbits with the error of a kick-drift-kick step added; differentiable."""
        step, pulled = dt[..., None, None], self.pulled
        start, end = self.relative(before), self.relative(after)
        gained = self.energies(end[0], end[1]).total - self.energies(start[0], start[1]).total
        turned = self.eccentricity(end[0], end[1]) - self.eccentricity(start[0], start[1])
        if pulled.mass.shape[-1] > 2 or pulled.field is not None or pulled.softening:
            position, velocity, acceleration, *_ = before
            middle = position + step * (velocity / 2 + step * acceleration / 8)
            force = pulled.force(middle).acceleration
            separations = [start[0], self.to_neighbour(middle), end[0]]
            pulls = [start[2], self.to_neighbour(force), end[2]]
            work, torque = self._done_by_others(start[1], separations, pulls, step)
            gained, turned = gained - work, turned - torque
        return replace(self, error=self.error + gained, shape_error=self.shape_error + turned)

    def beside(self, after: Motion, halved: Motion, order: int) -> "Orbits":
        """The orbits with the error of a step added, told by two steps of half its size, whose
        error is 2^order times smaller (Hairer, Nørsett & Wanner 1993, §II.4); differentiable."""
        end, better = self.relative(after), self.relative(halved)
        share = 1 / (1 - 0.5**order)
        gained = self.energies(end[0], end[1]).total - self.energies(better[0], better[1]).total
        turned = self.eccentricity(end[0], end[1]) - self.eccentricity(better[0], better[1])
        return replace(
            self,
            error=self.error + share * gained,
            shape_error=self.shape_error + share * turned,
        )

    def errors(self) -> Float[Tensor, "*B N"]:
        """Relative errors of the orbits so far, of size or of shape, whichever is larger."""
        size = self.error.abs() / torch.where(self.scale > 0, self.scale, 1.0)
        return torch.maximum(size, lengths(self.shape_error) / self.shape_scale)

    def _done_by_others(
        self, velocity: Tensor, separations: list[Tensor], pulls: list[Tensor], step: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the others change over the step: ε (..., N) and e (..., N, D)."""
        first, middle, last = pulls
        speeds = [
            velocity,
            velocity + step * (5 * first + 8 * middle - last) / 24,
            velocity + step * (first + 4 * middle + last) / 6,
        ]
        rates: list[tuple[Tensor, Tensor]] = []
        for speed, pull, separation in zip(speeds, pulls, separations, strict=True):
            rate = dot(speed, pull - self.own_pull(separation))
            others = pull - self.own_pull(separation, 0.0)  # a softened pair turns by itself
            power = dot(speed, others).unsqueeze(-1)
            turning = 2 * power * separation - dot(separation, others).unsqueeze(-1) * speed
            turning = turning - dot(separation, speed).unsqueeze(-1) * others
            rates.append((rate, turning / self._divisor()))
        powers, turnings = zip(*rates, strict=True)
        work = step.squeeze(-1) / 6 * (powers[0] + 4 * powers[1] + powers[2])
        return work, step / 6 * (turnings[0] + 4 * turnings[1] + turnings[2])


def has_light_bodies(
    mass: Float[Tensor, "*B N"], real: Bool[Tensor, "*B N"], field: TidalField | None
) -> Bool[Tensor, "*B"]:
    """In which systems the total energy says little of some body's orbit.

    Of two bodies alone it is the energy of their orbit, as long as both have a mass.

    Args:
        real: which particles are there; the others are padding.
    """
    lightest = torch.where(real, mass, torch.inf).amin(-1) / mass.amax(-1)
    pair = (real.sum(-1) == 2) & (lightest > 0) & (field is None)
    return (lightest < UNEQUAL) & ~pair


def dominant_neighbour(
    position: Float[Tensor, "*B N D"], mass: Float[Tensor, "*B N"]
) -> Int[Tensor, "*B N"]:
    """Of each body i the neighbour j with the largest (m_i + m_j) / r_ij³."""
    rows: list[Tensor] = []
    floor = squared_distance_floor(position.dtype)
    every = torch.arange(position.shape[-2], device=position.device)
    size = max(1, ROWS_AT_ONCE // max(1, mass.numel()))
    for part in cast(Sequence[Tensor], every.split(size)):
        separation = position[..., None, :, :] - position[..., part, None, :]
        squared = separation.square().sum(-1).clamp_min(floor)  # (..., R, N)
        pull = (mass[..., part, None] + mass[..., None, :]) * squared**-1.5
        rows.append(pull.masked_fill(part.unsqueeze(1) == every, -1.0).argmax(-1))
    return torch.cat(rows, dim=-1)
