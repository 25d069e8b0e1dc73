"""Systems ready to be stepped: state, force and energy, as stacked tensors.

Legend: T systems (or samples of a trajectory), N particles, D dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nbody.gravity.external_field import TidalField
from nbody.gravity.vectors import broadcast_mask
from nbody.integrators.each_body import Orbits
from nbody.integrators.integrator import Integrator
from nbody.integrators.leapfrog import LEAPFROG_2
from nbody.integrators.measured_step import Step, measured_step
from nbody.integrators.motion import Attraction, Motion
from nbody.integrators.true_path import true_path

Gate = Literal["energy", "each"]
MOVING = ("position", "velocity", "acceleration", "derivatives", "energy", "scale")


@dataclass(frozen=True)
class States:
    """T systems with their forces and energies."""

    position: Float[Tensor, "*T N D"]
    velocity: Float[Tensor, "*T N D"]
    mass: Float[Tensor, "*T N"]
    acceleration: Float[Tensor, "*T N D"]
    energy: Float[Tensor, "*T"]
    scale: Float[Tensor, "*T"]  # what energy errors are relative to
    softening: float
    field: TidalField | None
    threshold: Float[Tensor, "*T"] | None = None  # of the gate, where systems have their own
    gate: Gate = "energy"  # what it looks at: the total energy, or each body's orbit, too
    integrator: Integrator = LEAPFROG_2
    derivatives: Float[Tensor, "*T 4 N D"] | None = None  # of accelerations, where it keeps them

    @classmethod
    def at(
        cls,
        position: Float[Tensor, "*T N D"],
        velocity: Float[Tensor, "*T N D"],
        mass: Float[Tensor, "*T N"],
        softening: float = 0.0,
        field: TidalField | None = None,
        threshold: Float[Tensor, "*T"] | None = None,
        gate: Gate = "energy",
        integrator: Integrator = LEAPFROG_2,
    ) -> "States":
        """Systems at positions and with velocities (T, N, D); their forces are found here."""
        pulled = Attraction(mass, softening, field)
        acceleration, potential = pulled.force(position)
        motion = Motion(position, velocity, acceleration, None, potential)
        energies = pulled.energies(motion, counted=True)
        return cls(
            *(position, velocity, mass, acceleration, energies.total, energies.scale),
            *(softening, field, threshold, gate, integrator),
            integrator.derivatives(motion, pulled),
        )

    def __len__(self) -> int:
        return len(self.energy)

    @property
    def motion(self) -> Motion:
        """What moves."""
        return Motion(self.position, self.velocity, self.acceleration, self.derivatives)

    @property
    def pulled(self) -> Attraction:
        """What pulls."""
        return Attraction(self.mass, self.softening, self.field)

    def step(self, dt: Float[Tensor, "*#T"], n_steps: int = 1, *, gated: bool = True) -> Step:
        """One prediction's worth of steps with dt (T,), or (..., T).

        Args:
            gated: whether the gate looks at the step, at each body's orbit, too, where it is on
                these, with more forces; else the step's error is that of the total energy.
        """
        return measured_step(
            self.motion,
            dt,
            self.pulled,
            self.integrator,
            energy=self.energy,
            scale=self.scale,
            n_steps=n_steps,
            orbits=self.orbits() if gated and self.gate == "each" else None,
            gated=gated,
        )

    @property
    def threshold_power(self) -> float:
        """With which steps grow with the threshold: 1/(p + 1), of a method of order p."""
        return 1 / (self.integrator.method.order + 1)

    def orbits(self) -> Orbits:
        """The orbit of each body about its neighbour."""
        return Orbits.at(self.motion, self.pulled)

    def path(self) -> Float[Tensor, "5 *T N D"]:
        """Accelerations, and their first four derivatives: those that the integrator keeps, else
        those of the true path."""
        if self.derivatives is not None:
            return torch.stack((self.acceleration, *self.derivatives.unbind(-3)))
        return true_path(self.motion, self.pulled)

    def reversed(self) -> "States":
        """The states with time running backward: velocities and odd derivatives change sign."""
        derivatives = self.derivatives
        if derivatives is not None:
            j, s, c, fourth = derivatives.unbind(-3)
            derivatives = torch.stack((-j, s, -c, fourth), dim=-3)
        return replace(self, velocity=-self.velocity, derivatives=derivatives)

    def after(self, step: Step) -> "States":
        """The states at the end of a step."""
        return replace(self, **{name: getattr(step, name) for name in MOVING})

    def take(self, index: Int[Tensor, " A"] | Bool[Tensor, " T"]) -> "States":
        """The systems that an index or a mask picks."""
        rows = index.nonzero().squeeze(1) if index.dtype == torch.bool else index
        return self._map(lambda tensor: tensor.index_select(0, rows))

    def parts(self, pairs: int, most: int | None = None) -> Sequence[Int[Tensor, " A"]]:
        """Indices of consecutive states, as many at once as have `pairs` (i, j) of particles.

        Args:
            most: states at once, in any case.
        """
        size = max(1, pairs // (self.position.shape[1:-1].numel() * self.position.shape[-2]))
        every = torch.arange(len(self), device=self.energy.device)
        return cast(Sequence[Tensor], every.split(size if most is None else min(size, most)))

    def replaced(self, index: Int[Tensor, " A"], other: "States") -> "States":
        """These states with those at an index (A,) replaced by `other`, A states."""
        tensors = {
            name: getattr(self, name).index_copy(0, index, getattr(other, name))
            for name in self._moving()
        }
        return replace(self, **tensors)

    def clone(self) -> "States":
        """Copies that share no memory with these states."""
        return self._map(torch.clone)

    def copy_(self, other: "States") -> None:
        """Overwrite these states, in place, with as many others of one size."""
        for mine, theirs in zip(self._tensors(), other._tensors(), strict=True):
            mine.copy_(theirs)

    def advance_(self, step: Step, where: Bool[Tensor, " T"]) -> None:
        """Move the states that a mask (T,) picks, in place, to the end of a step of all."""
        for name in self._moving():
            before, after = getattr(self, name), getattr(step, name)
            torch.where(broadcast_mask(where, before), after, before, out=before)

    def _moving(self) -> list[str]:
        """Names of the tensors that a step changes."""
        return [name for name in MOVING if getattr(self, name) is not None]

    def _tensors(self) -> list[Tensor]:
        return [v for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)]

    def _map(self, change: Any) -> "States":
        tensors = {
            field.name: change(value)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **tensors)


def concatenate_states(parts: list[States]) -> States:
    """The systems of several batches, in order. All share one softening and one external field."""
    first = parts[0]
    shared = first.softening, first.field, first.gate, first.integrator
    if any((p.softening, p.field, p.gate, p.integrator) != shared for p in parts):
        raise ValueError(
            "states of one batch share one softening, external field, gate and integrator"
        )
    names = [
        field.name for field in fields(States) if isinstance(getattr(first, field.name), Tensor)
    ]
    return replace(first, **{n: torch.cat([getattr(part, n) for part in parts]) for n in names})
