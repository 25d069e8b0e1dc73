"""What Part 1 records: preallocated, one slot for each accepted step of each orbit.

Legend: S slots of each orbit, B orbits, N particles, D dimensions, F features.
"""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nbody.gravity.vectors import broadcast_mask
from nbody.integrators.kick_drift_kick import Step
from nbody.integrators.states import States
from nbody.training.trajectory import Trajectory


class CollectionRecord:
    """The states that the gate tested, what the network saw there, and the steps that passed."""

    def __init__(self, slots: int, states: States, features: Tensor) -> None:
        like = states.energy
        self.orbits = len(states)
        self.accepted = torch.zeros(self.orbits, dtype=torch.long, device=like.device)  # (B,)
        self.rejections = torch.zeros(slots, self.orbits, dtype=torch.long, device=like.device)
        self.dt, self.energy_error, self.time, self.last_dt, self.energy, self.scale = (
            like.new_zeros(slots, self.orbits) for _ in range(6)
        )
        self.retrain_loss, self.retrained = (like.new_zeros(()) for _ in range(2))
        self.features = like.new_zeros(slots, *features.shape)
        self.position, self.velocity, self.acceleration = (
            like.new_zeros(slots, *states.position.shape) for _ in range(3)
        )

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
    ) -> None:
        """Write one accepted step of some orbits, and count it.

        Args:
            orbits: (A,) indices.
            states, features, dt, step, time, last_dt: of those orbits, the leading axis is A.
            where: (A,) bool, the orbits that it is written for; all of them where it is left out.
        """
        index = self._slot(orbits) * self.orbits + orbits
        for series, values in (
            (self.dt, dt),
            (self.energy_error, step.energy_error),
            (self.time, time),
            (self.last_dt, last_dt),
            (self.energy, states.energy),
            (self.scale, states.scale),
            (self.features, features),
            (self.position, states.position),
            (self.velocity, states.velocity),
            (self.acceleration, states.acceleration),
        ):
            flat = series.flatten(0, 1)
            if where is not None:
                values = torch.where(
                    broadcast_mask(where, values), values, flat.index_select(0, index)
                )
            flat.index_copy_(0, index, values)
        self.accepted.index_add_(0, orbits, _ones(orbits, where))

    def reject(
        self, orbits: Int[Tensor, " A"], where: Bool[Tensor, " A"] | None = None
    ) -> Int[Tensor, " A"]:
        """Count a rejection of the present state of some orbits; their counts (A,) so far.

        Args:
            where: (A,) bool, the orbits that are counted; all of them where it is left out.
        """
        index = self._slot(orbits) * self.orbits + orbits
        self.rejections.view(-1).index_add_(0, index, _ones(orbits, where))
        return self.rejections_of(orbits)

    def rejections_of(self, orbits: Int[Tensor, " A"]) -> Int[Tensor, " A"]:
        """How often (A,) the present states of some orbits were rejected so far."""
        index = self._slot(orbits) * self.orbits + orbits
        return self.rejections.view(-1).index_select(0, index)

    def retrain(self, losses: Float[Tensor, " T"], where: Bool[Tensor, " T"] | None = None) -> None:
        """Count the losses (T,) of states that are trained on, or of those that `where` picks."""
        counted = torch.ones_like(losses, dtype=torch.bool) if where is None else where
        self.retrain_loss.add_(torch.where(counted, losses.detach(), 0.0).sum())
        self.retrained.add_(counted.sum())

    def clear(self) -> None:
        """Forget what was recorded; a slot is written before it is read."""
        self.accepted.zero_()
        self.rejections.zero_()
        self.retrain_loss.zero_()
        self.retrained.zero_()

    def _slot(self, orbits: Tensor) -> Tensor:
        """The slots (A,) of the present states of some orbits; the last for those that are done."""
        return self.accepted.index_select(0, orbits).clamp_max(len(self.dt) - 1)

    def trajectory(self, states: States, warmup: int) -> Trajectory:
        """What was recorded after the first `warmup` steps of each orbit, step by step.

        Args:
            states: of the orbits; masses and thresholds are theirs.
        """
        slot = torch.arange(len(self.dt), device=self.dt.device).unsqueeze(1)  # (S, 1)
        kept = ((slot >= warmup) & (slot < self.accepted)).flatten().nonzero().squeeze(1)
        owner = kept % self.orbits

        def of(series: Tensor) -> Tensor:
            return series.flatten(0, 1).index_select(0, kept)

        own = states.threshold
        recorded = replace(
            states,
            position=of(self.position),
            velocity=of(self.velocity),
            mass=states.mass.index_select(0, owner),
            acceleration=of(self.acceleration),
            energy=of(self.energy),
            scale=of(self.scale),
            threshold=None if own is None else own.index_select(0, owner),
        )
        return Trajectory(recorded, of(self.features), of(self.dt), of(self.time), of(self.last_dt))

    def metrics(self, trajectory_length: int, warmup: int) -> dict[str, Any]:
        """The epoch_metrics of `collect_trajectory`."""
        slot = torch.arange(len(self.dt), device=self.dt.device).unsqueeze(1)
        taken = slot < self.accepted  # (S, B)
        errors, dt, rejections = self.energy_error[taken], self.dt[taken], self.rejections[taken]
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


def _ones(orbits: Tensor, where: Tensor | None) -> Tensor:
    return torch.ones_like(orbits) if where is None else where.long()
