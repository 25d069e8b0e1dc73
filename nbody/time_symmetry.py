"""Steps for time-reversible integration: a step function that is even in time, symmetrized.

With a step that depends on the state alone and not on the direction of time, and is the same seen
from both of its ends, the leapfrog stays reversible: energy errors do not pile up from orbit to
orbit (Hut, Makino & McMillan 1995).

Legend: T states.
"""

from dataclasses import replace

import torch
from torch import Tensor

from nbody.features import free_fall_time
from nbody.states import States
from nbody.stepper import Stepper

FREE_FALL_SHARE = 0.5  # more, and the network's own jumps cost more than its longer steps gain
POWER = 6.0  # of the mean over both directions: close to their minimum, but smooth


def symmetric_step(rule: Tensor, previous: Tensor) -> Tensor:
    """The step with 1/dt_n + 1/dt_{n-1} = 2/h, h the rule's step (Holder, Leimkuhler & Reich 2001).

    Steps stay within a factor 2 of the rule.
    """
    step = 1 / (2 / rule - 1 / previous)
    return torch.where(step > 0, step, 2 * rule).clamp(0.5 * rule, 2 * rule)


def time_even_step(stepper: Stepper, states: States) -> Tensor:
    """The stepper's dt (T,), made even in time and smooth.

    dt* is a step of equal energy error, which to leading order is what costs the fewest steps for
    a given energy error of a reversible run; but it grows without bound where the error's leading
    term changes sign, at the apsides of an orbit and twice between them. There the free-fall time
    takes over: h^-6 = (dt(x, v)^-6 + dt(x, -v)^-6) / 2 + (ε^(1/3) t_ff / 2)^-6, ε the threshold.
    """
    backward = replace(states, velocity=-states.velocity)
    forth, back = (stepper.of_states(there) for there in (states, backward))
    limit = FREE_FALL_SHARE * stepper.threshold_of(states) ** (1 / 3)
    free_fall = limit * free_fall_time(states.position, states.mass, states.softening)
    total = 0.5 * (forth**-POWER + back**-POWER) + free_fall**-POWER
    return total ** (-1 / POWER)
