"""What a network is trained to reduce.

Legend: T samples. Energy errors are relative, e = |E1 - E0| / |E0|.

Masks come before the arithmetic, never after it: `torch.where` on a result that is not finite still
sends NaN backwards.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nbody.config import Config
from nbody.integrators.states import States
from nbody.model_adapter import DT_FLOOR, dt_from_features, gate_threshold
from nbody.training.samples import Samples

ERROR_FLOOR = 1e-16  # ln of an error that happens to be zero
BLOWN_UP = 10.0  # loss of a step whose energy is not finite


def losses_of(model: nn.Module, samples: Samples, config: Config) -> Float[Tensor, " T"]:
    """Loss (T,) of each sample, differentiable, in the model's present mode."""
    dt = dt_from_features(model, samples.features)
    states = None if samples.dt_star is not None else samples.states
    return losses_of_steps(dt, states, samples.dt_star, config)


def losses_of_steps(
    dt: Float[Tensor, " T"],
    states: States | None,
    dt_star: Float[Tensor, " T"] | None,
    config: Config,
) -> Float[Tensor, " T"]:
    """Loss (T,) of steps dt (T,): beside dt* where it is given, else by the energy errors that they
    make of the states."""
    if dt_star is not None:
        return pinball_loss(dt, dt_star, config.oracle_quantile)
    if states is None:
        raise ValueError("a loss needs dt*, or the states that the steps are of")
    return energy_losses(states, dt, config)


def energy_losses(states: States, dt: Float[Tensor, " T"], config: Config) -> Float[Tensor, " T"]:
    """Band loss (T,) of the energy errors that steps dt (T,) make, finite for every finite dt.

    Steps whose energy is not finite never enter the differentiated arithmetic: they get a loss
    that only says "smaller".
    """
    with torch.no_grad():
        finite = states.step(dt, config.n_steps).energy_error.isfinite()
    measured = states.step(torch.where(finite, dt, DT_FLOOR), config.n_steps).energy_error
    gate = gate_threshold(states, config)
    banded = band_loss(measured, config.E_lower, config.E_upper, gate)
    return torch.where(finite, banded, shrink_loss(dt))


def band_loss(
    energy_error: Float[Tensor, " T"],
    lower: float,
    upper: float,
    gate: Float[Tensor, " T"] | float = math.inf,
) -> Float[Tensor, " T"]:
    """relu(ln lower - ln e)² + relu(ln e - ln upper)², zero inside the band; per sample (T,).

    Args:
        gate: the threshold of each sample (T,), or of all. A band that reaches up to it is moved
            down, until it ends at half of it: inside the band every step must pass.
    """
    scaled = energy_error / band_scale(upper, gate)
    log_error = scaled.clamp_min(ERROR_FLOOR).log()
    below = (math.log(lower) - log_error).relu()
    above = (log_error - math.log(upper)).relu()
    return below.square() + above.square()


def band_scale(upper: float, gate: Float[Tensor, " T"] | float) -> Float[Tensor, " T"] | float:
    """What both ends of a band are multiplied by, so that it lies under the gate."""
    if isinstance(gate, Tensor):
        return torch.where(gate > upper, 1.0, gate / (2 * upper))
    return 1.0 if gate > upper else gate / (2 * upper)


def pinball_loss(
    dt: Float[Tensor, " T"], dt_star: Float[Tensor, " T"], quantile: float
) -> Float[Tensor, " T"]:
    """Quantile loss on u = ln(dt/dt*), per sample (T,); its minimum has P(u > 0) = quantile.

    (1 - q) u where the step is too large, -q u where it is too small (Koenker & Bassett 1978).
    """
    log_ratio = (dt / dt_star).log()
    return torch.maximum((1 - quantile) * log_ratio, -quantile * log_ratio)


def shrink_loss(dt: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
    """Pushes ln dt down with unit slope, whatever dt is: for steps too large to be measured."""
    log_dt = dt.log()
    return BLOWN_UP + log_dt - log_dt.detach()
