"""Taylor series of the force along a path that is a polynomial of time.

Legend: ... any leading axes (systems), N particles, D dimensions. G = 1.

The square of a separation that is a polynomial of time is one, too, and a power y = q^a of a
polynomial q obeys y' q = a q' y, from which its coefficients follow one by one (Knuth, The Art of
Computer Programming, vol. 2, §4.7).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.gravity.edges import edges_of, squared_distance_floor
from nbody.gravity.external_field import PointMassTidalField, TidalField, perturbers

INVERSE_CUBE = -1.5  # the power of s² in s / |s|³


def inverse_square_series(
    separation: Sequence[Float[Tensor, "*B D"]], squared: Float[Tensor, "*B"], order: int
) -> list[Float[Tensor, "*B D"]]:
    """Coefficients 0 to `order`, each (..., D), of s(t) / (s(t)² + ε²)^{3/2}.

    Args:
        separation: coefficients of s(t), each (..., D).
        squared: s(0)² + ε², (...,), not zero.
    """
    degree = len(separation) - 1
    relative: list[Tensor] = []  # coefficients of (s² + ε²) / (s(0)² + ε²), each (...,)
    for k in range(1, 2 * degree + 1):
        products = [
            (1.0 if i == k - i else 2.0) * (separation[i] * separation[k - i]).sum(-1)
            for i in range(max(0, k - degree), k // 2 + 1)
        ]
        relative.append(sum(products[1:], products[0]) / squared)
    powers = [squared**INVERSE_CUBE]
    for n in range(1, order + 1):
        total = torch.zeros_like(squared)
        for k in range(1, min(n, 2 * degree) + 1):
            factor = (INVERSE_CUBE * k - (n - k)) / n
            total = total.addcmul(relative[k - 1], powers[n - k], value=factor)
        powers.append(total)
    return [
        sum(
            (powers[n - k].unsqueeze(-1) * separation[k] for k in range(1, min(n, degree) + 1)),
            powers[n].unsqueeze(-1) * separation[0],
        )
        for n in range(order + 1)
    ]


def acceleration_series(
    path: Sequence[Float[Tensor, "*B N D"]],
    mass: Float[Tensor, "*#B N"],
    softening: float,
    field: TidalField | None,
    order: int,
) -> Float[Tensor, "K *B N D"]:
    """Coefficients (order + 1, ..., N, D) of the accelerations at positions that move along `path`.

    Args:
        path: coefficients of the positions, each (..., N, D): positions, velocities, …
    """
    edges = edges_of(path[0].shape[-2], path[0].dtype, path[0].device)
    separation = [edges.difference(part) for part in path]
    floor = squared_distance_floor(path[0].dtype)
    squared = edges.squared(separation[0], softening, floor)
    series = torch.stack(
        inverse_square_series(separation, squared, order)
    )  # (order + 1, ..., E, D)
    total = edges.pull(series, mass)
    for member in () if field is None else perturbers(field):
        total = total + _field_series(path, member, order)
    return total


def _field_series(path: Sequence[Tensor], field: PointMassTidalField, order: int) -> Tensor:
    from_origin = field.origin_to_perturber(path[0])  # (D,)
    separation = [from_origin - path[0], *(-part for part in path[1:])]
    squared = separation[0].square().sum(-1)
    series = torch.stack(inverse_square_series(separation, squared, order))
    series[0] -= from_origin / torch.linalg.vector_norm(from_origin) ** 3
    return field.mass * series
