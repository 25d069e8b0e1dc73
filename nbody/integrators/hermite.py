"""The Hermite scheme of fourth order (Makino & Aarseth 1992), with a shared time step.

Accelerations and their derivatives at both ends of a step give the polynomial of fifth order
between them. The end is predicted from the beginning, evaluated, and corrected (P(EC)^k: k times).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.config.stepping_rules import METHODS, Method
from nbody.gravity.invariants import centre_of_mass
from nbody.gravity.vectors import dot, total
from nbody.integrators.motion import Attraction, Motion
from nbody.integrators.true_path import true_path


@dataclass(frozen=True)
class Hermite:
    """The scheme with k evaluations a step; members as of `Integrator`.

    What is kept of a step for the next one is of its last evaluation, as production codes do it:
    the acceleration and jerk at the predicted end, snap and crackle of the polynomial there, and
    how the crackle changed since the step before.
    """

    method: Method

    def derivatives(self, motion: Motion, pulled: Attraction) -> Float[Tensor, "*B 4 N D"]:
        """The first to fourth derivatives of the accelerations along the true path."""
        return true_path(motion, pulled)[1:].movedim(0, -3)

    def leading_error(self, motion: Motion, pulled: Attraction) -> Float[Tensor, "*B"]:
        """-Σ m (v·a⁗ - a·a‴ + 30 ȧ·ä)/720, of what is kept: no pass over the pairs.

        The quadrature of the corrector leaves -a⁗ h⁵/720 in the velocity, -a‴ h⁵/720 in the
        position. With one evaluation, at the predicted end, x is off by -ä h⁴/24 and v by -ä h³/6
        there; through the tidal tensor T that is -T ä h⁵/24 in the next velocities, with what the
        kept acceleration and jerk were off. The energy changes by Σ m (v·δv - a·δx), and v·T ä is
        ä·T v = ä·ȧ, for the forces have a potential.
        """
        j, s, c, fourth = self._kept(motion, pulled).unbind(-3)
        v = motion.velocity
        if pulled.field is None:
            v = v - centre_of_mass(v, pulled.mass)
        rate = dot(v, fourth) - dot(motion.acceleration, c)
        if self.method.passes == 1:
            rate = rate + 30 * dot(j, s)
        return -total(pulled.mass * rate, -1) / 720

    def _kept(self, motion: Motion, pulled: Attraction) -> Float[Tensor, "*B 4 N D"]:
        kept = motion.derivatives
        return self.derivatives(motion, pulled) if kept is None else kept

    def step(self, motion: Motion, dt: Float[Tensor, "*B"], pulled: Attraction) -> Motion:
        """The motion after a step of dt (...,); differentiable."""
        h = dt[..., None, None]
        x, v, a = motion.position, motion.velocity, motion.acceleration
        last = self._kept(motion, pulled)
        j, _, last_crackle, _ = last.unbind(-3)
        position = x + h * (v + h / 2 * (a + h / 3 * j))
        velocity = v + h * (a + h / 2 * j)
        force, jerk = a, j
        for _ in range(self.method.passes):
            force, jerk = pulled.force_and_jerk(position, velocity)
            velocity = v + h / 2 * (a + force) + h * h / 12 * (j - jerk)
            position = x + h / 2 * (v + velocity) + h * h / 12 * (a - force)
        rests = h == 0
        per_h = 1 / torch.where(rests, 1.0, h)
        crackle = (12 * per_h * (a - force) + 6 * (j + jerk)) * per_h**2
        snap = (-6 * per_h * (a - force) - (4 * j + 2 * jerk)) * per_h + h * crackle
        fourth = (crackle - last_crackle) * per_h
        kept = torch.stack(torch.broadcast_tensors(jerk, snap, crackle, fourth), dim=-3)
        kept = torch.where(rests.unsqueeze(-3), last, kept)  # nothing is learned of what rests
        return Motion(position, velocity, force, kept)


HERMITE_4 = Hermite(METHODS["hermite4"])
HERMITE_4_PEC2 = Hermite(METHODS["hermite4_pec2"])
HERMITE_4_PEC3 = Hermite(METHODS["hermite4_pec3"])
