"""A collected trajectory: accepted samples as stacked tensors that behave as a sequence of pairs.

Legend: T samples, N particles, D dimensions, F features.

Each sample is the state that the gate tested (not the one after the step), the step that it passed
with, and what the network saw there: features do not depend on the weights, so neither they nor the
state's force and energy are ever computed again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nbody.history_buffer import HistoryBuffer
from nbody.integrators.states import States, concatenate_states
from nbody.model_adapter import ModelAdapter
from nbody.particle import ParticleTorch


@dataclass(frozen=True)
class Trajectory(Sequence["tuple[ParticleTorch, float]"]):
    """T accepted samples. `trajectory[k]` is `(ParticleTorch, dt)`; slices are trajectories."""

    states: States
    features: Float[Tensor, "T F"]
    dt: Float[Tensor, " T"]  # the step that the gate accepted
    time: Float[Tensor, " T"]  # since the initial condition
    last_dt: Float[Tensor, " T"]  # the step that led to the state
    final_particle: ParticleTorch | None = None  # where its orbits ended

    @classmethod
    def of(
        cls,
        samples: "Trajectory | Sequence[tuple[ParticleTorch, float | Tensor]]",
        adapter: ModelAdapter,
        history_buffer: HistoryBuffer | None = None,
    ) -> "Trajectory":
        """`samples` as a trajectory; pairs that a caller made get their features here."""
        if isinstance(samples, Trajectory):
            return samples
        parts: list[Trajectory] = []
        for particle, dt in samples:
            batch = particle.batched()
            states = batch.states()
            features = adapter.build_feature_tensor(batch, history_buffer=history_buffer)
            steps = torch.as_tensor(dt, dtype=states.energy.dtype, device=states.energy.device)
            last_dt = batch.dt.detach().expand(len(states))
            time = batch.current_time.detach().expand(len(states))
            parts.append(
                Trajectory(states, features, steps.detach().expand(len(states)), time, last_dt)
            )
        return concatenate(parts)

    def __len__(self) -> int:
        return len(self.dt)

    def take(self, index: Int[Tensor, " A"] | Bool[Tensor, " T"]) -> "Trajectory":
        """The samples that an index or a mask picks, as a trajectory."""
        return Trajectory(
            self.states.take(index),
            self.features[index],
            self.dt[index],
            self.time[index],
            self.last_dt[index],
        )

    @overload
    def __getitem__(self, index: int) -> tuple[ParticleTorch, float]: ...
    @overload
    def __getitem__(self, index: slice) -> "Trajectory": ...
    def __getitem__(self, index: int | slice) -> "tuple[ParticleTorch, float] | Trajectory":
        if isinstance(index, slice):
            return self.take(torch.arange(len(self), device=self.dt.device)[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of a trajectory of {len(self)}")
        states = self.states
        one = torch.tensor([index], device=self.dt.device) % len(self)
        particle = ParticleTorch.of_states(
            states.take(one), dt=self.last_dt[one], current_time=self.time[one]
        )
        return particle.select(0), float(self.dt[index])

    def __iter__(self) -> Iterator[tuple[ParticleTorch, float]]:
        return (self[index] for index in range(len(self)))


def concatenate(parts: Sequence[Trajectory]) -> Trajectory:
    """One trajectory of several, in order. All must share softening and external field."""
    if not parts:
        raise ValueError("a trajectory needs at least one sample")

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts])

    states = concatenate_states([part.states for part in parts])
    return Trajectory(states, joined("features"), joined("dt"), joined("time"), joined("last_dt"))
