"""What all integrators have in common.

Legend: ... any leading axes (systems), N particles, D dimensions.
"""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from nbody.config.stepping_rules import Method
from nbody.integrators.motion import Attraction, Motion


@runtime_checkable
class Integrator(Protocol):
    """One step of a system.

    Attributes:
        method: what it is: order, passes, symmetry, source.
    """

    @property
    def method(self) -> Method: ...

    def derivatives(self, motion: Motion, pulled: Attraction) -> Float[Tensor, "*B 4 N D"] | None:
        """Jerk, snap, crackle and the fourth derivative of the accelerations at a motion's state,
        for an integrator that needs them."""
        ...

    def leading_error(self, motion: Motion, pulled: Attraction) -> Float[Tensor, "*B"] | None:
        """C (...,) of the energy error C dt^(p+1) of a step, as dt goes to zero; None where it is
        not known in closed form."""
        ...

    def step(self, motion: Motion, dt: Float[Tensor, "*B"], pulled: Attraction) -> Motion:
        """The motion after a step of dt (...,); differentiable."""
        ...
