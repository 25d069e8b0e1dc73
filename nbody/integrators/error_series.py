"""How the energy error of one kick-drift-kick step grows with the step: a power series of dt.

The drift moves the particles along the parabola x + v h + a h²/2, exactly. With the series
Σ A_k h^k of the acceleration along that parabola (A_0 = a, A_1 the jerk, A_2 half the snap), the
step changes the energy by

    ΔH(h) = Σ_k c_k h^k,
    c_k = Σ_i m_i [(1/2 - 1/k)(v·A_{k-1} + a·A_{k-2}) + 1/8 Σ_{l=1}^{k-3} A_l·A_{k-2-l}],  k ≥ 3:

the kicks add h/2 v·(a + A) + h²/8 |a + A|² to the kinetic energy of a unit mass, and the
potential's change is -∫ A·(v + a h) dh. All of it is sums over the pairs of the present state; no
force at another position is needed. Under time reversal c_k changes sign with (-1)^k.

Legend: ... any leading axes (systems), N particles, D dimensions. G = 1.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.gravity.invariants import centre_of_mass
from nbody.integrators.force_series import acceleration_series
from nbody.integrators.states import States

FIRST_ORDER = 3  # of ΔH: the leapfrog's local error
LAST_ORDER = 6
ORDERS = LAST_ORDER - FIRST_ORDER + 1


def error_series(
    states: States, time_unit: Float[Tensor, "*B"], last_order: int = LAST_ORDER
) -> Float[Tensor, "*B K"]:
    """c_k u^k (..., last_order - 2) for k = 3 to `last_order`, energies: the series of ΔH(x u).

    Args:
        states: leading axes of any shape.
        time_unit: u (...,); a time near the step keeps every coefficient of moderate size.
    """
    unit, mass, velocity = time_unit[..., None, None], states.mass, states.velocity
    if states.field is None:
        velocity = velocity - centre_of_mass(velocity, mass)
    path = [states.position, velocity * unit, 0.5 * states.acceleration * unit.square()]
    series = acceleration_series(path, mass, states.softening, states.field, last_order - 1)
    weighted = mass.unsqueeze(-1) * series  # (K, ..., N, D): m A_k u^k
    along = (weighted[2:] * path[1]).sum((-1, -2))  # (K - 2, ...): m v·A_k u^{k+1}, k >= 2
    against = (weighted[1:-1] * (2 * path[2])).sum((-1, -2))  # m a·A_k u^{k+2}, k >= 1
    orders = range(FIRST_ORDER, last_order + 1)
    both = zip(orders, (along + against).unbind(), strict=True)
    coefficients = [(0.5 - 1 / k) * term for k, term in both]
    eighth = 0.125 * time_unit.square()
    for place, k in enumerate(orders):
        for i in range(1, k // 2):  # A_l·A_m is there twice, unless l = m
            product = (weighted[i] * series[k - 2 - i]).sum((-1, -2))
            twice = 1.0 if 2 * i == k - 2 else 2.0
            coefficients[place] = coefficients[place].addcmul(eighth, product, value=twice)
    return torch.stack(coefficients, dim=-1)
