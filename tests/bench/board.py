"""Integrators and rules side by side, in seconds: `python tests/bench/board.py FAMILY...`.

Every row is run at finer and finer accuracies on all systems of a family. Told are the seconds of
one thread and the passes over the pairs that it needs for a median of the largest relative energy
errors, interpolated between two accuracies, and how far beyond it the worst tenth of the systems
is.
"""

import argparse
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from nbody.advice.candidates import (
    Candidate,
    TrainedStepper,
    native_candidates,
    rebound_candidates,
)
from nbody.advice.trials import Trial
from tests.bench.board_systems import FAMILIES, Family

TARGETS = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
MOST_RUNGS = 26


def points_of(candidate: Candidate, family: Family, budget: float) -> list[dict[str, float]]:
    """Medians over the systems at each accuracy, until all targets are passed or time is up."""
    points: list[dict[str, float]] = []
    for rung in range(MOST_RUNGS):
        accuracy = candidate.ladder.accuracy(rung)
        trials = [candidate.attempt(system, accuracy, span) for system, span in family.systems]
        points.append(point_of(accuracy, trials))
        last = points[-1]
        spent = sum(trial.seconds for trial in trials if math.isfinite(trial.seconds))
        if last["error"] < TARGETS[-1] or 1.5 * spent > budget:
            return points
    return points


def point_of(accuracy: float, trials: list[Trial]) -> dict[str, float]:
    errors = [trial.error for trial in trials]
    passes = [math.nan if trial.passes is None else trial.passes for trial in trials]
    return {
        "accuracy": accuracy,
        "seconds": float(np.median([trial.seconds for trial in trials])),
        "seconds_90": float(np.quantile([trial.seconds for trial in trials], 0.9, method="higher")),
        "passes": float(np.median(passes)),
        "error": float(np.median(errors)),
        "error_90": float(np.quantile(errors, 0.9, method="higher")),
    }


def at(target: float, points: list[dict[str, float]], column: str) -> float:
    """A column at an error, between the two finest accuracies around it; where the rougher one does
    not come to its end, or was not tried, at the finer one."""
    if points[0]["error"] <= target:
        return points[0][column]
    for rough, fine in reversed(list(pairwise(points))):
        if fine["error"] <= target < rough["error"]:
            if not math.isfinite(rough["error"] + rough[column]):
                return fine[column]
            ends = [math.log(p["error"]) for p in (rough, fine)]
            share = (ends[0] - math.log(target)) / (ends[0] - ends[1])
            logs = [math.log(p[column]) for p in (rough, fine)]
            return math.exp(logs[0] + share * (logs[1] - logs[0]))
    return math.nan


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Milliseconds and passes of each row at each target."""
    head = " ".join(f"{target:>17.0e}" for target in TARGETS)
    lines = [f"{'ms (passes) for max |ΔE/E|':44} {head}   worst tenth"]
    for name, points in found.items():
        cells = []
        for target in TARGETS:
            seconds, passes = at(target, points, "seconds"), at(target, points, "passes")
            count = "" if math.isnan(passes) else f" ({passes:.0f})"
            cells.append(f"{'-' if math.isnan(seconds) else f'{1e3 * seconds:.4g}{count}':>17}")
        tails = [p["error_90"] / p["error"] for p in points if 0 < p["error"] < math.inf]
        tail = f"{np.median(tails):.0f}x" if tails else "-"
        lines.append(f"{name:44} {' '.join(cells)}   {tail}")
    return "\n".join(lines)


def main() -> None:
    """Run the families that were named, and print a table of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", nargs="+", choices=FAMILIES)
    parser.add_argument("--systems", type=int, default=8)
    parser.add_argument("--spans", type=float, default=1.0, help="of the usual one of the family")
    parser.add_argument("--budget", type=float, default=20.0, help="seconds of a row's finest runs")
    parser.add_argument("--only", default="", help="only rows with this in their names")
    parser.add_argument("--stepper", type=Path, action="append", default=[])
    parser.add_argument("--out", type=Path, help="write the points to this file, too")
    options = parser.parse_args()
    steppers = [TrainedStepper.load(path) for path in options.stepper]
    rows = [*native_candidates(steppers), *rebound_candidates()]
    told: dict[str, Any] = {}
    for name in options.family:
        family = FAMILIES[name](options.systems, options.spans)
        found = {
            row.name: points_of(row, family, options.budget)
            for row in rows
            if options.only in row.name and (family.planetary or not row.planetary)
        }
        print(f"\n{name}, {len(family.systems)} systems\n{table(found)}", flush=True)
        told[name] = found
    if options.out is not None:
        options.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
