"""Systems of three bodies that have a name. G = 1."""

import math

import torch

from nbody.particle import ParticleTorch, make_particle

FIGURE_EIGHT_PERIOD = 6.32591398  # Chenciner & Montgomery (2000)


def figure_eight() -> ParticleTorch:
    """Three equal masses chasing each other on one curve (Chenciner & Montgomery 2000)."""
    first, speed = (0.97000436, -0.24308753), (-0.93240737, -0.86473146)
    half = (-speed[0] / 2, -speed[1] / 2)
    rows = [
        [1.0, *first, *half],
        [1.0, -first[0], -first[1], *half],
        [1.0, 0.0, 0.0, *speed],
    ]
    period = torch.tensor(FIGURE_EIGHT_PERIOD, dtype=torch.float64)
    return make_particle(rows).replace(period=period)


def pythagorean() -> ParticleTorch:
    """Masses 3, 4, 5 at rest at the corners of a 3-4-5 triangle (Burrau 1913)."""
    return make_particle(
        [[3.0, 1.0, 3.0, 0.0, 0.0], [4.0, -2.0, -1.0, 0.0, 0.0], [5.0, 1.0, -1.0, 0.0, 0.0]]
    )


def lagrange_triangle(mass: float = 1.0, side: float = 1.0) -> ParticleTorch:
    """Three equal masses circling on an equilateral triangle, ω² L³ = 3 G m."""
    rate, radius = math.sqrt(3 * mass / side**3), side / math.sqrt(3)
    rows: list[list[float]] = []
    for corner in range(3):
        angle = 2 * math.pi * corner / 3
        x, y = radius * math.cos(angle), radius * math.sin(angle)
        rows.append([mass, x, y, -rate * y, rate * x])
    period = torch.tensor(2 * math.pi / rate, dtype=torch.float64)
    return make_particle(rows).replace(period=period)
