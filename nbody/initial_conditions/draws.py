"""What populations draw at random, and a config has the ranges of: orbits, masses, thresholds.

Legend: B systems, N particles.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.config import Config
from nbody.initial_conditions.conics import farthest_anomaly, mean_anomaly


class Elements(NamedTuple):
    """Orbits of two bodies, (B,) each."""

    eccentricity: Float[Tensor, " B"]
    semi_major: Float[Tensor, " B"]
    phase: Float[Tensor, " B"]  # in the orbit, uniform in [0, 1)
    pericentre_angle: Float[Tensor, " B"]  # argument of pericentre

    def mean_anomaly(self) -> Float[Tensor, " B"]:
        """Where the phases are: uniform in time on an ellipse; on an unbound orbit uniform in its
        anomaly, which resolves the pericentre, between fifty pericentres in and out."""
        e, turn = self.eccentricity, 2 * self.phase - 1
        unbound = mean_anomaly(farthest_anomaly(e) * turn, e)
        return torch.where(e < 1, 2 * math.pi * self.phase, unbound)


def draw_elements(config: Config, systems: int, generator: torch.Generator) -> Elements:
    """e and a uniform in the config's ranges (of `kepler`: its own), phase and orientation too."""
    draw = torch.rand(4, systems, generator=generator, dtype=torch.float64)
    if config.initial_conditions == "kepler":
        eccentricity = torch.full_like(draw[0], config.eccentricity)
        semi_major = torch.full_like(draw[1], config.semi_major)
    else:
        eccentricity = config.e_min + (config.e_max - config.e_min) * draw[0]
        semi_major = config.a_min + (config.a_max - config.a_min) * draw[1]
    return Elements(eccentricity, semi_major, draw[2], 2 * math.pi * draw[3])


def draw_masses(config: Config, systems: int, generator: torch.Generator) -> Float[Tensor, "B N"]:
    """Masses G m (B, N): `mass` of the first body, the others down to `mass_ratio_min` of it."""
    first = config.newton * config.mass
    mass = torch.full((systems, config.num_particles), first, dtype=torch.float64)
    if config.mass_ratio_min < 1 and config.initial_conditions != "kepler":
        others = (systems, config.num_particles - 1)
        mass[:, 1:] *= log_uniform(config.mass_ratio_min, *others, generator=generator)
    return mass


def draw_thresholds(
    config: Config, shape: tuple[int, ...], generator: torch.Generator
) -> Float[Tensor, "..."] | None:
    """Thresholds of the gate, one for each system, log-uniform; None where one holds for all."""
    if config.energy_threshold_max is None:
        return None
    share = torch.rand(shape, generator=generator, dtype=torch.float64)
    return (
        config.energy_threshold * (config.energy_threshold_max / config.energy_threshold) ** share
    )


def log_uniform(low: float, *shape: int, generator: torch.Generator) -> Float[Tensor, "..."]:
    """Numbers between `low` and 1, uniform in their logarithm."""
    draw = torch.rand(*shape, generator=generator, dtype=torch.float64)
    return (math.log(low) * draw).exp()
