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

    def derivatives(self, motion: Motion, pulled: Attraction) -> Float[Tensor, "*B 3 N D"] | None:
        """Jerk, snap and crackle at a motion's state, for an integrator that needs them."""
        ...

    def step(self, motion: Motion, dt: Float[Tensor, "*B"], pulled: Attraction) -> Motion:
        """The motion after a step of dt (...,); differentiable."""
        ...
