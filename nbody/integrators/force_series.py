"""Taylor series of the force along a path that is a polynomial of time.

Legend: ... any leading axes (systems), N particles, D dimensions, K = order + 1 coefficients,
E edges. G = 1.

The square of a separation that is a polynomial of time is one, too, and a power y = q^a of a
polynomial q obeys y' q = a q' y, from which its coefficients follow one by one (Knuth, The Art of
Computer Programming, vol. 2, §4.7).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.gravity.edges import edges_of, squared_lengths
from nbody.gravity.external_field import PointMassTidalField, TidalField, perturbers
from nbody.gravity.vectors import dot, lengths

INVERSE_CUBE = -1.5  # the power of s² in s / |s|³


def inverse_square_series(
    separation: Sequence[Float[Tensor, " D *B"]], squared: Float[Tensor, "*B"], order: int
) -> Float[Tensor, "K D *B"]:
    """Coefficients 0 to `order` (K, D, ...) of s(t) / (s(t)² + ε²)^{3/2}.

    Args:
        separation: coefficients of s(t), planes (D, ...) each.
        squared: s(0)² + ε², (...), not zero.
    """
    degree = len(separation) - 1
    relative: list[Tensor] = []  # coefficients of (s² + ε²) / (s(0)² + ε²), each (...)
    for k in range(1, 2 * degree + 1):
        pairs = [(i, k - i) for i in range(max(0, k - degree), k // 2 + 1)]
        products = [
            (2.0 if i < j else 1.0) * dot(separation[i], separation[j], dim=0) for i, j in pairs
        ]
        relative.append(sum(products[1:], products[0]) / squared)
    powers = [squared**INVERSE_CUBE]
    for n in range(1, order + 1):
        total = torch.zeros_like(squared)
        for k in range(1, min(n, 2 * degree) + 1):
            factor = (INVERSE_CUBE * k - (n - k)) / n
            total = total.addcmul(relative[k - 1], powers[n - k], value=factor)
        powers.append(total)
    terms: list[Tensor] = []
    for n in range(order + 1):
        term = powers[n] * separation[0]
        for k in range(1, min(n, degree) + 1):
            term = term.addcmul(powers[n - k], separation[k])
        terms.append(term)
    return torch.stack(terms)


def acceleration_series(
    path: Sequence[Float[Tensor, "*B N D"]],
    mass: Float[Tensor, "*#B N"],
    softening: float,
    field: TidalField | None,
    order: int,
) -> Float[Tensor, "K *B N D"]:
    """Coefficients (K, ..., N, D) of the accelerations at positions that move along `path`.

    Args:
        path: coefficients of the positions, each (..., N, D): positions, velocities, …
    """
    mass = mass.expand(path[0].shape[:-1])
    parts: list[Tensor] = []
    for edges in edges_of(path[0]):
        differences = edges.difference(torch.cat([*path], dim=-1))
        separation = differences.chunk(len(path))  # (D, ..., E) each
        squared = squared_lengths(edges, separation[0], softening)
        series = inverse_square_series(separation, squared, order)
        parts.append(edges.pull(series.flatten(0, 1), mass))  # (..., N, K D)
    whole = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)
    total = torch.stack(whole.chunk(order + 1, dim=-1))
    for member in () if field is None else perturbers(field):
        total = total + _field_series(path, member, order)
    return total


def _field_series(path: Sequence[Tensor], field: PointMassTidalField, order: int) -> Tensor:
    from_origin = field.origin_to_perturber(path[0])  # (D,)
    separation = [from_origin - path[0], *(-part for part in path[1:])]
    planes = [part.movedim(-1, 0) for part in separation]
    series = inverse_square_series(planes, dot(planes[0], planes[0], dim=0), order).movedim(1, -1)
    pull_on_origin = from_origin / lengths(from_origin) ** 3
    return field.mass * torch.cat((series[:1] - pull_on_origin, series[1:]))
