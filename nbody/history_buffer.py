"""The last K states of each system, and the network input made of them.

Legend: B systems, K past states (oldest first, right-aligned), N particles, D dimensions, F
features.
"""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nbody.config.input_width import WITH_TIME_SCALE
from nbody.config.sections import FeatureType
from nbody.features.of_states import features_of_states
from nbody.features.original import HISTORY_SOFTENING, delta_features
from nbody.gravity.force import pairwise
from nbody.gravity.vectors import broadcast_mask
from nbody.integrators.states import States
from nbody.particle import ParticleTorch

SERIES = ("position", "velocity", "acceleration", "mass", "energy", "scale")
THRESHOLD = 2e-4  # of features asked for without a gate


class HistoryBuffer:
    """Past states of every system of a batch, each with its own history.

    States that are missing (fewer than K were pushed) are zeros in *feature* space.

    Args:
        history_len: K, states kept.
        feature_type: what `features_for` makes of them.
    """

    def __init__(self, history_len: int, feature_type: FeatureType) -> None:
        if history_len < 1:
            raise ValueError("history_len must be >= 1; without history there is no buffer")
        self.history_len = history_len
        self.feature_type: FeatureType = feature_type
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._past: dict[str, Tensor] = {}
        self._count: Tensor | None = None  # (B,) states known of each system

    def __len__(self) -> int:
        """States known of every system."""
        return 0 if self._count is None else int(self._count.min())

    def push(self, particle: ParticleTorch, mask: Bool[Tensor, " B"] | None = None) -> None:
        """Append the state of every system, or of those that `mask` (B,) picks."""
        self.push_states(particle.states(), particle.batched().dt, mask)

    def push_states(
        self,
        states: States,
        last_dt: Float[Tensor, " B"] | Float[Tensor, ""],
        mask: Bool[Tensor, " B"] | None = None,
    ) -> None:
        """The same for states (B, ...) and the steps (B,) or () that led to them."""
        state = _series(states, last_dt)
        if self._count is None:
            self._past = {
                name: torch.zeros(
                    (values.shape[0], self.history_len, *values.shape[1:]),
                    dtype=values.dtype,
                    device=values.device,
                )
                for name, values in state.items()
            }
            self._count = torch.zeros(len(state["dt"]), dtype=torch.long, device=state["dt"].device)
        batch = len(self._count)
        if len(state["dt"]) != batch:
            raise ValueError(f"the history holds {batch} systems, the state {len(state['dt'])}")
        everyone = torch.ones(batch, dtype=torch.bool, device=self._count.device)
        mask = everyone if mask is None else mask
        for name, values in state.items():
            past = self._past[name]
            moved = torch.cat((past[:, 1:], values.unsqueeze(1)), dim=1)
            past.copy_(torch.where(broadcast_mask(mask, past), moved, past))
        self._count.add_(mask).clamp_max_(self.history_len)

    def features_for(self, particle: ParticleTorch) -> Float[Tensor, " F"] | Float[Tensor, "B F"]:
        """[past states…, current state] as (F_total,) for one system, (B, F_total) for a batch."""
        features = self.features_for_batch(particle)
        return features if particle.is_batch else features.squeeze(0)

    def features_for_batch(self, particle: ParticleTorch) -> Float[Tensor, "B F"]:
        """(B, F_total). A history of one system serves every system of the batch."""
        states = particle.states()
        threshold = THRESHOLD if states.threshold is None else states.threshold
        return self.features_of(states, particle.batched().dt, threshold)

    def features_of(
        self,
        states: States,
        last_dt: Float[Tensor, " B"] | Float[Tensor, ""],
        threshold: Float[Tensor, " B"] | float = THRESHOLD,
    ) -> Float[Tensor, "B F"]:
        """The same for states (B, ...), the steps that led to them, and the gate's thresholds."""
        current = _series(states, last_dt)
        batch = len(current["dt"])
        if self._count is None:
            count = torch.zeros(batch, dtype=torch.long, device=current["dt"].device)
            past = {
                name: torch.zeros_like(values)
                .unsqueeze(1)
                .expand(-1, self.history_len, *[-1] * (values.dim() - 1))
                for name, values in current.items()
            }
        elif len(self._count) in {1, batch}:
            count = self._count.expand(batch)
            past = {name: v.expand(batch, *v.shape[1:]) for name, v in self._past.items()}
        else:
            raise ValueError(f"the history holds {len(self._count)} systems, the state {batch}")
        series = {
            name: torch.cat((past[name], values.unsqueeze(1)), dim=1)
            for name, values in current.items()
        }
        place = torch.arange(self.history_len, device=count.device)
        known = place >= self.history_len - count.unsqueeze(1)  # (B, K)
        return self._assemble(series, known, states, threshold)

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs, as tensors."""
        past = {name: values.clone() for name, values in self._past.items()}
        return {"past": past, "count": None if self._count is None else self._count.clone()}

    def load_state_dict(self, state: dict[str, Any], device: torch.device | str = "cpu") -> None:
        """Continue on a device where `state_dict` was taken."""
        count = state["count"]
        self._past = {name: v.to(device, copy=True) for name, v in state["past"].items()}
        self._count = None if count is None else count.to(device, copy=True)

    def _assemble(
        self, series: dict[str, Tensor], known: Tensor, states: States, threshold: Tensor | float
    ) -> Tensor:
        if self.feature_type == "delta_mag":
            position, velocity, mass = (series[n] for n in ("position", "velocity", "mass"))
            softening = states.softening or HISTORY_SOFTENING
            force = pairwise(position, mass, softening, states.field).acceleration
            blocks = delta_features(position, velocity, force, series["dt"])
            return blocks.masked_fill(~known.unsqueeze(-1), 0.0).flatten(1)
        tensors = {name: values for name, values in series.items() if name != "dt"}
        if isinstance(threshold, Tensor):
            threshold = threshold.unsqueeze(1)  # (B, 1) beside (B, K + 1)
        whole = replace(states, **tensors, threshold=None)
        blocks = features_of_states(whole, self.feature_type, threshold)
        if self.feature_type in WITH_TIME_SCALE:
            shapes, log_reference = blocks[..., :-1], blocks[:, -1, -1:]
            past = shapes[:, :-1].masked_fill(~known.unsqueeze(-1), 0.0)
            return torch.cat((past.flatten(1), shapes[:, -1], log_reference), dim=1)
        past = blocks[:, :-1].masked_fill(~known.unsqueeze(-1), 0.0)
        return torch.cat((past.flatten(1), blocks[:, -1]), dim=1)


def _series(states: States, last_dt: Tensor) -> dict[str, Tensor]:
    series = {name: getattr(states, name) for name in SERIES}
    return {**series, "dt": last_dt.detach().expand(len(states))}
