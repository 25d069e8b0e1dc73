"""The figure of merit of a stepper, against the oracle, on systems that it was not trained on.

Legend: B systems, K states of each.

Efficiency is oracle steps over model steps to cover the same time, both as time averages of 1/dt.
"Calibrated" is after one global factor on dt that brings violations to at most 0.1 %, found on one
half of the systems and reported on the other; one fixed system serves for both.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.config import Config
from nbody.evaluation.held_out import HeldOut, Predict, held_out_states, predicted_steps
from nbody.gravity.free_fall import free_fall_time
from nbody.initial_conditions.hard_systems import held_out_shift
from nbody.stepper import Stepper
from nbody.watcher import NoWatcher, Watcher

TARGET_VIOLATION = 1e-3
BISECTIONS = 40
ROUND_OFF = 1e-6  # of an energy error near the threshold, in dt


@dataclass(frozen=True)
class Score:
    """How good a stepper is on a population."""

    efficiency: float
    violation_rate: float
    overshoot_rate: float
    calibration_factor: float
    calibrated_efficiency: float
    calibrated_violation_rate: float


@torch.no_grad()
def evaluate(
    stepper: Stepper,
    *,
    seed: int = 0,
    systems: int = 64,
    data_folder: Path | None = None,
    watcher: Watcher | None = None,
) -> dict[str, dict[str, float]]:
    """Scores of a stepper and of the free-fall criterion on the stepper's own population.

    Args:
        seed: of the held-out draw; different from every training draw of the same seed.
        systems: B, at least 2.
        watcher: ticked while it goes on.

    Returns:
        `{"stepper": Score, "free_fall": Score}` as plain dictionaries.
    """
    held_out = held_out_for(
        stepper, seed=seed, systems=systems, data_folder=data_folder, watcher=watcher
    )
    return score_all(stepper_and_free_fall(stepper), held_out, watcher)


def held_out_for(
    stepper: Stepper, population: Config | None = None, *, seed: int, **options: Any
) -> HeldOut:
    """Held-out states for a stepper, of its own population where no other is given.

    Args:
        options: as of `held_out_states`.
    """
    seed ^= held_out_shift(stepper.config)
    return held_out_states(population or stepper.config, seed=seed, **options)


def stepper_and_free_fall(stepper: Stepper) -> dict[str, Predict]:
    """What a training is scored by: its network, and the free-fall criterion that it began with."""
    config = stepper.config

    def free_fall(part: HeldOut) -> Tensor:
        states, gate = part.states, part.threshold / config.energy_threshold
        time = free_fall_time(states.position, states.mass, states.softening)
        return config.eta * gate**states.threshold_power * time

    return {"stepper": lambda part: predicted_steps(stepper, part), "free_fall": free_fall}


def score_all(
    rules: dict[str, Predict], held_out: HeldOut, watcher: Watcher | None = None
) -> dict[str, dict[str, float]]:
    """The score of each rule, by its name, as plain dictionaries."""
    return {name: asdict(score(rule, held_out, watcher)) for name, rule in rules.items()}


def score(predict: Predict, held_out: HeldOut, watcher: Watcher | None = None) -> Score:
    """Calibrate on every other system, report on the rest; a single system serves for both."""
    tuning, testing = held_out.halves()
    factor = calibration_factor(tuning, tuning.each(predict), watcher or NoWatcher())
    dt = testing.each(predict)
    return Score(
        efficiency=testing.efficiency(dt),
        violation_rate=testing.violation_rate(dt),
        overshoot_rate=testing.overshoot_rate(dt),
        calibration_factor=factor,
        calibrated_efficiency=testing.efficiency(factor * dt),
        calibrated_violation_rate=testing.violation_rate(factor * dt),
    )


def calibration_factor(held_out: HeldOut, dt: Float[Tensor, " T"], watcher: Watcher) -> float:
    """The largest factor on dt up to which at most 0.1 % of the steps violate.

    Of n states, n/1000 less its standard error may violate, so that the rate found here also holds
    for states that were not looked at. The search starts where at most that share overshoots, so
    that it does not land beyond the barrier.
    """
    expected = TARGET_VIOLATION * len(dt)
    target = (expected - math.sqrt(expected)) / len(dt) if expected > 1 else TARGET_VIOLATION
    ratio = held_out.dt_star / dt

    def violation_rate(factor: float) -> float:
        """As `held_out.violation_rate`: a step under dt* passes, and need not be tried."""
        beyond = ~(factor * (1 + ROUND_OFF) < ratio)  # or not a number
        return held_out.take(beyond).violations(factor * dt[beyond]) / len(dt)

    low = float(ratio.sort().values[int(target * len(ratio))])
    shrink = ROUND_OFF
    while low > 0 and violation_rate(low) > target:
        low *= max(1 - shrink, 0.0)  # dt* itself is at the threshold, to round-off
        shrink *= 2
        watcher.tick()
    if low == 0:
        return low
    high = low * 1.5
    for _ in range(BISECTIONS):
        middle = math.sqrt(low * high)
        if violation_rate(middle) <= target:
            low = middle
        else:
            high = middle
        watcher.tick()
    return low
