"""Config + state → features → dt: the one place that knows what a network is shown."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nbody.config import Config
from nbody.config.input_width import WIDTHS
from nbody.config.sections import FeatureType
from nbody.device import compile_function, resolve_device, resolve_dtype
from nbody.features.of_states import features_of_states
from nbody.features.original import (
    ACCELERATIONS,
    LENGTHS,
    RMS_FLOOR,
    ROOT_MEAN_SQUARES,
    SPEEDS,
)
from nbody.gravity.force import pairwise
from nbody.gravity.invariants import centre_of_mass
from nbody.gravity.vectors import at_least_2d
from nbody.history_buffer import HistoryBuffer
from nbody.integrators.states import States
from nbody.model import LogTimeStepNN
from nbody.particle import ParticleTorch

DT_FLOOR = 1e-12  # softplus, whose steps know no scale of the system, is never zero
Threshold = Tensor | float


@dataclass(frozen=True)
class NormScales:
    """What lengths, speeds, accelerations and times are divided by."""

    length: float
    speed: float
    acceleration: float
    time: float


class ModelAdapter:
    """Builds features as `config` says and asks a network for the step.

    Args:
        config: feature, history and normalization settings.
        device, dtype: override those of the config.
    """

    def __init__(
        self,
        config: Config,
        *,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.config = config
        self.device = device or resolve_device(config)
        self.dtype = dtype or resolve_dtype(config)
        self.history_buffer = (
            HistoryBuffer(config.history_len, config.feature_type) if self.history_enabled else None
        )
        self.scales: NormScales | None = _known_scales(config)
        self._of_states = (
            compile_function(features_of_states) if config.compile else features_of_states
        )

    @property
    def history_enabled(self) -> bool:
        """Whether past states are part of the input."""
        return self.config.history_len > 0

    def fit_scales(self, particle: ParticleTorch) -> None:
        """Take the scales of automatic normalization from a state, once."""
        if self.config.normalize_inputs and self.scales is None:
            self.scales = _automatic_scales(particle.batched())

    def fitted_config(self) -> Config:
        """The config with the scales in use, so that a checkpoint can be used as it was trained."""
        if self.scales is None:
            return self.config
        scales = self.scales
        return self.config.model_copy(
            update={
                "norm_L0": scales.length,
                "norm_V0": scales.speed,
                "norm_A0": scales.acceleration,
                "norm_T0": scales.time,
            }
        )

    def build_feature_tensor(
        self, state: ParticleTorch, *, history_buffer: HistoryBuffer | None = None
    ) -> Float[Tensor, " F"] | Float[Tensor, "B F"]:
        """Network input (F,) of one system or (B, F) of a batch; finite for every state."""
        self.fit_scales(state)
        batch = state.batched()
        features = self.features_of(batch.states(), batch.dt, history_buffer)
        return features if state.is_batch else features.squeeze(0)

    def features_of(
        self,
        states: States,
        last_dt: Float[Tensor, " T"] | Float[Tensor, ""],
        history_buffer: HistoryBuffer | None = None,
    ) -> Float[Tensor, "T F"]:
        """Network input (T, F) of states, finite for every state.

        Args:
            last_dt: (T,) or (), the steps that led to the states.
        """
        history = self.history_buffer if history_buffer is None else history_buffer
        threshold = gate_threshold(states, self.config)
        if self.history_enabled and history is not None:
            features = history.features_of(states, last_dt, threshold)
        else:
            features = self._of_states(states, self.config.feature_type, threshold)
        return torch.nan_to_num(self._normalize(features), nan=0.0)

    def input_dim_from_state(
        self, state: ParticleTorch, *, history_buffer: HistoryBuffer | None = None
    ) -> int:
        """F, the width of the network input."""
        return self.build_feature_tensor(state, history_buffer=history_buffer).shape[-1]

    @torch.no_grad()
    def predict_dt(
        self,
        model: nn.Module,
        state: ParticleTorch,
        *,
        history_buffer: HistoryBuffer | None = None,
    ) -> float | Float[Tensor, " B"]:
        """The network's step: a float for one system, (B,) for a batch. Dropout is off."""
        features = self.build_feature_tensor(state, history_buffer=history_buffer)
        dt = gate_dt(model, at_least_2d(features))
        return dt if state.is_batch else float(dt)

    def _normalize(self, features: Tensor) -> Tensor:
        if self.scales is None:
            return features
        divisor, floor = _divisor(
            self.config.feature_type, self.scales, features.dtype, features.device
        )
        states = features.shape[-1] // len(divisor)
        scaled = features / divisor.repeat(states)
        if floor is None:
            return scaled
        return (scaled.square() + floor.repeat(states)).clamp_min(0).sqrt()


