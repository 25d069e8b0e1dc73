"""The oracle: the largest step before a state's energy error first reaches the threshold.

Legend: T states, C trial steps (ORACLE_TRIALS).

dt* is the *first* crossing of e(dt) = threshold. A larger step can pass again: an inbound Kepler
state has an isolated large step that conserves energy exactly by symmetry, and it is of no use.
"""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.config.size import ORACLE_NUMBERS, ORACLE_NUMBERS_ON_GPU, ORACLE_TRIALS
from nbody.gravity.free_fall import free_fall_time
from nbody.integrators.error_crossing import crossing_of
from nbody.integrators.error_series import error_series
from nbody.integrators.states import States
from nbody.watcher import NoWatcher, Watcher

START = 1e-4  # of the free-fall time
FINE = 1.02  # ratio of successive trial steps
COARSE_EVERY = 8  # fine steps in one coarse step
FAR_BELOW = 1 / 30  # of the threshold: coarse steps suffice while the error is below this
LARGEST = 1e6  # of the free-fall time: steps beyond are not looked for
REFINEMENTS = 14  # of a bracket two percent wide: down to round-off
FIRST_TRIAL = 4.0  # fraction of the series' crossing where trials begin
TRIED = 1.1  # ratio of successive trials
CAUTION = 0.97
TINY = 1e-300
BISECTIONS = 45  # of a bracket that starts at zero


@torch.no_grad()
def first_crossing(
    states: States,
    threshold: Float[Tensor, " T"] | Float[Tensor, ""] | float,
    n_steps: int = 1,
    watcher: Watcher | None = None,
) -> Float[Tensor, " T"]:
    """dt* (T,): the smallest step at which the relative energy error reaches `threshold`.

    The step is bracketed by a geometric scan from 1e-4 of the free-fall time (ratio 1.02 wherever
    the error is within a factor 30 of the threshold, coarser far below it); the bracket is then
    closed to round-off. States whose error is at the threshold from the first trial on are
    bisected from zero.

    Args:
        threshold: of the relative energy error, one number or (T,).
        watcher: ticked while it goes on.
    """
    watcher = watcher or NoWatcher()
    limit = torch.as_tensor(threshold, dtype=states.energy.dtype, device=states.energy.device)
    limit = limit.expand(len(states))
    every = torch.arange(len(states), device=limit.device)
    most = asked_at_once(states.position.shape[-2:].numel(), limit.device)
    parts: list[Tensor] = []
    for rows in cast(Sequence[Tensor], every.split(most)):
        parts.append(_crossing(states.take(rows), limit[rows], n_steps))
        watcher.tick()
    return torch.cat(parts) if parts else states.energy.new_empty(0)


