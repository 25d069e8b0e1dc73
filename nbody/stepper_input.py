"""What users hand to a stepper, checked: arrays of positions, velocities and masses.

Legend: ... any leading axes (systems), N particles, D dimensions, T systems in a row.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nbody.gravity.edges import squared_distance_floor
from nbody.gravity.free_fall import free_fall_time

Array = Tensor | np.ndarray
DIMENSIONS = (2, 3)
LEAST = 2  # particles


@dataclass(frozen=True)
class Systems:
    """Systems in a row, about their centres, and what their shape was."""

    position: Float[Tensor, "T N D"]
    velocity: Float[Tensor, "T N D"]
    mass: Float[Tensor, "T N"]
    real: Bool[Tensor, "T N"]  # which particles are not padding
    leading: torch.Size


def checked(
    position: Array,
    velocity: Array,
    mass: Array | float,
    *,
    dtype: torch.dtype,
    device: torch.device,
    centred: bool,
    softening: float,
) -> Systems:
    """Systems that a stepper can be asked about.

    Particles whose mass, position and velocity are all zero are padding. Systems that are not
    finite are let through: their step is NaN.

    Args:
        centred: subtract each system's mean position and velocity, before they are cast: far from
            the origin a float32 number has no digits left for distances.

    Raises:
        ValueError: shapes that do not fit, fewer than two particles, dimensions other than 2 and 3,
            negative masses or none at all, particles at one place without softening.
    """
    place, speed = (
        torch.as_tensor(values, device=device).to(_wide(values)) for values in (position, velocity)
    )
    shape = place.shape
    if place.dim() < 2 or speed.shape != shape:
        raise ValueError(
            "position and velocity must both be (..., N, D), not "
            f"{tuple(shape)} and {tuple(speed.shape)}"
        )
    if shape[-1] not in DIMENSIONS:
        raise ValueError(f"D, the last axis, must be 2 or 3, not {shape[-1]}")
    masses = torch.as_tensor(mass, device=device).to(_wide(mass))
    try:
        masses = masses.expand(shape[:-1])
    except RuntimeError:
        raise ValueError(
            f"mass must be a number, (N,) or (..., N) with N = {shape[-2]}, not "
            f"{tuple(masses.shape)}"
        ) from None
    place, speed = place.reshape(-1, *shape[-2:]), speed.reshape(-1, *shape[-2:])
    masses = masses.reshape(-1, shape[-2])
    moving = torch.cat((place, speed), dim=-1)
    real = (masses != 0) | (moving != 0).any(-1)
    _check_masses(masses, real)
    if centred:
        place, speed = _centred(place, real), _centred(speed, real)
    if not softening:
        _check_places(place, real, moving.isfinite().all(-1).all(-1))
    return Systems(place.to(dtype), speed.to(dtype), masses.to(dtype), real, shape[:-2])


def _centred(values: Tensor, real: Tensor) -> Tensor:
    """Values (T, N, D) less the mean of those that are real; zero for the others."""
    share = real.unsqueeze(-1).to(values.dtype)
    mean = (share * values).sum(-2, keepdim=True) / share.sum(-2, keepdim=True)
    return (values - mean) * share


def _wide(values: Any) -> torch.dtype:
    """Float64, or float32 where that is all there is."""
    kind = values.dtype if isinstance(values, Tensor) else None
    return torch.float32 if kind == torch.float32 else torch.float64


def _check_masses(mass: Tensor, real: Tensor) -> None:
    for number, wrong in (("below zero", mass < 0), ("not finite", ~mass.isfinite())):
        if bool(wrong.any()):
            system, particle = cast(list[int], wrong.nonzero()[0].tolist())
            raise ValueError(f"the mass of particle {particle} of system {system} is {number}")
    few = real.sum(-1) < LEAST
    if bool(few.any()):
        raise ValueError(
            f"system {int(few.nonzero()[0])} has fewer than two particles: nothing pulls"
        )
    massless = ~(mass > 0).any(-1)
    if bool(massless.any()):
        raise ValueError(f"system {int(massless.nonzero()[0])} has no mass: nothing pulls")


def _check_places(position: Tensor, real: Tensor, finite: Tensor) -> None:
    """Padding is moved apart before distances are looked at."""
    apart = torch.arange(1, real.shape[1] + 1, dtype=position.dtype, device=position.device)
    far = 3 * position.abs().nan_to_num().amax() + 1
    place = torch.where(real.unsqueeze(-1), position, (far * apart).unsqueeze(-1))
    nearest = free_fall_time(place, torch.ones_like(place[..., 0]), 0.0)
    least = (squared_distance_floor(position.dtype) ** 1.5 / 2) ** 0.5
    together = finite & (nearest <= 1.01 * least)
    if bool(together.any()):
        raise ValueError(
            f"two particles of system {int(together.nonzero()[0])} are at one place; move one, or "
            "use a stepper with softening"
        )
