"""ParticleTorch: the state of one gravitational system, or of a batch of them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nbody.gravity.external_field import TidalField
from nbody.gravity.force import pairwise
from nbody.gravity.invariants import Energies, energies
from nbody.integrators.integrator import Integrator
from nbody.integrators.leapfrog import LEAPFROG_2
from nbody.integrators.motion import Attraction, Motion
from nbody.integrators.states import Gate, States

TENSORS = (
    *("mass", "position", "velocity", "acceleration"),
    *("dt", "current_time", "period", "energy_threshold"),
)
ATTRIBUTES = (*TENSORS, "softening", "external_field", "gate", "integrator", "centre")


class Centre(NamedTuple):
    """Where a system's centre of mass was, and how it moved, before it was put to rest: (1, D)."""

    position: Float[Tensor, "1 D"]
    velocity: Float[Tensor, "1 D"]


class ParticleTorch:
    """Particles of one system (N, D) or of B systems (B, N, D).

    Attributes:
        position, velocity, acceleration: (N, D) or (B, N, D).
        mass: (N,) or (B, N); what a config's G is not 1 for, G m.
        dt: () or (B,), the time step that led to this state; `evolve_batch` takes the next with it.
        softening: Plummer softening length.
        current_time: () or (B,), time since the initial condition.
        period: () or (B,), the orbital period where it is known, of several orbits the longest, of
            an encounter the time of its passage; else None.
        external_field: field acting on every particle, or None.
        energy_threshold: () or (B,), the gate of systems that have their own; else None, and the
            config's holds.
        gate: what the gate looks at: `energy`, or the orbit of `each` body, too.
        integrator: whose steps are taken.
        centre: the frame in which the rows of this system were given, or None.
    """

    def __init__(
        self,
        mass: Float[Tensor, "*#B N"] | Float[Tensor, ""] | float,
        position: Float[Tensor, "*B N D"],
        velocity: Float[Tensor, "*B N D"],
        dt: Tensor | float = 0.0,
        softening: float = 0.0,
        *,
        acceleration: Float[Tensor, "*B N D"] | None = None,
        current_time: Float[Tensor, "*B"] | None = None,
        period: Float[Tensor, "*B"] | None = None,
        external_field: TidalField | None = None,
        energy_threshold: Float[Tensor, "*B"] | None = None,
        gate: Gate = "energy",
        integrator: Integrator = LEAPFROG_2,
        centre: Centre | None = None,
    ) -> None:
        if position.dim() not in {2, 3} or position.shape != velocity.shape:
            raise ValueError(
                "position and velocity must both be (N, D) or (B, N, D), not "
                f"{tuple(position.shape)} and {tuple(velocity.shape)}"
            )
        like: dict[str, Any] = {"dtype": position.dtype, "device": position.device}
        self.position, self.velocity = position, velocity
        self.mass = torch.as_tensor(mass, **like).expand(position.shape[:-1])
        self.dt = torch.as_tensor(dt, **like)
        self.softening = float(softening)
        self.acceleration = torch.zeros_like(position) if acceleration is None else acceleration
        self.current_time = (
            torch.zeros(position.shape[:-2], **like) if current_time is None else current_time
        )
        self.period = period
        self.external_field = external_field
        self.energy_threshold = energy_threshold
        self.gate: Gate = gate
        self.integrator = integrator
        self.centre = centre

    @classmethod
    def from_tensors(
        cls,
        mass: Float[Tensor, "*#B N"] | Float[Tensor, ""] | float,
        position: Float[Tensor, "*B N D"],
        velocity: Float[Tensor, "*B N D"],
        dt: Tensor | float = 0.0,
        softening: float = 0.0,
    ) -> "ParticleTorch":
        """A state that holds these very tensors, so that gradients flow through them."""
        return cls(mass, position, velocity, dt, softening)

    @classmethod
    def of_states(cls, states: States, **attributes: Any) -> "ParticleTorch":
        """A batch (B, N, D) of states; `attributes` are those that states do not have."""
        return cls(
            states.mass,
            states.position,
            states.velocity,
            softening=states.softening,
            acceleration=states.acceleration,
            external_field=states.field,
            energy_threshold=states.threshold,
            gate=states.gate,
            integrator=states.integrator,
            **attributes,
        )

    def states(self) -> States:
        """The systems with their forces and energies, without gradients; a single one as (1, …)."""
        batch = self.batched()
        return States.at(
            batch.position.detach(),
            batch.velocity.detach(),
            batch.mass.detach(),
            batch.softening,
            batch.external_field,
            batch.energy_threshold,
            batch.gate,
            batch.integrator,
        )

    @property
    def is_batch(self) -> bool:
        """Whether this is a batch (B, N, D) rather than one system."""
        return self.position.dim() == 3

    def replace(self, **changes: Any) -> "ParticleTorch":
        """This state with some of its attributes replaced; the others are shared."""
        return ParticleTorch(**{name: getattr(self, name) for name in ATTRIBUTES} | changes)

    def clone_detached(self) -> "ParticleTorch":
        """A copy that shares no memory and no graph with this state."""
        return self._map(lambda tensor: tensor.detach().clone())

    def batched(self) -> "ParticleTorch":
        """This state with a leading axis B: itself, or a batch of one."""
        return self if self.is_batch else self._map(lambda tensor: tensor.unsqueeze(0))

    def select(self, index: Tensor | int) -> "ParticleTorch":
        """The systems of a batch that `index` picks; an int gives one system (N, D)."""
        whole = self.replace(dt=self.dt.expand(self.position.shape[:1]))
        return whole._map(lambda tensor: tensor[index] if tensor.dim() else tensor)

    def particles(self, kept: Bool[Tensor, " N"]) -> "ParticleTorch":
        """The particles that a mask (N,) picks, of every system; forces are to be found again."""
        return self.replace(
            mass=self.mass[..., kept],
            position=self.position[..., kept, :],
            velocity=self.velocity[..., kept, :],
            acceleration=None,
        )

    def get_acceleration(self, G: float = 1.0) -> Float[Tensor, "*B N D"]:
        """Acceleration at the current position; also kept in `acceleration`."""
        self.acceleration = pairwise(
            self.position, self.mass, self.softening, self.external_field, G
        ).acceleration
        return self.acceleration

    def total_energy_batch(self, G: float = 1.0) -> Float[Tensor, "*B"]:
        """Total energy, () or (B,), in the centre-of-mass frame; external field included."""
        return self.energies(G).total

    def energies(self, G: float = 1.0) -> Energies:
        """Kinetic and potential energy, each () or (B,)."""
        return energies(
            self.position, self.velocity, self.mass, self.softening, self.external_field, G
        )

    def evolve_batch(self, G: float = 1.0) -> None:
        """Advance by one step of `dt`, differentiable with respect to it."""
        pulled = Attraction(self.mass, self.softening, self.external_field, G)
        motion = Motion(self.position, self.velocity, self.get_acceleration(G))
        after = self.integrator.step(motion, self.dt, pulled)
        self.position, self.velocity, self.acceleration = after[:3]
        self.current_time = self.current_time + self.dt.detach().reshape(self.dt.shape)

    def update_dt(self, dt: Tensor | float) -> None:
        """Set the time step, () or (B,)."""
        dt = torch.as_tensor(dt, dtype=self.position.dtype, device=self.position.device)
        self.dt = dt.squeeze(0) if dt.dim() == 1 and not self.is_batch else dt

    def _map(self, change: Callable[[Tensor], Tensor]) -> "ParticleTorch":
        """The state whose tensors a function has changed; one step for all systems stays one."""
        changed: dict[str, Tensor] = {}
        for name in ATTRIBUTES:
            value = getattr(self, name)
            if isinstance(value, Tensor):
                one_for_all = name == "dt" and not value.dim()
                changed[name] = value.detach().clone() if one_for_all else change(value)
        return self.replace(**changed)


