"""What Part 1 records: preallocated, one slot for each accepted step of each orbit.

Legend: S slots of each orbit, B orbits, N particles, D dimensions, F features, C columns.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nbody.integrators.measured_step import Step
from nbody.integrators.states import States
from nbody.training.trajectory import Trajectory

NUMBERS = ("dt", "energy_error", "time", "last_dt", "energy", "scale")  # of a row, in its order
VECTORS = ("position", "velocity", "acceleration", "derivatives")


class CollectionRecord:
    """The states that the gate tested, what the network saw there, and the steps that passed.

    A row holds all of one accepted step, so that it is written at once; behind the slots there is a
    row for what is written for nobody.
    """

    def __init__(self, slots: int, states: States, features: Tensor) -> None:
        like = states.energy
        self.orbits, self._slots = len(states), slots
        self.accepted = torch.zeros(self.orbits, dtype=torch.long, device=like.device)  # (B,)
        self._rejections = torch.zeros_like(self.accepted).repeat(slots + 1, 1)
        self.retrain_loss, self.retrained = (like.new_zeros(()) for _ in range(2))
        self._shapes: dict[str, Sequence[int]] = dict.fromkeys(NUMBERS, (1,))
        self._shapes |= {name: part.shape[1:] for name, part in _vectors(states).items()}
        self._shapes["features"] = features.shape[1:]
        columns = sum(math.prod(shape) for shape in self._shapes.values())
        self._rows = like.new_zeros((slots + 1) * self.orbits, columns)

    def put(
        self,
        orbits: Int[Tensor, " A"],
        states: States,
        features: Float[Tensor, "A F"],
        dt: Float[Tensor, " A"],
        step: Step,
        time: Float[Tensor, " A"],
        last_dt: Float[Tensor, " A"],
        where: Bool[Tensor, " A"] | None = None,
        rejected: Int[Tensor, " A"] | None = None,
    ) -> None:
        """Write one accepted step of some orbits, and count it.

        Args:
            orbits: (A,) indices.
            states, features, dt, step, time, last_dt: of those orbits, the leading axis is A.
            where: (A,) bool, the orbits that it is written for; all of them where it is left out.
            rejected: (A,) how often the states were rejected, where `reject` did not count it.
        """
        slot = self._slot(orbits)
        if where is not None:
            slot = torch.where(where, slot, self._slots)
        row = (
            *(dt, step.energy_error, time, last_dt, states.energy, states.scale),
            *(*_vectors(states).values(), features),
        )
        values = torch.cat([part.reshape(len(dt), -1) for part in row], dim=1)
        index = slot * self.orbits + orbits
        self._rows.index_copy_(0, index, values)
        if rejected is not None:
            self._rejections.view(-1).index_copy_(0, index, rejected)
        if where is None:
            self.accepted.index_add_(0, orbits, torch.ones_like(orbits))
        else:
            self.accepted.index_add_(0, orbits, where.long())

    @property
    def rejections(self) -> Int[Tensor, "S B"]:
        """How often each state was rejected."""
        return self._rejections[:-1]

    def reject(self, orbits: Int[Tensor, " A"]) -> Int[Tensor, " A"]:
        """Count a rejection of the present state of some orbits; their counts (A,) so far."""
        index = self._slot(orbits) * self.orbits + orbits
        counts = self._rejections.view(-1)
        counts.index_add_(0, index, torch.ones_like(orbits))
        return counts.index_select(0, index)

    def retrain(self, total: Float[Tensor, ""], count: Int[Tensor, ""] | int) -> None:
        """Add the losses of states that are trained on: their sum, and how many they are."""
        self.retrain_loss.add_(total)
        self.retrained.add_(count)

    def clear(self) -> None:
        """Forget what was recorded; a slot is written before it is read."""
        self.accepted.zero_()
        self._rejections.zero_()
        self.retrain_loss.zero_()
        self.retrained.zero_()

    def _slot(self, orbits: Tensor) -> Tensor:
        """The slots (A,) of the present states of some orbits; the last for those that are done."""
        return self.accepted.index_select(0, orbits).clamp_max(self._slots - 1)

    def _columns(self, rows: Tensor) -> dict[str, Tensor]:
        """What is in rows (R, C), by name: (R,) each, (R, N, D), or (R, F)."""
        sizes = [math.prod(shape) for shape in self._shapes.values()]
        cuts = cast(Sequence[Tensor], rows.split(sizes, dim=1))
        parts = zip(self._shapes.items(), cuts, strict=True)
        return {
            name: part.squeeze(1) if name in NUMBERS else part.unflatten(1, shape)
            for (name, shape), part in parts
        }

    def of_slot(self, slot: int) -> dict[str, Tensor]:
        """What was recorded of the orbits' steps number `slot`, B of them."""
        return self._columns(self._rows[slot * self.orbits : (slot + 1) * self.orbits])

    def trajectory(self, states: States, warmup: int) -> Trajectory:
        """What was recorded after the first `warmup` steps of each orbit, step by step.

        Args:
            states: of the orbits; masses and thresholds are theirs.
        """
        slot = torch.arange(self._slots, device=self.accepted.device).unsqueeze(1)  # (S, 1)
        kept = ((slot >= warmup) & (slot < self.accepted)).flatten().nonzero().squeeze(1)
        owner, found = kept % self.orbits, self._columns(self._rows.index_select(0, kept))
        own = states.threshold
        recorded = replace(
            states,
            **{name: found[name] for name in (*_vectors(states), "energy", "scale")},
            mass=states.mass.index_select(0, owner),
            threshold=None if own is None else own.index_select(0, owner),
        )
        led = found["time"], found["last_dt"]
        return Trajectory(recorded, found["features"], found["dt"], *led)

    def metrics(self, trajectory_length: int, warmup: int) -> dict[str, Any]:
        """The epoch_metrics of `collect_trajectory`."""
        slot = torch.arange(self._slots, device=self.accepted.device).unsqueeze(1)
        taken = (slot < self.accepted).flatten()  # (S B,)
        found = self._columns(self._rows[: len(taken)])
        errors, dt = found["energy_error"][taken], found["dt"][taken]
        rejections = self.rejections.flatten()[taken]
        return {
            "total_steps": int(taken.sum()),
            "warmup_discarded": int(self.accepted.clamp_max(warmup).sum()),
            "trajectory_length": trajectory_length,
            "mean_retrain_iterations": float(rejections.double().mean()),
            "max_retrain_iterations": int(rejections.max()),
            "mean_energy_error": float(errors.mean()),
            "min_energy_error": float(errors.min()),
            "max_energy_error": float(errors.max()),
            "mean_retrain_loss": float(self.retrain_loss / self.retrained),
            "mean_dt": float(dt.mean()),
            "min_dt": float(dt.min()),
            "max_dt": float(dt.max()),
        }


def _vectors(states: States) -> dict[str, Tensor]:
    """Of the particles: what an integrator goes on from."""
    named = {name: getattr(states, name) for name in VECTORS}
    return {name: values for name, values in named.items() if values is not None}