@lru_cache(maxsize=16)
def _divisor(
    kind: FeatureType, scales: NormScales, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """What the columns of one state's features are divided by; what is added to their squares.

    The original takes the root mean squares of a change after it divides, with a floor under each.
    """
    columns = [1.0] * WIDTHS[kind]
    floor: Tensor | None = None
    if kind == "delta_mag":
        columns = [scales.length] * 3 + [scales.speed] * 3 + [scales.acceleration] * 3
        columns.append(scales.time)
        floor = torch.zeros(len(columns), dtype=dtype, device=device)
        for place in ROOT_MEAN_SQUARES:
            floor[place] = RMS_FLOOR * (1 - columns[place] ** -2)
    else:
        for places, scale in (
            (LENGTHS[kind], scales.length),
            (SPEEDS[kind], scales.speed),
            (ACCELERATIONS[kind], scales.acceleration),
        ):
            for place in places:
                columns[place] = scale
    return torch.tensor(columns, dtype=dtype, device=device), floor


def gate_threshold(states: States, config: Config) -> Threshold:
    """The relative energy error that a step must stay under: the state's own, or the config's."""
    return config.energy_threshold if states.threshold is None else states.threshold


def dt_from_features(model: nn.Module, features: Float[Tensor, "T F"]) -> Float[Tensor, " T"]:
    """dt (T,) of inputs (T, F), in the model's present mode, differentiable."""
    dt = model(features)[:, 0]
    return dt if isinstance(model, LogTimeStepNN) else dt + DT_FLOOR


@torch.no_grad()
def gate_dt(model: nn.Module, features: Float[Tensor, "T F"]) -> Float[Tensor, " T"]:
    """dt (T,) as the gate and every user of the stepper see it: dropout off, no graph."""
    training = model.training
    model.eval()
    dt = dt_from_features(model, features)
    model.train(training)
    return dt


def _known_scales(config: Config) -> NormScales | None:
    """Scales that the user gave, or that an earlier run fitted and kept in its config."""
    if not config.normalize_inputs or (config.norm_mode == "auto" and config.norm_L0 is None):
        return None
    length, speed = config.norm_L0 or 1.0, config.norm_V0 or 1.0
    return NormScales(
        length, speed, config.norm_A0 or speed**2 / length, config.norm_T0 or length / speed
    )


def _automatic_scales(batch: ParticleTorch) -> NormScales:
    """L0: mean pair distance; V0: rms speed; A0: rms |a|; T0 = L0/V0; 1 where that is no scale."""
    position, velocity, mass = batch.position, batch.velocity, batch.mass
    separation = position.unsqueeze(-2) - position.unsqueeze(-3)  # (B, N, N, D)
    n = position.shape[-2]
    pair = (separation.square().sum(-1) + batch.softening**2).sqrt()
    off_diagonal = ~torch.eye(n, dtype=torch.bool, device=position.device)
    peculiar = velocity - centre_of_mass(velocity, mass)
    force = pairwise(position, mass, batch.softening).acceleration
    length = _scale(pair[:, off_diagonal].mean())
    speed = _scale(peculiar.square().sum(-1).mean().sqrt())
    acceleration = _scale(force.square().sum(-1).mean().sqrt())
    return NormScales(length, speed, acceleration, length / speed)


def _scale(value: Tensor) -> float:
    number = float(value)
    return number if 0 < number < float("inf") else 1.0
