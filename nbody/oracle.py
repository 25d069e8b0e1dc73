"""The oracle: the largest step before a state's energy error first reaches the threshold.

Legend: T states, C trial steps.

dt* is the *first* crossing of e(dt) = threshold. A larger step can pass again: an inbound Kepler
state has an isolated large step that conserves energy exactly by symmetry, and it is of no use.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from nbody.features import free_fall_time
from nbody.trajectory import States

START = 1e-4  # of the free-fall time
FINE = 1.02  # ratio of successive trial steps
COARSE_EVERY = 8  # fine steps in one coarse step
FAR_BELOW = 1 / 30  # of the threshold: coarse steps suffice while the error is below this
LARGEST = 1e6  # of the free-fall time: steps beyond are not looked for
BISECTIONS = 45
TRIALS = 16  # C, steps tried at once
MAX_ELEMENTS = 2**23  # of pairs in flight at once


@torch.no_grad()
def first_crossing(states: States, threshold: float, n_steps: int = 1) -> Tensor:
    """dt* (T,): the smallest step at which the relative energy error reaches `threshold`.

    The step is bracketed by a geometric scan from 1e-4 of the free-fall time (ratio 1.02 wherever
    the error is within a factor 30 of the threshold, coarser far below it) and then bisected 45
    times. States whose error is at the threshold from the first trial on are bisected from zero.
    """
    particles = states.position.shape[-2]
    chunk = max(1, MAX_ELEMENTS // (particles**2 * TRIALS * states.position.shape[-1]))
    index = torch.arange(len(states), device=states.energy.device)
    batches = cast(Sequence[Tensor], index.split(chunk))
    parts = [_crossing(states.take(batch), threshold, n_steps) for batch in batches]
    return torch.cat(parts) if parts else states.energy.new_empty(0)


def _crossing(states: States, threshold: float, n_steps: int) -> Tensor:
    start = START * free_fall_time(states.position, states.mass, states.softening)  # (T,)
    ceiling = start * (LARGEST / START)
    passes = ~_fails(states, start, threshold, n_steps)
    coarse = FINE**COARSE_EVERY
    near, _ = _scan(states, start, ceiling, FAR_BELOW * threshold, n_steps, coarse)
    low, high = _scan(states, near, ceiling, threshold, n_steps, FINE)
    low = torch.where(passes, low, 0.0)
    high = torch.where(passes, high, start)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        fails = _fails(states, middle, threshold, n_steps)
        high = torch.where(fails, middle, high)
        low = torch.where(fails, low, middle)
    return high


def _fails(states: States, dt: Tensor, limit: float, n_steps: int) -> Tensor:
    """Whether the error of steps dt (T,) or (C, T) is at the limit or not finite."""
    return ~(states.step(dt, n_steps).energy_error < limit)


def _scan(
    states: States, start: Tensor, ceiling: Tensor, limit: float, n_steps: int, ratio: float
) -> tuple[Tensor, Tensor]:
    """Last passing and first failing step (T,) among start·ratio^k; start is taken to pass."""
    low, high = start.clone(), ceiling.clone()
    active = torch.arange(len(start), device=start.device)
    powers = ratio ** torch.arange(1, TRIALS + 1, dtype=start.dtype, device=start.device)
    while len(active):
        trial = low[active] * powers.unsqueeze(1)  # (C, T)
        fails = _fails(states.take(active), trial, limit, n_steps)
        crossed = fails.any(0)
        first = fails.int().argmax(0)  # (T,)
        column = torch.arange(len(active), device=start.device)
        failing = trial[first, column]
        last_passing = torch.where(first > 0, trial[(first - 1).clamp_min(0), column], low[active])
        low[active] = torch.where(crossed, last_passing, trial[-1])
        high[active] = torch.where(crossed, failing, high[active])
        active = active[~crossed & (trial[-1] < ceiling[active])]
    return low, high
