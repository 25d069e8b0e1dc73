"""The loss of single-step predictions: states + dt → one number per sample, as a config asks.

Legend: T samples.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nbody.config import Config
from nbody.errors import TrainingDiverged
from nbody.losses import band_loss, pinball_loss, shrink_loss
from nbody.model_adapter import dt_from_features
from nbody.oracle import first_crossing
from nbody.trajectory import States


@dataclass(frozen=True)
class Samples:
    """States to predict for, what the network sees there and, where the loss needs it, dt*."""

    states: States
    features: Tensor  # (T, F)
    dt_star: Tensor | None  # (T,)

    @classmethod
    def of(cls, states: States, features: Tensor, config: Config) -> "Samples":
        """The samples that the config's loss is taken over; the oracle is asked here, once."""
        needed = config.loss == "oracle"
        dt_star = (
            first_crossing(states, config.energy_threshold, config.n_steps) if needed else None
        )
        return cls(states, features, dt_star)

    def __len__(self) -> int:
        return len(self.features)

    def take(self, index: Tensor) -> "Samples":
        """The samples that an index or a mask picks."""
        dt_star = None if self.dt_star is None else self.dt_star[index]
        return Samples(self.states.take(index), self.features[index], dt_star)


def losses_of(model: nn.Module, samples: Samples, config: Config) -> Tensor:
    """Loss (T,) of each sample, differentiable, in the model's present mode."""
    dt = dt_from_features(model, samples.features)
    if samples.dt_star is not None:
        return pinball_loss(dt, samples.dt_star, config.oracle_quantile)
    return energy_losses(samples.states, dt, config)


def energy_losses(states: States, dt: Tensor, config: Config) -> Tensor:
    """Band loss (T,) of the energy errors that steps dt (T,) make, finite for every finite dt.

    Steps whose energy is not finite never enter the differentiated arithmetic: they get a loss
    that only says "smaller".
    """
    with torch.no_grad():
        error = states.step(dt, config.n_steps).energy_error
        finite = error.isfinite()
    losses = shrink_loss(dt)
    if finite.any():
        measured = states.take(finite).step(dt[finite], config.n_steps).energy_error
        banded = band_loss(measured, config.E_lower, config.E_upper)
        losses = losses.masked_scatter(finite, banded)
    return losses


def descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """One optimizer step on a scalar loss.

    Raises:
        TrainingDiverged: the loss is not finite; the weights are untouched.
    """
    if not loss.isfinite():
        raise TrainingDiverged("the loss")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def check_weights(model: nn.Module) -> None:
    """Raises TrainingDiverged where a weight is not finite."""
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            raise TrainingDiverged(f"weight {name}")
