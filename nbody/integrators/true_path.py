"""Taylor series of the motion itself, not of a step.

Legend: ... any leading axes (systems), N particles, D dimensions.
"""

from jaxtyping import Float
from torch import Tensor

from nbody.integrators.force_series import acceleration_series
from nbody.integrators.motion import Attraction, Motion


def true_path(motion: Motion, pulled: Attraction) -> Float[Tensor, "4 *B N D"]:
    """Coefficients of the accelerations along the true path: a, jerk, snap/2, crackle/6; G = 1."""

    def series(path: list[Tensor], order: int) -> Tensor:
        return acceleration_series(path, pulled.mass, pulled.softening, pulled.field, order)

    parabola = [motion.position, motion.velocity, motion.acceleration / 2]
    jerk = series(parabola, 1)[1]
    return series([*parabola, jerk / 6], 3)
