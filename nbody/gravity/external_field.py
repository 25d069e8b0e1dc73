"""The tidal field of a fixed point-mass perturber."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.config import Config
from nbody.gravity.vectors import lengths


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
        linear = (position * perturber).sum(-1) / origin**3
        return -G * self.mass * (1 / distance - 1 / origin - linear)

    def origin_to_perturber(self, position: Float[Tensor, "*B D"]) -> Float[Tensor, " D"]:
        """R (D,), of the dimension, type and device of positions (..., D)."""
        padded = (*self.position, 0.0)[: position.shape[-1]]
        return _on_device(padded, position.dtype, position.device)


@lru_cache(maxsize=16)
def _on_device(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(numbers, dtype=dtype, device=device)


def field_from_config(config: Config) -> PointMassTidalField | None:
    """The perturber that a config names, if any."""
    if config.external_field_mass is None or config.external_field_position is None:
        return None
    mass = config.newton * config.external_field_mass
    return PointMassTidalField(mass, tuple(config.external_field_position))
