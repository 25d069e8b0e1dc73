"""One way to integrate a system, tried: seconds, passes, errors.

Legend: N particles.
"""

from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np
from jaxtyping import Float

from nbody.config.stepping_rules import IntegratorName
from nbody.native.engine import NativeRule, NativeSystem, run_natively

SHORT, ROUNDS = 0.05, 3  # seconds of a run that is timed several times; how often
MOST_STEPS = 50_000_000
LOST = 0.5  # relative energy error at which a run is not worth going on


@dataclass(frozen=True)
class Trial:
    """What one run cost and kept.

    Attributes:
        seconds: of one thread, without looks at the energy.
        passes: over all pairs; None where they are not counted.
        error: largest relative energy error; infinite for a run that did not come to its end.
        position: (N, 3) at the end.
    """

    seconds: float
    passes: int | None
    error: float
    position: Float[np.ndarray, "N 3"]


def native_trial(
    system: NativeSystem, integrator: IntegratorName, rule: NativeRule, span: float
) -> Trial:
    """A run of ours, in C: once to look at the energy after every step, and then for its time.

    Raises:
        CompilerMissing, CompilerFailed
    """
    run = partial(run_natively, system, integrator, rule, span, most_steps=MOST_STEPS, lost_at=LOST)
    watched = run()
    if watched.end != "done":
        return Trial(np.inf, watched.passes, np.inf, watched.position)
    seconds = np.inf
    for _ in range(ROUNDS):
        begun = perf_counter()
        run(watched=False)
        seconds = min(seconds, perf_counter() - begun)
        if seconds > SHORT:
            break
    return Trial(seconds, watched.passes, watched.largest_error, watched.position)
