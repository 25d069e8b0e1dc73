"""Relative Kepler motion on ellipses, parabolas and hyperbolas (Danby 1988, chapter 6).

G = 1. Legend: B systems.

The size of an orbit is its semi-major axis a, of a hyperbola |a|, so that its pericentre is at
a |1 - e|; of a parabola, which has none, it is the pericentre distance. The anomaly w that moves
along the orbit is the eccentric one E of an ellipse, the hyperbolic one H, and D = tan(ν/2) of a
parabola; mean anomalies are E - e sin E, e sinh H - H and D + D³/3, and grow in time with the rate
sqrt(GM/a³), of a parabola sqrt(GM/2q³).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

ITERATIONS = 60
REACH = 50.0  # pericentres from which an unbound orbit comes in


def mean_anomaly(
    anomaly: Float[Tensor, "*B"], eccentricity: Float[Tensor, "*#B"]
) -> Float[Tensor, "*B"]:
    """The mean anomaly of an anomaly w."""
    ellipse = anomaly - eccentricity * anomaly.sin()
    hyperbola = eccentricity * anomaly.sinh() - anomaly
    return _by_kind(eccentricity, ellipse, anomaly + anomaly**3 / 3, hyperbola)


def mean_anomaly_slope(
    anomaly: Float[Tensor, "*B"], eccentricity: Float[Tensor, "*#B"]
) -> Float[Tensor, "*B"]:
    """d(mean anomaly)/dw: the distance, in units of the orbit's size."""
    ellipse = 1 - eccentricity * anomaly.cos()
    hyperbola = eccentricity * anomaly.cosh() - 1
    return _by_kind(eccentricity, ellipse, 1 + anomaly.square(), hyperbola)


def anomaly_of(mean: Float[Tensor, "*B"], eccentricity: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """w of mean anomalies: Kepler's equation and its relatives, by bisection and Newton steps."""
    size = mean.abs()
    unbound = torch.minimum(  # e sinh H - H is over (e - 1) sinh H, and over e H³/6
        (size / (eccentricity - 1).clamp_min(1e-300)).asinh(), (6 * size).pow(1 / 3) + 1
    )
    width = _by_kind(eccentricity, eccentricity, (3 * size).pow(1 / 3) + 1, unbound)
    centre = torch.where(eccentricity < 1, mean, 0.0)
    low, high = centre - width, centre + width
    for _ in range(ITERATIONS):
        middle = 0.5 * (low + high)
        above = mean_anomaly(middle, eccentricity) > mean
        high, low = torch.where(above, middle, high), torch.where(above, low, middle)
    anomaly = 0.5 * (low + high)
    for _ in range(2):
        slope = mean_anomaly_slope(anomaly, eccentricity).clamp_min(1e-8)
        anomaly = anomaly - (mean_anomaly(anomaly, eccentricity) - mean) / slope
    return anomaly


def mean_motion(
    eccentricity: Float[Tensor, "*B"], size: Float[Tensor, "*B"], mass: Float[Tensor, "*B"]
) -> Float[Tensor, "*B"]:
    """d(mean anomaly)/dt."""
    return torch.where(eccentricity == 1, mass / 2, mass).sqrt() * size**-1.5


def farthest_anomaly(eccentricity: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """w of the apocentre, and where an unbound orbit is fifty pericentres away."""
    hyperbola = ((1 + REACH * (eccentricity - 1)) / eccentricity.clamp_min(1)).clamp_min(1).acosh()
    whole = torch.full_like(eccentricity, math.pi)
    parabola = torch.full_like(eccentricity, math.sqrt(REACH - 1))
    return _by_kind(eccentricity, whole, parabola, hyperbola)


def relative_motion(
    anomaly: Float[Tensor, "*B"],
    eccentricity: Float[Tensor, "*B"],
    size: Float[Tensor, "*B"],
    mass: Float[Tensor, "*B"],
) -> tuple[Float[Tensor, "*B 2"], Float[Tensor, "*B 2"]]:
    """Position and velocity (..., 2) of the second body from the first; pericentre on +x."""
    e, w = eccentricity, anomaly
    axis = (1 - e.square()).abs().sqrt()
    ellipse = torch.stack((w.cos() - e, axis * w.sin()), dim=-1)
    hyperbola = torch.stack((e - w.cosh(), axis * w.sinh()), dim=-1)
    parabola = torch.stack((1 - w.square(), 2 * w), dim=-1)
    along_ellipse = torch.stack((-w.sin(), axis * w.cos()), dim=-1)
    along_hyperbola = torch.stack((-w.sinh(), axis * w.cosh()), dim=-1)
    along_parabola = torch.stack((-2 * w, torch.full_like(w, 2.0)), dim=-1)
    kind = e.unsqueeze(-1)
    place = _by_kind(kind, ellipse, parabola, hyperbola)
    slope = _by_kind(kind, along_ellipse, along_parabola, along_hyperbola)  # d place / dw
    rate = mean_motion(e, size, mass) / mean_anomaly_slope(w, e)  # dw/dt
    return size.unsqueeze(-1) * place, (size * rate).unsqueeze(-1) * slope


def _by_kind(e: Tensor, ellipse: Tensor, parabola: Tensor, hyperbola: Tensor) -> Tensor:
    return torch.where(e < 1, ellipse, torch.where(e > 1, hyperbola, parabola))
