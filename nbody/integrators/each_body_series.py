"""How the error of each body's orbit grows with the step: power series of dt.

As `error_series` for the total energy, here for the specific energy of each body and its neighbour
(`each_body`). With the relative acceleration Σ A_k h^k along the step's parabola, the part G_k of
it that the pair gives itself, P = A - G that of the others, and the true speed Σ V_l t^l (V_0 = v,
V_l = A_{l-1}/l), a step changes ε beyond the others' work by Σ_n c_n h^n,

    c_n = 1/2 (v·A_{n-1} + A_0·A_{n-2}) + 1/8 Σ_{l+m=n-2} A_l·A_m
          - (v·G_{n-1} + A_0·G_{n-2})/n - Σ_{l+k=n-1} V_l·P_k/n,        n ≥ 3.

The others' work is exact to n = 4; beyond, it is that along the parabola. Without others it is the
series of the total energy. Of the vector of eccentricity the leading term is taken, which the
leading errors -A_1/6 of the position and A_2/6 of the velocity make.

Legend: ... any leading axes (systems), N particles, D dimensions, K coefficients. G = 1.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.gravity.vectors import dot, lengths
from nbody.integrators.each_body import Orbits
from nbody.integrators.error_series import FIRST_ORDER, LAST_ORDER
from nbody.integrators.force_series import acceleration_series, inverse_square_series
from nbody.integrators.states import States


def each_body_series(
    states: States, orbits: Orbits, time_unit: Float[Tensor, "*B"]
) -> Float[Tensor, "... K"]:
    """c_n u^n (..., 2N, K) for n = 3 to 6: of the specific energies of N bodies, and of their
    eccentricities."""
    unit = time_unit[..., None, None]
    path = [states.position, states.velocity * unit, 0.5 * states.acceleration * unit.square()]
    whole = (
        acceleration_series(path, states.mass, states.softening, states.field, LAST_ORDER - 1)
        * unit.square()
    )  # (K, ..., N, D): A_k u^(k+2)
    pull = [orbits.to_neighbour(term) for term in whole.unbind()]
    separation, speed, half = (orbits.to_neighbour(term) for term in path)
    strength = -(orbits.pair_mass().unsqueeze(-1) * unit.square())
    squared = orbits.squared(separation)
    planes = [part.movedim(-1, 0) for part in (separation, speed, half)]
    pair = inverse_square_series(planes, squared, LAST_ORDER - 1).movedim(1, -1)
    own = [strength * term for term in pair.unbind()]  # G_k u^(k+2)
    others = [total - part for total, part in zip(pull, own, strict=True)]
    speeds = [speed, *(term / (k + 1) for k, term in enumerate(pull))]
    terms: list[Tensor] = []
    for n in range(FIRST_ORDER, LAST_ORDER + 1):
        total = dot(speed, 0.5 * pull[n - 1] - own[n - 1] / n)
        total = total + dot(pull[0], 0.5 * pull[n - 2] - own[n - 2] / n)
        for k in range(1, n - 2):
            total = total + 0.125 * dot(pull[k], pull[n - 2 - k])
        for k in range(n):
            total = total - dot(speeds[n - 1 - k], others[k]) / n
        terms.append(total / time_unit[..., None].square())
    sizes = torch.stack(terms, dim=-1)
    turned = _leading_turn(orbits, separation, speed, pull, time_unit)
    shapes = torch.nn.functional.pad(turned.unsqueeze(-1), (0, sizes.shape[-1] - 1))
    return torch.cat((sizes, shapes), dim=-2)


def _leading_turn(
    orbits: Orbits, separation: Tensor, speed: Tensor, pull: list[Tensor], time_unit: Tensor
) -> Tensor:
    """|c_3| u³ (..., N) of the vectors of eccentricity."""
    unit = time_unit[..., None, None]
    velocity, strength = speed / unit, orbits.pair_mass().unsqueeze(-1)
    strength = torch.where(strength > 0, strength, torch.inf)
    moved, kicked = -pull[1] / 6, pull[2] / (6 * unit)  # of x and v, times u³
    squared = orbits.squared(separation, 0.0).unsqueeze(-1)
    away = strength / squared.sqrt()

    def product(one: Tensor, other: Tensor) -> Tensor:
        return dot(one, other).unsqueeze(-1)

    turned = 2 * product(velocity, kicked) * separation
    turned = turned + (product(velocity, velocity) - away) * moved
    turned = turned + away / squared * product(separation, moved) * separation
    turned = turned - (product(moved, velocity) + product(separation, kicked)) * velocity
    turned = turned - product(separation, velocity) * kicked
    return lengths((turned / strength).nan_to_num(0.0))
