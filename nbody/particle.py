"""ParticleTorch: the state of one gravitational system, or of a batch of them."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from nbody.external_field import PointMassTidalField
from nbody.gravity import Energies, Pairs, energies, pairwise


class ParticleTorch:
    """Particles of one system (N, D) or of B systems (B, N, D).

    Attributes:
        position, velocity, acceleration: (N, D) or (B, N, D).
        mass: (N,) or (B, N).
        dt: () or (B,), the time step that led to this state; `evolve_batch` takes the next with it.
        softening: Plummer softening length.
        current_time: () or (B,), time since the initial condition.
        period: () or (B,), the orbital period where it is known, else None.
        external_field: field acting on every particle, or None.
        energy_threshold: () or (B,), the gate of systems that have their own; else None, and the
            config's holds.
    """

    def __init__(
        self,
        mass: Tensor | float,
        position: Tensor,
        velocity: Tensor,
        dt: Tensor | float = 0.0,
        softening: float = 0.0,
    ) -> None:
        if position.dim() not in {2, 3} or position.shape != velocity.shape:
            raise ValueError(
                "position and velocity must both be (N, D) or (B, N, D), not "
                f"{tuple(position.shape)} and {tuple(velocity.shape)}"
            )
        dtype, device = position.dtype, position.device
        self.position = position
        self.velocity = velocity
        self.acceleration = torch.zeros_like(position)
        self.mass = torch.as_tensor(mass, dtype=dtype, device=device).expand(position.shape[:-1])
        self.dt = torch.as_tensor(dt, dtype=dtype, device=device)
        self.softening = float(softening)
        self.current_time = torch.zeros(position.shape[:-2], dtype=dtype, device=device)
        self.period: Tensor | None = None
        self.external_field: PointMassTidalField | None = None
        self.energy_threshold: Tensor | None = None

    @classmethod
    def from_tensors(
        cls,
        mass: Tensor | float,
        position: Tensor,
        velocity: Tensor,
        dt: Tensor | float = 0.0,
        softening: float = 0.0,
    ) -> "ParticleTorch":
        """A state that holds these very tensors, so that gradients flow through them."""
        return cls(mass, position, velocity, dt, softening)

    @property
    def is_batch(self) -> bool:
        """Whether this is a batch (B, N, D) rather than one system."""
        return self.position.dim() == 3

    def clone_detached(self) -> "ParticleTorch":
        """A copy that shares no memory and no graph with this state."""
        return self._map(lambda tensor: tensor.detach().clone())

    def batched(self) -> "ParticleTorch":
        """This state with a leading axis B: itself, or a batch of one."""
        return self if self.is_batch else self._map(lambda tensor: tensor.unsqueeze(0))

    def select(self, index: Tensor | int) -> "ParticleTorch":
        """The systems of a batch that `index` picks; an int gives one system (N, D)."""
        dt = self.dt.expand(self.position.shape[:1])
        picked = self._map(lambda tensor: tensor[index] if tensor.dim() else tensor)
        picked.dt = dt[index]
        return picked

    def get_acceleration(self, G: float = 1.0) -> Tensor:
        """Acceleration at the current position; also kept in `acceleration`."""
        self.acceleration = self._pairs(G).acceleration
        return self.acceleration

    def total_energy_batch(self, G: float = 1.0) -> Tensor:
        """Total energy, () or (B,), in the centre-of-mass frame; external field included."""
        return self.energies(G).total

    def energies(self, G: float = 1.0) -> Energies:
        """Kinetic and potential energy, each () or (B,)."""
        return energies(
            self.position, self.velocity, self.mass, self.softening, self.external_field, G
        )

    def evolve_batch(self, G: float = 1.0) -> None:
        """Advance by one KDK step of `dt`, differentiable with respect to it."""
        step = self.dt[..., None, None]  # () or (B,) beside (N, D)
        half = self.velocity + 0.5 * step * self.get_acceleration(G)
        self.position = self.position + step * half
        self.velocity = half + 0.5 * step * self.get_acceleration(G)
        self.current_time = self.current_time + self.dt.detach().reshape(self.dt.shape)

    def update_dt(self, dt: Tensor | float) -> None:
        """Set the time step, () or (B,)."""
        dt = torch.as_tensor(dt, dtype=self.position.dtype, device=self.position.device)
        self.dt = dt.squeeze(0) if dt.dim() == 1 and not self.is_batch else dt

    def _pairs(self, G: float) -> Pairs:
        return pairwise(self.position, self.mass, self.softening, self.external_field, G)

    def _map(self, change: Callable[[Tensor], Tensor]) -> "ParticleTorch":
        copy = ParticleTorch(
            change(self.mass),
            change(self.position),
            change(self.velocity),
            change(self.dt) if self.dt.dim() else self.dt.detach().clone(),
            self.softening,
        )
        copy.acceleration = change(self.acceleration)
        copy.current_time = change(self.current_time)
        copy.period = None if self.period is None else change(self.period)
        own = self.energy_threshold
        copy.energy_threshold = None if own is None else change(own)
        copy.external_field = self.external_field
        return copy


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

    def stack(name: str) -> Tensor:
        return torch.stack([getattr(p, name) for p in particles])

    batch = ParticleTorch(
        stack("mass"), stack("position"), stack("velocity"), stack("dt"), first.softening
    )
    batch.acceleration = stack("acceleration")
    batch.current_time = stack("current_time")
    for name in ("period", "energy_threshold"):
        setattr(batch, name, None if getattr(first, name) is None else stack(name))
    batch.external_field = first.external_field
    return batch
