"""What a stepper's call costs beside the force that a longer step saves: wall time."""

import time
from collections.abc import Callable
from statistics import median

import torch

from nbody.gravity.force import pairwise
from nbody.integrators.states import States
from nbody.stepper import Stepper

BATCH = 256  # systems at once
ROUNDS = 31  # of which the median counts: other processes take their share of some


def wall_times(stepper: Stepper, states: States) -> dict[str, float]:
    """Seconds of one call and of one force: of one system, and of each of up to 256 at once.

    A call is what a simulation asks at every step: features and network, of states whose forces are
    known. Both are timed by turns.

    Args:
        states: of the population, on the stepper's device.
    """
    batch = min(BATCH, len(states))
    every = torch.arange(batch, device=states.energy.device)
    stepper_s, force_s = _by_turns(stepper, states.take(every[:1]))
    stepper_batch_s, force_batch_s = _by_turns(stepper, states.take(every))
    return {
        "stepper_s": stepper_s,
        "force_s": force_s,
        "batch": batch,
        "stepper_batch_s": stepper_batch_s / batch,
        "force_batch_s": force_batch_s / batch,
    }


def _by_turns(stepper: Stepper, states: States) -> tuple[float, float]:
    def call() -> object:
        return stepper.of_states(states, network_alone=True)

    def force() -> object:
        return pairwise(states.position, states.mass, states.softening, states.field)

    for first in (call, force):  # which takes longer
        first()
    pairs = [(_seconds(call, states), _seconds(force, states)) for _ in range(ROUNDS)]
    calls, forces = zip(*pairs, strict=True)
    return median(calls), median(forces)


def _seconds(work: Callable[[], object], states: States) -> float:
    began = time.perf_counter()
    work()
    if states.energy.is_cuda:
        torch.cuda.synchronize(states.energy.device)
    return time.perf_counter() - began
