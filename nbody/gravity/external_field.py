"""The tidal field of fixed point-mass perturbers."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.config import Config
from nbody.config.perturbers import listed
from nbody.gravity.vectors import dot, lengths


@dataclass(frozen=True)
class PointMassTidalField:
    """Tidal field of mass M at R, relative to the origin (G = 1 unless given).

    a(x) = G M [(R - x)/|R - x|³ - R/|R|³], the perturber's pull less its pull on the origin;
    Φ(x) = -G M [1/|R - x| - 1/|R| - x·R/|R|³], so that a = -∇Φ and Φ(0) = 0.
    """

    mass: float
    position: tuple[float, ...]

    def acceleration(
        self, position: Float[Tensor, "*B N D"], G: float = 1.0
    ) -> Float[Tensor, "*B N D"]:
        """Acceleration (..., N, D) at positions (..., N, D)."""
        perturber = self.origin_to_perturber(position)  # (D,)
        separation = perturber - position  # (..., N, D)
        distance = lengths(separation).unsqueeze(-1)  # (..., N, 1)
        origin = perturber / lengths(perturber) ** 3  # (D,)
        return G * self.mass * (separation / distance**3 - origin)

    def potential(self, position: Float[Tensor, "*B N D"], G: float = 1.0) -> Float[Tensor, "*B N"]:
        """Potential (..., N) per unit mass at positions (..., N, D)."""
        perturber = self.origin_to_perturber(position)
        distance = lengths(perturber - position)  # (..., N)
        origin = lengths(perturber)
        linear = dot(position, perturber.expand_as(position)) / origin**3
        return -G * self.mass * (1 / distance - 1 / origin - linear)

    def origin_to_perturber(self, position: Float[Tensor, "*B D"]) -> Float[Tensor, " D"]:
        """R (D,), of the dimension, type and device of positions (..., D)."""
        padded = (*self.position, 0.0)[: position.shape[-1]]
        return _on_device(padded, position.dtype, position.device)


@dataclass(frozen=True)
class SeveralPerturbers:
    """The tidal fields of several point masses, added up."""

    members: tuple[PointMassTidalField, ...]

    def acceleration(
        self, position: Float[Tensor, "*B N D"], G: float = 1.0
    ) -> Float[Tensor, "*B N D"]:
        """Acceleration (..., N, D) at positions (..., N, D)."""
        return torch.stack([member.acceleration(position, G) for member in self.members]).sum(0)

    def potential(self, position: Float[Tensor, "*B N D"], G: float = 1.0) -> Float[Tensor, "*B N"]:
        """Potential (..., N) per unit mass at positions (..., N, D)."""
        return torch.stack([member.potential(position, G) for member in self.members]).sum(0)


TidalField = PointMassTidalField | SeveralPerturbers


def perturbers(field: TidalField | None) -> tuple[PointMassTidalField, ...]:
    """The point masses of a field."""
    if field is None:
        return ()
    return field.members if isinstance(field, SeveralPerturbers) else (field,)


@lru_cache(maxsize=16)
def _on_device(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(numbers, dtype=dtype, device=device)


def field_from_config(config: Config) -> TidalField | None:
    """The perturbers that a config names, if any."""
    masses, places = listed(config.external_field_mass, config.external_field_position)
    members = tuple(
        PointMassTidalField(config.newton * mass, tuple(place))
        for mass, place in zip(masses, places, strict=True)
    )
    if not members:
        return None
    return members[0] if len(members) == 1 else SeveralPerturbers(members)
