"""Rules side by side in whole runs: `python tests/bench/board.py [--bodies N] [--stepper FILE]`.

Plummer spheres in Hénon units, run with the Hermite scheme and one step for all bodies. Every rule
is run at several accuracies; told are the force passes that it needs for a largest energy error,
interpolated between the means over the systems, and how far off the worst tenth of the systems is.
"""

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nbody.config import Config
from nbody.initial_conditions.from_config import initial_particle
from nbody.integrators.states import States
from nbody.simulation.criteria import LEADING, OWN, criteria_of
from nbody.simulation.long_run import long_run
from nbody.simulation.rules import Rule
from nbody.stepper import load_stepper

CROSSING_TIME = 2 * math.sqrt(2)  # of Hénon units
ERRORS = (1e-4, 1e-5, 1e-6, 1e-7)
LARGEST_STEP, LARGEST_THRESHOLD = 0.25, 1e-6
POINTS, RATIO, THRESHOLD_RATIO = 7, 1.45, 6.5
MOST_STEPS = 5_000
SLOW = {"fixed", "r/v"}  # whose runs take so long that nobody uses them here
Steps = Callable[[States], Tensor]


class RunsAway(Exception):
    """Steps became so small that a run does not end: two bodies were made to fall together."""


def bounded(steps: Steps) -> Callable[[States, Tensor], Tensor]:
    """A rule's steps, until there were too many of them."""
    taken = count()

    def next_steps(states: States, _: Tensor) -> Tensor:
        if next(taken) > MOST_STEPS:
            raise RunsAway
        return steps(states)

    return next_steps


def curve(states: States, steps: Steps, factors: Tensor, span: float) -> list[dict[str, float]]:
    """Mean passes and errors of runs, one after the other, with each factor on the steps or, where
    the states have thresholds, with each of these."""
    points: list[dict[str, float]] = []
    for factor in factors.unbind():
        start, scale = states, factor
        if states.threshold is not None:
            start, scale = replace(states, threshold=factor.expand(len(states))), torch.ones(())
        rule = Rule(bounded(lambda s, scale=scale: scale * steps(s)))
        try:
            run = long_run(start, rule, torch.full_like(states.energy, span))
        except RunsAway:
            continue
        points.append(
            {
                "passes": float(run.force_evaluations.log().mean().exp()),
                "error": float(run.max_energy_error.log().mean().exp()),
                "worst_tenth": float(run.max_energy_error.quantile(0.9)),
            }
        )
    return points


def passes_for(error: float, points: list[dict[str, float]]) -> float | None:
    """Passes at an error, between two points of a curve; None where it does not get there."""
    logs = [(math.log(p["error"]), math.log(p["passes"])) for p in points if p["error"] > 0]
    errors, passes = (np.array(values) for values in zip(*sorted(logs), strict=True))
    if not errors[0] <= math.log(error) <= errors[-1]:
        return None
    return float(np.exp(np.interp(math.log(error), errors, passes)))


def main() -> None:
    """Run every rule, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bodies", type=int, default=64)
    parser.add_argument("--systems", type=int, default=8)
    parser.add_argument("--crossings", type=float, default=0.5, help="crossing times of each run")
    parser.add_argument("--integrator", default="hermite4")
    parser.add_argument("--stepper", type=Path, action="append", default=[])
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--out", type=Path, help="write the points to this file, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = Config.model_validate(
        {
            "initial_conditions": "plummer",
            "num_particles": options.bodies,
            "num_systems": options.systems,
            "dim": 3,
            "integrator": options.integrator,
            "device": "cpu",
        }
    )
    states = initial_particle(config, seed=options.seed).states()
    asking = replace(states, threshold=torch.ones_like(states.energy))
    order = torch.arange(POINTS, dtype=torch.float64)
    steps, thresholds = LARGEST_STEP / RATIO**order, LARGEST_THRESHOLD / THRESHOLD_RATIO**order
    rules: dict[str, tuple[States, Steps, Tensor]] = {
        name: (asking, rule, thresholds) if name in OWN else (states, rule, steps)
        for name, rule in criteria_of(config.integrator).items()
        if name not in SLOW
    }
    for path in options.stepper:
        rules[path.name] = asking, load_stepper(path).of_states, thresholds
    found: dict[str, Any] = {}
    print(f"{'force passes for max |ΔE/E|':28} " + " ".join(f"{e:8.0e}" for e in ERRORS))
    for name, (start, rule, factors) in rules.items():
        points = curve(start, rule, factors, options.crossings * CROSSING_TIME)
        passes = [passes_for(error, points) for error in ERRORS]
        worst = max(p["worst_tenth"] / p["error"] for p in points)
        told = " ".join("       -" if p is None else f"{p:8.0f}" for p in passes)
        lost = f", {len(factors) - len(points)} runs without an end" * (len(points) < len(factors))
        print(f"{name:28} {told}   worst tenth {worst:.0f} times the mean{lost}", flush=True)
        found[name] = points
    if LEADING in found:
        best = [
            min(filter(None, (passes_for(e, found[n]) for n in found if n not in OWN)), default=0.0)
            for e in ERRORS
        ]
        own = [passes_for(error, found[LEADING]) for error in ERRORS]
        ratios = [b / o if o and b else math.nan for b, o in zip(best, own, strict=True)]
        print(f"{'best of the others / ours':28} " + " ".join(f"{r:8.2f}" for r in ratios))
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
