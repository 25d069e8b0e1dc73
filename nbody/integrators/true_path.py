"""Taylor series of the motion itself, not of a step.

Legend: T systems, N particles, D dimensions.
"""

from jaxtyping import Float
from torch import Tensor

from nbody.gravity.vectors import lengths
from nbody.integrators.force_series import acceleration_series
from nbody.integrators.states import States


def true_path_series(states: States) -> Float[Tensor, "4 *T N D"]:
    """Coefficients of the accelerations along the true path: a, jerk, snap/2, crackle/6."""

    def series(path: list[Tensor], order: int) -> Tensor:
        return acceleration_series(path, states.mass, states.softening, states.field, order)

    parabola = [states.position, states.velocity, states.acceleration / 2]
    jerk = series(parabola, 1)[1]
    return series([*parabola, jerk / 6], 3)


def orbital_time(states: States) -> Float[Tensor, "*T"]:
    """sqrt(2) |A| / sqrt(|J|² + |A||S|), the least over the bodies, of the acceleration A of each
    body relative to the neighbour that dominates it, J and S its derivatives.

    The time of Pham, Rein & Spiegel (2024) takes the body's own acceleration, which vanishes in the
    middle of a figure-eight though nothing is at rest there.
    """
    orbits = states.orbits()
    terms = true_path_series(states)
    a, j, s = (lengths(orbits.to_neighbour(term)) for term in terms[:3])
    return (2 * a.square() / (j.square() + 2 * a * s)).sqrt().amin(-1)
