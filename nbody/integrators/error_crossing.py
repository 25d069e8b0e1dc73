"""Where a step's error series first reaches the threshold, and how sure that is.

Legend: ... any leading axes (systems), K = 4 coefficients, of orders 3 to 6.

Close to the places where a hump of the error just touches the threshold, the largest safe step
jumps. The series knows where its humps are; how high they are says how near such a place is.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.integrators.error_series import FIRST_ORDER, LAST_ORDER

FARTHEST = 4.0  # step that is looked at, in units of the least single-term crossing
LEAST_LEADING = 1e-6  # coefficient of a cubic: its lost root lies far outside
SECTIONS, ROUNDS, POLISHES = 8, 3, 2  # of a bracket; then steps of Newton's method
NEAREST = 0.02  # hump that is told from one nearer to zero, in units of the crossing
TALLEST = 20.0  # hump that is told from a taller one
NEARNESS = 1e-3  # of a hump to the threshold that is told from a nearer one
TINY = 1e-30


class Crossing(NamedTuple):
    """The first crossing of |Σ c_k h^k| = threshold."""

    log_step: Float[Tensor, "*B"]  # ln h, in the time unit of the coefficients
    features: Float[Tensor, "*B F"]  # dimensionless, of order one


def crossing_of(coefficients: Float[Tensor, "*B K"], threshold: Float[Tensor, "*B"]) -> Crossing:
    """The crossing of series (..., K) at thresholds (...,), in the units of the coefficients.

    The features are: the coefficients, scaled so that the largest is ±1 where its term alone would
    cross; ln of the crossing in the unit of that scaling; ln of the crossing without the last term
    over the one with it; height and nearness to the threshold of the highest hump before the
    crossing, and where it is; nearness and place of the first hump after it.
    """
    orders = _orders(coefficients.device)
    size = (coefficients.double().abs() / threshold.double().unsqueeze(-1)).clamp_min(TINY).log()
    single = -size / orders  # (..., K) ln of the step at which each term alone crosses
    log_unit = single.amin(-1)  # (...,)
    scaled = coefficients.sign() * (size + orders * log_unit.unsqueeze(-1)).exp()
    without_last = torch.cat((scaled[..., :-1], torch.zeros_like(scaled[..., -1:])), dim=-1)
    both = torch.stack((scaled, without_last))  # (2, ..., K)
    humps = _humps(both)  # (2, ..., 3), ascending
    steps = _first_crossing(both, humps)  # (2, ...)
    step, shorter = steps
    features = torch.stack(
        [
            *scaled.unbind(-1),
            step.log(),
            (shorter / step).log(),
            *_hump_features(scaled, humps[0], step),
        ],
        dim=-1,
    )
    dtype = coefficients.dtype
    return Crossing((log_unit + step.log()).to(dtype), features.to(dtype))


def _orders(device: torch.device) -> Tensor:
    return torch.arange(FIRST_ORDER, LAST_ORDER + 1, dtype=torch.float64, device=device)


def _polynomial(scaled: Tensor, steps: Tensor) -> Tensor:
    """Σ b_k x^k (..., X) of coefficients (..., K) at steps (..., X)."""
    total = scaled[..., -1:].expand_as(steps)
    for k in range(scaled.shape[-1] - 2, -1, -1):
        total = torch.addcmul(scaled[..., k : k + 1], total, steps)
    return total * steps * steps * steps


def _humps(scaled: Tensor) -> Tensor:
    """Where the series is stationary, (..., 3), ascending; FARTHEST in place of what is not there.

    The derivative is x² times a cubic; its roots are found in closed form (Press et al., Numerical
    Recipes, §5.6).
    """
    constant, linear, square, cube = (scaled * _orders(scaled.device)).unbind(-1)
    cube = torch.where(cube < 0, -1.0, 1.0) * cube.abs().clamp_min(LEAST_LEADING)
    a, b, c = square / cube, linear / cube, constant / cube
    q = (a * a - 3 * b) / 9
    r = (2 * a * a * a - 9 * a * b + 27 * c) / 54
    three = r * r < q * q * q
    root = q.clamp_min(TINY).sqrt()
    angle = (r / (root * root * root)).clamp(-1, 1).acos() / 3
    turns = 2 * math.pi / 3 * torch.arange(-1, 2, dtype=a.dtype, device=a.device)
    all_real = -2 * root.unsqueeze(-1) * (angle.unsqueeze(-1) + turns).cos()
    s = -r.sign() * (r.abs() + (r * r - q * q * q).clamp_min(0).sqrt()).pow(1 / 3)
    t = torch.where(s == 0, 0.0, q / torch.where(s == 0, 1.0, s))
    one_real = torch.stack((s + t, *(torch.full_like(s, torch.inf),) * 2), dim=-1)
    found = torch.where(three.unsqueeze(-1), all_real, one_real) - a.unsqueeze(-1) / 3
    inside = (found > 0) & (found < FARTHEST)
    return torch.where(inside, found, FARTHEST).sort(-1).values


def _first_crossing(scaled: Tensor, humps: Tensor) -> Tensor:
    """The first x (...,) where the series is ±1, or FARTHEST: between humps it is monotone."""
    ends = torch.nn.functional.pad(humps, (0, 1), value=FARTHEST)  # (..., 4)
    heights = _polynomial(scaled, ends)
    crossed = heights.abs() >= 1
    place = torch.where(crossed.any(-1), crossed.int().argmax(-1), ends.shape[-1] - 1).unsqueeze(-1)
    starts = torch.nn.functional.pad(ends[..., :-1], (1, 0))
    low, high = starts.gather(-1, place), ends.gather(-1, place)  # (..., 1)
    side = heights.gather(-1, place).sign()
    share = torch.arange(SECTIONS + 1, dtype=scaled.dtype, device=scaled.device) / SECTIONS
    for _ in range(ROUNDS):
        steps = torch.lerp(low, high, share)
        past = _polynomial(scaled, steps) * side >= 1
        past.select(-1, -1).fill_(True)
        first = past.int().argmax(-1, keepdim=True).clamp_min(1)
        low, high = steps.gather(-1, first - 1), steps.gather(-1, first)
    step, slopes = 0.5 * (low + high), scaled * _orders(scaled.device)  # of x d/dx
    for _ in range(POLISHES):
        excess = _polynomial(scaled, step) - side
        slope = _polynomial(slopes, step) / step
        step = (step - excess / torch.where(slope == 0, torch.inf, slope)).clamp(low, high)
    return step.squeeze(-1)


def _hump_features(
    scaled: Tensor, humps: Tensor, step: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    heights = _polynomial(scaled, humps).abs()  # (..., 3)
    crossing = step.unsqueeze(-1)
    before = torch.where(humps < crossing, heights, 0.0)
    height, where = before.max(-1)
    there = torch.where(height > 0, humps.gather(-1, where.unsqueeze(-1)).squeeze(-1), step)
    later = torch.where((humps > crossing) & (humps < FARTHEST), humps, torch.inf)
    next_there, next_one = later.min(-1)
    next_height = heights.gather(-1, next_one.unsqueeze(-1)).squeeze(-1)
    exists = next_there.isfinite()
    next_height = torch.where(exists, next_height, TALLEST).clamp(1.0, TALLEST)
    next_place = (next_there / step).log().clamp_max(math.log(FARTHEST))
    return (
        height,
        _nearness(1 - height),
        (there / step).clamp_min(NEAREST).log(),
        _nearness(next_height - 1),
        next_place,
    )


def _nearness(gap: Tensor) -> Tensor:
    """About 1 for a hump that touches the threshold, 0 for one far from it."""
    return -(gap.clamp_min(0) + NEARNESS).log() / math.log(1 / NEARNESS)
