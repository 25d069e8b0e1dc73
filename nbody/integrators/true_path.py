"""Taylor series of the motion itself, not of a step.

Legend: ... any leading axes (systems), N particles, D dimensions.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.integrators.force_series import acceleration_series
from nbody.integrators.motion import Attraction, Motion


def true_path(motion: Motion, pulled: Attraction) -> Float[Tensor, "5 *B N D"]:
    """Accelerations along the true path and their first four derivatives (jerk, snap, crackle, …);
    G = 1."""

    def series(path: list[Tensor], order: int) -> Tensor:
        return acceleration_series(path, pulled.mass, pulled.softening, pulled.field, order)

    parabola = [motion.position, motion.velocity, motion.acceleration / 2]
    _, jerk, half_snap = series(parabola, 2)
    a, j, half_s, sixth_c, last = series([*parabola, jerk / 6, half_snap / 12], 4)
    return torch.stack((a, j, 2 * half_s, 6 * sixth_c, 24 * last))
