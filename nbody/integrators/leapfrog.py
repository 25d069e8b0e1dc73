"""Leapfrogs: kick-drift-kick steps (Hockney & Eastwood 1988, §4-4), and their compositions.

A symmetric second-order step, taken with parts γ_1 dt, γ_2 dt, … γ_1 dt of the whole step in a
row, is of higher order where the γ satisfy the order conditions (Yoshida 1990). Some parts go
backward. All are symplectic, and symmetric in time.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from nbody.config.stepping_rules import METHODS, Method
from nbody.gravity.invariants import centre_of_mass
from nbody.gravity.vectors import dot, total
from nbody.integrators.force_series import acceleration_series
from nbody.integrators.motion import Attraction, Motion


@dataclass(frozen=True)
class Leapfrog:
    """A composition of kick-drift-kick steps; members as of `Integrator`.

    Attributes:
        half: γ_1 … γ_m, the first parts up to the one in the middle; the others mirror them.
    """

    method: Method
    half: tuple[float, ...]

    @property
    def parts(self) -> tuple[float, ...]:
        """Shares of dt, which sum up to one."""
        return *self.half, *self.half[-2::-1]

    def derivatives(self, motion: Motion, pulled: Attraction) -> None:
        """None: accelerations are enough."""

    def leading_error(self, motion: Motion, pulled: Attraction) -> Float[Tensor, "*B"] | None:
        """Of second order the first term of `error_series`; None of a composition."""
        if len(self.half) > 1:
            return None
        x, v, a, *_ = motion
        if pulled.field is None:
            v = v - centre_of_mass(v, pulled.mass)
        path = [x, v, a / 2]
        _, first, second = acceleration_series(path, pulled.mass, pulled.softening, pulled.field, 2)
        return total(pulled.mass * (dot(v, second) + dot(a, first)), -1) / 6

    def step(self, motion: Motion, dt: Float[Tensor, "*B"], pulled: Attraction) -> Motion:
        """The motion after a step of dt (...,); differentiable."""
        for share in self.parts:
            motion = kick_drift_kick(motion, dt if share == 1.0 else share * dt, pulled)
        return motion


def kick_drift_kick(motion: Motion, dt: Float[Tensor, "*B"], pulled: Attraction) -> Motion:
    """v += a dt/2, x += v dt, v += a' dt/2."""
    position, velocity, acceleration, *_ = motion
    step = dt[..., None, None]
    half = velocity + 0.5 * step * acceleration
    position = position + step * half
    acceleration, potential = pulled.force(position)
    velocity = half + 0.5 * step * acceleration
    return Motion(position, velocity, acceleration, None, potential)


_YOSHIDA_OUTER = 1 / (2 - 2 ** (1 / 3))

LEAPFROG_2 = Leapfrog(METHODS["leapfrog2"], (1.0,))
LEAPFROG_4 = Leapfrog(METHODS["leapfrog4"], (_YOSHIDA_OUTER, 1 - 2 * _YOSHIDA_OUTER))
LEAPFROG_6 = Leapfrog(
    METHODS["leapfrog6"],
    (
        *(0.1867, 0.5554970237124784, 0.1294669489134754),
        *(-0.843265623387734, 0.9432033015235604),
    ),
)
LEAPFROG_8 = Leapfrog(
    METHODS["leapfrog8"],
    (
        *(0.128865979381443, 0.581514087105251, -0.410175371469850),
        *(0.1851469357165877, -0.4095523434208514, 0.1444059410800120),
        *(0.2783355003936797, 0.3149566839162949, -0.6269948254051343979),
    ),
)
