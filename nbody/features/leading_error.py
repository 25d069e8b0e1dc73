"""Features of what a Hermite step leaves behind, sums over the bodies: no pass over the pairs.

The leading term of the step's energy error, C h^5, is known from there (`Hermite.leading_error`).
Where it alone would reach the threshold is a step by itself, bounded by the times on which the
bodies' accelerations change; the network learns what the term leaves out.

Legend: ... any leading axes (systems), N particles, D dimensions, F features.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.gravity.invariants import centre_of_mass
from nbody.gravity.vectors import as_like, dot, total
from nbody.integrators.states import States

STEEPNESS = 8.0  # of the soft minimum over the bodies: w_i = τ_i^-8
LONGEST = 12.0  # times threshold^(1/5) of the bodies' time: where the leading term vanishes
SHARPNESS = 6.0  # with which that bound takes over
AHEAD = 0.5  # of the step: where the bodies' time is taken
STEEPEST = 0.5  # change of that time in a step that is believed
TINY = 1e-300


def leading_error_features(
    states: States, threshold: Float[Tensor, "..."] | float
) -> Float[Tensor, "*B F"]:
    """Scale-, rotation-, permutation- and boost-invariant features, (..., 15); the last is ln
    t_ref.

    With u = (Σ_i τ_i^-8)^(-1/8) of the times τ_i of Aarseth (1985), q = u^5/(720 ε E) of the
    threshold ε and the energy scale E, and derivatives a, j, s, c, f of each acceleration, they are
    the leading error in units of the threshold, x = q Σ m (v·f + 30 j·s - a·c), its second and
    third term, and how these change, 30 q u Σ m (s² + j·c), q u Σ m (j·c + a·f), as asinh; the
    shape of the motion of the bodies that decide, from sums with the weights τ_i^-8: ln |j|u/|a|,
    ln |s|u²/|a|, ln |c|u³/|a|, and cosines between a and j, a and s, j and s; how many these
    bodies are; ln ε; and by how much u changes in a step, ρ.

    The step is h = u (|x|^(6/5) + κ^-6)^(-1/6), with κ = 12 ε^(1/5), and t_ref = h/(1 - ρ/2), with
    ρ = h d ln u/dt within ±1/2: h as it will be in the middle of the step, so that steps into an
    encounter and out of it are the same.

    Args:
        threshold: of the relative energy error, one number or (...,).
    """
    a, j, s, c, f = states.path()
    mass, velocity = states.mass, states.velocity
    if states.field is None:
        velocity = velocity - centre_of_mass(velocity, mass)
    epsilon = as_like(threshold, states.energy).expand(states.energy.shape)
    a2, j2, s2, c2 = (dot(term, term) + TINY for term in (a, j, s, c))  # (..., N)
    aj, a_s, ac, js, jc = dot(a, j), dot(a, s), dot(a, c), dot(j, s), dot(j, c)
    sc, cf, af = dot(s, c), dot(c, f), dot(a, f)
    outer, inner = (a2 * s2).sqrt(), (j2 * c2).sqrt()
    above, below = outer + j2, inner + s2  # of τ²
    rise = (aj * s2 + sc * a2) / outer + 2 * js
    fall = (js * c2 + cf * j2) / inner + 2 * sc
    log_weights = STEEPNESS / 2 * (below.log() - above.log())
    log_sum = log_weights.logsumexp(-1)
    unit = (-log_sum / STEEPNESS).exp()  # u
    weights = (log_weights - log_sum.unsqueeze(-1)).exp()  # (..., N), of sum one
    q = unit**5 / (720 * epsilon * states.scale.clamp_min(TINY))

    def summed(values: Tensor) -> Tensor:
        return q * total(mass * values, -1)

    def mean(values: Tensor) -> Tensor:
        return total(weights * values, -1)

    middle, last = 30 * summed(js), summed(ac)
    whole = summed(dot(velocity, f)) + middle - last
    bound = (LONGEST * epsilon**0.2) ** -SHARPNESS
    step = unit * (whole.abs() ** (SHARPNESS / 5) + bound) ** (-1 / SHARPNESS)
    rate = step * mean(0.5 * (rise / above - fall / below))
    rate = rate.clamp(-STEEPEST, STEEPEST)
    decides = [mean(square) for square in (a2, j2, s2, c2)]
    columns = [
        *(whole.asinh(), middle.asinh(), last.asinh()),
        *((30 * unit * summed(s2 + jc)).asinh(), (unit * summed(jc + af)).asinh()),
        *(0.5 * (unit ** (2 * k) * decides[k] / decides[0]).log() for k in (1, 2, 3)),
        mean(aj) / (decides[0] * decides[1]).sqrt(),
        mean(a_s) / (decides[0] * decides[2]).sqrt(),
        mean(js) / (decides[1] * decides[2]).sqrt(),
        -weights.square().sum(-1).log(),
        epsilon.log(),
        rate,
        step.log() - torch.log1p(-AHEAD * rate),
    ]
    return torch.stack(columns, dim=-1)
