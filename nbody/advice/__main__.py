"""How to integrate a system: `python -m nbody.advice FILE --span T [--error E]`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from nbody.advice.candidates import TrainedStepper, native_candidates, rebound_candidates
from nbody.advice.search import Search, Tried, front_of
from nbody.config.explained import in_words
from nbody.config.particle_file import read_particles
from nbody.config.units import G_OF_UNITS, newton
from nbody.errors import NBodyError
from nbody.native.engine import NativeSystem

DOMINANT = 0.9  # of the mass: then planetary integrators are tried, too


def main(arguments: list[str] | None = None) -> int:
    """Try, and print what to use; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="orrery advise",
        description="Try REBOUND's integrators and ours, with every criterion and with trained "
        "steppers, on your system: the fastest that keeps an energy error, and how to use it.",
    )
    parser.add_argument("system", type=Path, help="initial conditions: CSV, npz, an archive, …")
    parser.add_argument("--span", type=float, required=True, help="time to integrate")
    parser.add_argument(
        "--error", type=float, default=1e-6, help="largest |ΔE/E| on the way; 1e-6 by default"
    )
    parser.add_argument("--G", default="1", help=f"a number, or units: {', '.join(G_OF_UNITS)}")
    parser.add_argument("--softening", type=float, default=0.0)
    parser.add_argument("--stepper", type=Path, action="append", default=[], help="try it, too")
    parser.add_argument("--json", action="store_true", help="print JSON, not text")
    options = parser.parse_args(arguments)
    if not options.span > 0 or not 0 < options.error < 1 or options.softening < 0:
        parser.error("use --span > 0, 0 < --error < 1, --softening >= 0")
    try:
        told = _advice(options)
    except (NBodyError, ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {in_words(error)}", file=sys.stderr)
        return 1
    print(json.dumps(told, indent=2) if options.json else _text(told))
    return 0


def _advice(options: argparse.Namespace) -> dict[str, Any]:
    G = newton(options.G if options.G in G_OF_UNITS else float(options.G))
    system = _system(np.array(read_particles(options.system, G)), G, options.softening)
    steppers = [TrainedStepper.load(path) for path in options.stepper]
    planetary = float(system.mass.max() / system.mass.sum()) > DOMINANT
    candidates = [
        candidate
        for candidate in (*native_candidates(steppers), *rebound_candidates())
        if planetary or not candidate.planetary
    ]
    search = Search(system, options.span, options.error, lambda t: print(t, file=sys.stderr))
    choice = search.run(candidates)
    learned = [t for t in front_of([t for t in search.tried if t.keeps]) if t.candidate.learned]
    return {
        "choice": _told(choice),
        "code": choice.candidate.lines(system, choice.accuracy),
        "front": [_told(tried) for tried in front_of(search.tried)],
        "learned": [_told(tried) for tried in learned],
        "span": options.span,
        "error": options.error,
    }


def _system(rows: np.ndarray, G: float, softening: float) -> NativeSystem:
    dim = (rows.shape[1] - 1) // 2
    places, speeds = (
        np.pad(part, ((0, 0), (0, 3 - dim))) for part in (rows[:, 1 : 1 + dim], rows[:, 1 + dim :])
    )
    return NativeSystem(G * rows[:, 0], places, speeds, softening)


def _told(tried: Tried) -> dict[str, Any]:
    return {
        "name": tried.candidate.name,
        "accuracy": tried.accuracy,
        "seconds": tried.trial.seconds,
        "error": tried.trial.error,
        "passes": tried.trial.passes,
    }


def _text(told: dict[str, Any]) -> str:
    choice = told["choice"]
    cost = f"{choice['seconds']:.3g} s for the whole span, max |ΔE/E| {choice['error']:.1e}"
    lines = [
        f"Use {choice['name']}, accuracy {choice['accuracy']:.3g}: {cost}, measured on one thread.",
        "",
        *told["code"].splitlines(),
        "",
        f"{'seconds':>10} {'max |ΔE/E|':>11}  over the whole span",
    ]
    lines += [f"{t['seconds']:10.4g} {t['error']:11.1e}  {t['name']}" for t in told["front"]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
