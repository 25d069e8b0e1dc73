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
from nbody.gravity.force import pairwise
from nbody.gravity.invariants import Energies, kinetic_energy
from nbody.gravity.vectors import broadcast_mask
from nbody.integrators.each_body import Orbits
from nbody.integrators.kick_drift_kick import Step, kick_drift_kick

Gate = Literal["energy", "each"]
MOVING = ("position", "velocity", "acceleration", "energy", "scale")


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
    ) -> "States":
        """Systems at positions and with velocities (T, N, D); their forces are found here."""
        acceleration, potential = pairwise(position, mass, softening, field)
        energies = Energies(kinetic_energy(velocity, mass, field), potential)
        return cls(
            *(position, velocity, mass, acceleration, energies.total, energies.scale),
            *(softening, field, threshold, gate),
        )

    def __len__(self) -> int:
        return len(self.energy)

    def step(
        self, dt: Float[Tensor, "*C T"], n_steps: int = 1, *, look_at_bodies: bool = True
    ) -> Step:
        """One prediction's worth of KDK steps with dt (T,), or (..., T).

        Args:
            look_at_bodies: where the gate is on each body's orbit, with a second force a step; else
                the step's error is that of the total energy.
        """
        return kick_drift_kick(
            self.position,
            self.velocity,
            self.mass,
            self.acceleration,
            self.energy,
            dt,
            scale=self.scale,
            softening=self.softening,
            field=self.field,
            n_steps=n_steps,
            orbits=self.orbits() if look_at_bodies and self.gate == "each" else None,
        )

    def orbits(self) -> Orbits:
        """The orbit of each body about its neighbour."""
        motion = self.position, self.velocity, self.acceleration
        return Orbits.at(motion, self.mass, self.softening, self.field)

    def after(self, step: Step) -> "States":
        """The states at the end of a step."""
        return replace(
            self,
            position=step.position,
            velocity=step.velocity,
            acceleration=step.acceleration,
            energy=step.energy,
            scale=step.scale,
        )

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
            name: getattr(self, name).index_copy(0, index, getattr(other, name)) for name in MOVING
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
        for name in MOVING:
            before, after = getattr(self, name), getattr(step, name)
            torch.where(broadcast_mask(where, before), after, before, out=before)

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
    shared = first.softening, first.field, first.gate
    if any((p.softening, p.field, p.gate) != shared for p in parts):
        raise ValueError("states of one batch share one softening, external field and gate")
    names = [
        field.name for field in fields(States) if isinstance(getattr(first, field.name), Tensor)
    ]
    return replace(first, **{n: torch.cat([getattr(part, n) for part in parts]) for n in names})