def asked_at_once(coordinates: int, device: torch.device) -> int:
    """States of so many coordinates whose steps are looked for together: on a CPU as many as stay
    near its cache, on a GPU enough to fill it."""
    numbers = ORACLE_NUMBERS if device.type == "cpu" else ORACLE_NUMBERS_ON_GPU
    return max(1, numbers // (ORACLE_TRIALS * coordinates))


@torch.no_grad()
def cautious_step(
    states: States,
    threshold: Float[Tensor, " T"] | Float[Tensor, ""] | float,
    n_steps: int = 1,
) -> Float[Tensor, " T"]:
    """A step (T,) that passes, within some percent of dt*, found by trying: for states that no
    network was trained on.

    From far below where the step's own error series crosses the threshold the step is enlarged by a
    tenth at a time, each time with a force at its end, until it fails; it ends where the error,
    interpolated, is still under the threshold.
    """
    limit = torch.as_tensor(threshold, dtype=states.energy.dtype, device=states.energy.device)
    limit = limit.expand(len(states))
    unit = free_fall_time(states.position, states.mass, states.softening)
    series = error_series(states, unit)
    guess = unit * crossing_of(series, limit * states.scale.clamp_min(TINY)).log_step.exp()
    start = torch.minimum(guess, unit) / FIRST_TRIAL
    for _ in range(BISECTIONS):
        passes = states.step(start, n_steps).energy_error < limit
        if bool(passes.all()):
            break
        start = torch.where(passes, start, start / FIRST_TRIAL)
    ceiling = start * LARGEST
    low, high = _scan(states, start, ceiling, limit, n_steps, TRIED)
    below, above = (_excess(states, dt, limit, n_steps) for dt in (low, high))
    share = (below / (below - above)).nan_to_num(0.0).clamp(0.0, 1.0)  # where ln error is ln limit
    return low * (high / low) ** share * CAUTION


def _crossing(states: States, limit: Tensor, n_steps: int) -> Tensor:
    start = START * free_fall_time(states.position, states.mass, states.softening)  # (T,)
    ceiling = start * (LARGEST / START)
    near, _ = _scan(states, start, ceiling, FAR_BELOW * limit, n_steps, FINE**COARSE_EVERY)
    low, high = _scan(states, near, ceiling, limit, n_steps, FINE)
    crossing = _close_bracket(states, low, high, limit, n_steps)
    passes = states.step(start, n_steps).energy_error < limit
    stuck = (~passes).nonzero().squeeze(1)
    if len(stuck):
        crossing[stuck] = _bisect(states.take(stuck), start[stuck], limit[stuck], n_steps)
    return crossing


def _excess(states: States, dt: Tensor, limit: Tensor, n_steps: int) -> Tensor:
    """ln(error / limit) of steps dt (T,): negative where the step passes, inf where it blows up."""
    error = states.step(dt, n_steps).energy_error
    return torch.where(error.isfinite(), (error / limit).log(), torch.inf)


def _close_bracket(
    states: States, low: Tensor, high: Tensor, limit: Tensor, n_steps: int
) -> Tensor:
    """The crossing in [low, high], by the Illinois method (Dowell & Jarratt 1971)."""
    below, above = (_excess(states, dt, limit, n_steps) for dt in (low, high))
    last_fails = last_passes = torch.zeros_like(low, dtype=torch.bool)
    for _ in range(REFINEMENTS):
        secant = (low * above - high * below) / (above - below)
        inside = (secant > low) & (secant < high)  # false where an end is not finite
        middle = torch.where(inside, secant, 0.5 * (low + high))
        found = _excess(states, middle, limit, n_steps)
        fails = ~(found < 0)
        below, above = (
            torch.where(fails, torch.where(last_fails, 0.5 * below, below), found),
            torch.where(fails, found, torch.where(last_passes, 0.5 * above, above)),
        )
        low, high = torch.where(fails, low, middle), torch.where(fails, middle, high)
        last_fails, last_passes = fails, ~fails
    return torch.where(above <= -below, high, low)


def _bisect(states: States, high: Tensor, limit: Tensor, n_steps: int) -> Tensor:
    low = torch.zeros_like(high)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        fails = ~(states.step(middle, n_steps).energy_error < limit)
        high, low = torch.where(fails, middle, high), torch.where(fails, low, middle)
    return high


def _scan(
    states: States, start: Tensor, ceiling: Tensor, limit: Tensor, n_steps: int, ratio: float
) -> tuple[Tensor, Tensor]:
    """Last passing and first failing step (T,) among start·ratio^k; start is taken to pass."""
    low, high = start.clone(), ceiling.clone()
    active = torch.arange(len(start), device=start.device)
    powers = ratio ** torch.arange(1, ORACLE_TRIALS + 1, dtype=start.dtype, device=start.device)
    while len(active):
        trial = low[active] * powers.unsqueeze(1)  # (C, T)
        error = states.take(active).step(trial, n_steps).energy_error
        fails = ~(error < limit[active])
        crossed = fails.any(0)
        first = fails.int().argmax(0)  # (T,)
        column = torch.arange(len(active), device=start.device)
        failing = trial[first, column]
        last_passing = torch.where(first > 0, trial[(first - 1).clamp_min(0), column], low[active])
        low[active] = torch.where(crossed, last_passing, trial[-1])
        high[active] = torch.where(crossed, failing, high[active])
        active = active[~crossed & (trial[-1] < ceiling[active])]
    return low, high
