"""The Hermite scheme of fourth order (Makino & Aarseth 1992), with a shared time step.

Accelerations and their derivatives at both ends of a step give the polynomial of fifth order
between them. The end is predicted from the beginning, evaluated, and corrected (P(EC)^k: k times).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.config.stepping_rules import METHODS, Method
from nbody.integrators.motion import Attraction, Motion
from nbody.integrators.true_path import true_path


@dataclass(frozen=True)
class Hermite:
    """The scheme with k evaluations a step; members as of `Integrator`.

    What is kept of a step for the next one is of its last evaluation, as production codes do it:
    the acceleration and jerk at the predicted end, snap and crackle of the polynomial there.
    """

    method: Method

    def derivatives(self, motion: Motion, pulled: Attraction) -> Float[Tensor, "*B 3 N D"]:
        """Jerk, snap and crackle along the true path from a motion's state."""
        _, jerk, half_snap, sixth_crackle = true_path(motion, pulled)
        return torch.stack((jerk, 2 * half_snap, 6 * sixth_crackle), dim=-3)

    def step(self, motion: Motion, dt: Float[Tensor, "*B"], pulled: Attraction) -> Motion:
        """The motion after a step of dt (...,); differentiable."""
        if motion.derivatives is None:
            motion = motion._replace(derivatives=self.derivatives(motion, pulled))
        assert motion.derivatives is not None
        h = dt[..., None, None]
        x, v, a = motion.position, motion.velocity, motion.acceleration
        j = motion.derivatives[..., 0, :, :]
        position = x + h * (v + h / 2 * (a + h / 3 * j))
        velocity = v + h * (a + h / 2 * j)
        force, jerk = a, j
        for _ in range(self.method.passes):
            force, jerk = pulled.force_and_jerk(position, velocity)
            velocity = v + h / 2 * (a + force) + h * h / 12 * (j - jerk)
            position = x + h / 2 * (v + velocity) + h * h / 12 * (a - force)
        per_h = torch.where(h == 0, 0.0, 1 / h)  # nothing is known of what rests
        crackle = (12 * per_h * (a - force) + 6 * (j + jerk)) * per_h**2
        snap = (-6 * per_h * (a - force) - (4 * j + 2 * jerk)) * per_h + h * crackle
        kept = torch.stack(torch.broadcast_tensors(jerk, snap, crackle), dim=-3)
        return Motion(position, velocity, force, kept)


HERMITE_4 = Hermite(METHODS["hermite4"])
HERMITE_4_PEC2 = Hermite(METHODS["hermite4_pec2"])
HERMITE_4_PEC3 = Hermite(METHODS["hermite4_pec3"])