def make_particle(
    rows: Tensor | np.ndarray | Sequence[Sequence[float]],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
) -> ParticleTorch:
    """The system of rows [m, x.., v..], (N, 1 + 2D), or a batch of them (B, N, 1 + 2D)."""
    table = torch.as_tensor(np.asarray(rows) if not isinstance(rows, Tensor) else rows)
    table = table.to(device=device, dtype=dtype)
    if table.dim() not in {2, 3} or table.shape[-1] not in {5, 7}:
        raise ValueError(f"rows must be [m, x.., v..] in 2 or 3 dimensions, not {table.shape}")
    dim = (table.shape[-1] - 1) // 2
    return ParticleTorch(table[..., 0], table[..., 1 : 1 + dim], table[..., 1 + dim :])


def stack_particles(particles: Sequence[ParticleTorch]) -> ParticleTorch:
    """One batch (B, N, D) of B single systems of the same size, softening and field."""
    if not particles:
        raise ValueError("stack_particles needs at least one system")
    first = particles[0]
    if any(p.softening != first.softening for p in particles):
        raise ValueError("systems with different softening cannot form one batch")
    if any(p.external_field != first.external_field for p in particles):
        raise ValueError("systems in different external fields cannot form one batch")
    if any((p.gate, p.integrator) != (first.gate, first.integrator) for p in particles):
        raise ValueError("systems with different gates or integrators cannot form one batch")

    def stacked(name: str) -> Tensor | None:
        values = [getattr(p, name) for p in particles]
        return None if values[0] is None else torch.stack(values)

    return first.replace(**{name: stacked(name) for name in TENSORS})
