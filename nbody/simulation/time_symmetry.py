"""Steps for time-reversible integration: a step function that is even in time, symmetrized.

With a step that depends on the state alone and not on the direction of time, and is the same seen
from both of its ends, the leapfrog stays reversible: energy errors do not pile up from orbit to
orbit (Hut, Makino & McMillan 1995).

To leading order the energy of such a run is off by ∫ h² c dt, with c h³ the error of one step. For
the fewest steps at a given error, h³ must be inverse to |c|: every step makes the same error, and
such a step is what the network has learned. On the way into an encounter c first has one sign, and
the run's error grows; then it has the other, and the run may go back through zero to as large an
error of the other sign: twice the allowance, and about twice the step.

Legend: T states.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.gravity.free_fall import free_fall_time
from nbody.gravity.vectors import lengths
from nbody.integrators.error_series import FIRST_ORDER, error_series
from nbody.integrators.states import States, concatenate_states
from nbody.stepper import Stepper

LIMIT = 1.5  # of ε^(1/3) Pham-Rein-Spiegel times; more, and jumps of the network's step cost drift
POWER = 6.0  # of the mean of both: close to their minimum, but smooth
RETURN_GAIN = 2.0  # of the step where the run's error returns
SMOOTHING = 0.3  # of c/(dK/dt) in units of 1/t_ff², where that begins
LEADING_ORDER = FIRST_ORDER - 1  # of the integrator whose leading error is known
AT_REST = 1e-3  # of the energy in a free-fall time: less change of K is an apsis


def symmetric_step(rule: Float[Tensor, " B"], previous: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """The step with 1/dt_n + 1/dt_{n-1} = 2/h, h the rule's step (Holder, Leimkuhler & Reich 2001).

    Steps stay within a factor 2 of the rule.
    """
    step = 1 / (2 / rule - 1 / previous)
    return torch.where(step > 0, step, 2 * rule).clamp(0.5 * rule, 2 * rule)


def time_even_step(stepper: Stepper, states: States) -> Float[Tensor, " T"]:
    """The stepper's dt (T,), made even in time and smooth, and longer where the error returns.

    h^-6 = (g² dt(x, v) dt(x, -v))^-3 + (1.5 ε^(1/(p+1)) τ)^-6, with ε the threshold, p the order of
    the integrator and τ the time of Pham, Rein & Spiegel (2024) of each body's force relative to
    its neighbour's, which takes over where the leading error vanishes and the network's step grows
    without bound; g goes smoothly from 1 to 2. Where each body counts it is 1: their errors do not
    return together; and for higher orders, whose leading error is not known in closed form.
    """
    both = concatenate_states([states, states.reversed()])
    forth, back = stepper.of_states(both).chunk(2)
    gain: Tensor | float = 1.0
    if states.gate == "energy" and states.integrator.method.order == LEADING_ORDER:
        gain = RETURN_GAIN ** (1 - _growth(states))
    limit = LIMIT * stepper.threshold_of(states) ** states.threshold_power * orbital_time(states)
    return ((gain * forth * back) ** (-POWER / 2) + limit**-POWER) ** (-1 / POWER)


def _growth(states: States) -> Tensor:
    """1 where the energy error of a run grows towards an encounter, -1 where it returns: (T,).

    c and dK/dt change sign with the direction of time; their ratio does not.
    """
    unit = free_fall_time(states.position, states.mass, states.softening)
    error = error_series(states, unit, FIRST_ORDER)[..., 0]
    force = states.mass.unsqueeze(-1) * states.acceleration
    heating = (force * states.velocity).sum((-1, -2)) * unit
    ratio = error * heating / (heating.square() + (AT_REST * states.scale).square())
    return ratio / (ratio.square() + SMOOTHING**2).sqrt()


def orbital_time(states: States) -> Float[Tensor, "*T"]:
    """sqrt(2) |A| / sqrt(|J|² + |A||S|), the least over the bodies, of the acceleration A of each
    body relative to the neighbour that dominates it, J and S its derivatives.

    The time of Pham, Rein & Spiegel (2024) takes the body's own acceleration, which vanishes in the
    middle of a figure-eight though nothing is at rest there.
    """
    orbits = states.orbits()
    a, j, s = (lengths(orbits.to_neighbour(term)) for term in states.path()[:3])
    return (2 * a.square() / (j.square() + a * s)).sqrt().amin(-1)
