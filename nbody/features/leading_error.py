"""Features of what a Hermite step leaves behind, sums over the bodies: no pass over the pairs.

The leading term of the step's energy error, C h^5, is known from there (`Hermite.leading_error`).
Where it alone would reach the threshold is a step by itself, bounded by the times on which the
bodies' accelerations change; the network learns what the term leaves out.

Legend: ... any leading axes (systems), N particles, D dimensions, F features.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.gravity.invariants import centre_of_mass
from nbody.gravity.vectors import dot, total
from nbody.integrators.states import States

STEEPNESS = 8.0  # of the soft minimum over the bodies
LONGEST = 12.0  # times threshold^(1/5) of the bodies' time: where the leading term vanishes
SHARPNESS = 6.0  # with which that bound takes over
TINY = 1e-300
LEAST_SHARE = 1e-12  # of a derivative, for those that vanish


def leading_error_features(
    states: States, threshold: Float[Tensor, "..."] | float
) -> Float[Tensor, "*B F"]:
    """Scale-, rotation-, permutation- and boost-invariant features, (..., 17); the last is ln
    t_ref.

    With u = (Σ_i τ_i^-8)^(-1/8) of the times τ_i of Aarseth (1985), q = u^5/(720 ε E) of the
    threshold ε and the energy scale E, and derivatives a, j, s, c, f of each acceleration, they are
    the terms of the leading error in units of the threshold, q Σ m v·f, 30 q Σ m j·s, q Σ m a·c,
    what they sum up to, x, and how the last two change, q u Σ m (s² + j·c), q u Σ m (j·c + a·f), as
    asinh; the shape of the motion of the bodies that decide, averaged with the weights τ_i^-8:
    logarithms of |j|u/|a|, |s|u²/|a|, |c|u³/|a| and cosines between a and j, a and s, j and s; how
    many these bodies are; ln ε, ln N and ln K/E. t_ref is u (|x|^(6/5) + κ^-6)^(-1/6), with κ = 12
    ε^(1/5).

    Args:
        threshold: of the relative energy error, one number or (...,).
    """
    a, j, s, c, f = states.path()
    mass, velocity = states.mass, states.velocity
    if states.field is None:
        velocity = velocity - centre_of_mass(velocity, mass)
    epsilon = torch.as_tensor(threshold).to(states.energy).expand(states.energy.shape)
    sizes = [dot(term, term).clamp_min(TINY) for term in (a, j, s, c)]  # squares, (..., N)
    a2, j2, s2, c2 = sizes
    log_times = 0.5 * (
        ((a2 * s2).sqrt() + j2).log() - ((j2 * c2).sqrt() + s2).log()  # ln τ_i
    )
    log_weights = -STEEPNESS * log_times
    log_sum = log_weights.logsumexp(-1)
    log_unit = -log_sum / STEEPNESS
    weights = (log_weights - log_sum.unsqueeze(-1)).exp()  # (..., N), of sum one
    unit = log_unit.exp()
    q = unit**5 / (720 * epsilon * states.scale.clamp_min(TINY))

    def summed(values: Tensor) -> Tensor:
        return q * total(mass * values, -1)

    def mean(values: Tensor) -> Tensor:
        return total(weights * values, -1)

    first, middle, last = summed(dot(velocity, f)), 30 * summed(dot(j, s)), summed(dot(a, c))
    whole = first + middle - last
    rates = unit * summed(s2 + dot(j, c)), unit * summed(dot(j, c) + dot(a, f))
    logs = [
        mean(0.5 * (square / unit.unsqueeze(-1) ** (-2 * k) / a2).clamp_min(LEAST_SHARE).log())
        for k, square in enumerate((j2, s2, c2), start=1)
    ]
    cosines = [
        mean(dot(one, other) / (first2 * second2).sqrt().clamp_min(TINY))
        for one, other, first2, second2 in ((a, j, a2, j2), (a, s, a2, s2), (j, s, j2, s2))
    ]
    bound = (LONGEST * epsilon**0.2) ** -SHARPNESS
    log_reference = log_unit - (whole.abs() ** (SHARPNESS / 5) + bound).log() / SHARPNESS
    kinetic = 0.5 * total(mass * dot(velocity, velocity), -1)
    columns = [
        *(value.asinh() for value in (first, middle, last, whole, *rates)),
        *logs,
        *cosines,
        -weights.square().sum(-1).log(),
        epsilon.log(),
        torch.full_like(epsilon, math.log(mass.shape[-1])),
        (kinetic / states.scale.clamp_min(TINY)).clamp_min(LEAST_SHARE).log(),
        log_reference,
    ]
    return torch.stack(columns, dim=-1)
