"""What users hand to a stepper, checked: arrays of positions, velocities and masses.

Legend: ... any leading axes (systems), N particles, D dimensions, T systems in a row.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nbody.config.units import G_OF_UNITS
from nbody.gravity.edges import squared_distance_floor
from nbody.gravity.free_fall import free_fall_time

Numbers = Tensor | np.ndarray | Sequence[Any] | float
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
    position: Numbers,
    velocity: Numbers,
    mass: Numbers,
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
        ValueError: not real numbers, shapes that do not fit, fewer than two particles, dimensions
            other than 2 and 3, negative masses or none at all, particles at one place without
            softening.
    """
    place = real_numbers(position, "position", device)
    speed = real_numbers(velocity, "velocity", device)
    shape = place.shape
    if place.dim() < 2 or speed.shape != shape:
        raise ValueError(
            "position and velocity must both be (..., N, D), not "
            f"{tuple(shape)} and {tuple(speed.shape)}"
        )
    if shape[-2] < LEAST:
        raise ValueError(f"{shape[-2]} particle(s): fewer than two particles; nothing pulls")
    if shape[-1] not in DIMENSIONS:
        raise ValueError(f"D, the last axis, must be 2 or 3, not {shape[-1]}")
    masses = real_numbers(mass, "mass", device)
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
    if not softening and len(place):
        _check_places(place, real, moving.isfinite().all(-1).all(-1))
    return Systems(place.to(dtype), speed.to(dtype), masses.to(dtype), real, shape[:-2])


def _centred(values: Tensor, real: Tensor) -> Tensor:
    """Values (T, N, D) less the mean of those that are real; zero for the others."""
    share = real.unsqueeze(-1).to(values.dtype)
    mean = (share * values).sum(-2, keepdim=True) / share.sum(-2, keepdim=True)
    return (values - mean) * share


def thresholds(
    given: Numbers | None, systems: Systems, dtype: torch.dtype
) -> Float[Tensor, " T"] | None:
    """The gate of each system, where it was given: one for all, or (...,).

    Raises:
        ValueError: of another shape, or not above zero.
    """
    if given is None:
        return None
    found = real_numbers(given, "energy_threshold", systems.mass.device).to(dtype)
    if not bool(((found > 0) & found.isfinite()).all()):
        raise ValueError("energy_threshold must be above zero and finite")
    try:
        return found.expand(systems.leading).reshape(-1)
    except RuntimeError:
        raise ValueError(
            f"energy_threshold must be a number or {tuple(systems.leading)}, as the systems are, "
            f"not {tuple(found.shape)}"
        ) from None


def gravity(given: float | str) -> float:
    """Newton's constant, of units or as it was given.

    Raises:
        ValueError: no such units, or not above zero.
    """
    if isinstance(given, str):
        if given not in G_OF_UNITS:
            known = ", ".join(G_OF_UNITS)
            raise ValueError(f"G must be a number, or the name of units: {known}; not {given!r}")
        return G_OF_UNITS[given]
    found = real_numbers(given, "G", torch.device("cpu"))
    if found.dim():
        raise ValueError(f"G must be one number, not {tuple(found.shape)}")
    if not 0 < float(found) < math.inf:
        raise ValueError(f"G must be above zero and finite, not {float(found):g}")
    return float(found)


def real_numbers(values: Any, name: str, device: torch.device) -> Tensor:
    """Numbers as float64, or as float32 where that is all there is; of arrays in any order.

    Raises:
        ValueError: they are complex, or none.
    """
    if isinstance(values, Tensor):
        if values.is_complex():
            raise ValueError(f"{name} must hold real numbers, not {values.dtype}")
        kind = torch.float32 if values.dtype == torch.float32 else torch.float64
        return values.to(device, kind)
    try:
        found = np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} must hold real numbers, in rows of one length") from None
    if found.dtype.kind not in "fiu":
        raise ValueError(f"{name} must hold real numbers, not {found.dtype}")
    return torch.as_tensor(np.array(found, dtype=np.float64), device=device)


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
