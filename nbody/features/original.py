"""The features of AITimeStepper: statistics of a state, and of its change.

Legend: ... any leading axes (systems), N particles, D dimensions, P = N(N-1)/2 pairs.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.gravity.force import pairwise
from nbody.gravity.free_fall import pair_index
from nbody.gravity.vectors import lengths

# Columns of `basic` and `rich` that are lengths, speeds and accelerations.
LENGTHS = {"basic": (3, 4, 9, 10), "rich": (7, 8, 9, 10, 19, 20, 21, 22)}
SPEEDS = {"basic": (5, 6), "rich": (11, 12, 13, 14)}
ACCELERATIONS = {"basic": (7, 8), "rich": (15, 16, 17, 18)}
ROOT_MEAN_SQUARES = (2, 5, 8)  # columns of `delta_mag`
RMS_FLOOR = 1e-12
MASS_FLOOR = 1e-12  # beside the total mass, where the original divides by it
HISTORY_SOFTENING = 1e-6  # of the accelerations of past states where there is none


def _rms(values: Tensor) -> Tensor:
    return (values.square().mean(-1) + RMS_FLOOR).sqrt()


def system_features(
    position: Float[Tensor, "*B N D"],
    velocity: Float[Tensor, "*B N D"],
    mass: Float[Tensor, "*#B N"],
    softening: float,
    mode: str,
) -> Float[Tensor, "*B F"]:
    """The original's statistics of a state, (..., 11) for `basic` or (..., 23) for `rich`."""
    weights = (mass / (mass.sum(-1, keepdim=True) + MASS_FLOOR)).unsqueeze(-1)  # (..., N, 1)
    radius, speed = (
        lengths(values - (weights * values).sum(-2, keepdim=True))
        for values in (position, velocity)
    )  # (..., N)
    force = pairwise(position, mass, softening).acceleration
    acceleration = lengths(force)
    i, j = pair_index(position.shape[-2], position.device)
    separation = position[..., j, :] - position[..., i, :]  # (..., P, D)
    pair = (separation.square().sum(-1) + softening**2 + RMS_FLOOR).sqrt()  # (..., P)
    ones = torch.ones_like(radius[..., 0])
    count, dim = ones * position.shape[-2], ones * position.shape[-1]
    total = mass.sum(-1)
    if mode == "basic":
        columns = [count, dim, total]
        for values in (radius, speed, acceleration):
            columns += [values.mean(-1), values.amax(-1)]
        columns += [pair.amin(-1), pair.mean(-1)]
    else:
        columns = [count, dim, total]
        columns += [mass.mean(-1), mass.amin(-1), mass.amax(-1), _rms(mass)]
        for values in (radius, speed, acceleration):
            columns += [values.mean(-1), values.amin(-1), values.amax(-1), _rms(values)]
        columns += [pair.amin(-1), pair.mean(-1), pair.amax(-1), ones * softening]
    return torch.stack(columns, dim=-1)


def delta_features(
    position: Float[Tensor, "*B K1 N D"],
    velocity: Float[Tensor, "*B K1 N D"],
    acceleration: Float[Tensor, "*B K1 N D"],
    dt: Float[Tensor, "*B K1"],
) -> Float[Tensor, "*B K 10"]:
    """Mean, max and rms of |Δx|, |Δv|, |Δa| between consecutive states, then dt.

    Args:
        position, velocity, acceleration: (..., K + 1, N, D), oldest to newest.
        dt: (..., K + 1), the step that led to each state.

    Returns:
        (..., K, 10)
    """
    columns: list[Tensor] = []
    for series in (position, velocity, acceleration):
        change = lengths(series.diff(dim=-3))  # (..., K, N)
        columns += [change.mean(-1), change.amax(-1), _rms(change)]
    return torch.stack([*columns, dt[..., 1:]], dim=-1)
