"""How to integrate a system: `python -m nbody.advice FILE --span T [--error E]`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from nbody.advice.candidates import TrainedStepper
from nbody.advice.report import advice, advice_text
from nbody.config.explained import in_words
from nbody.config.particle_file import read_particles
from nbody.config.units import G_OF_UNITS, newton
from nbody.errors import NBodyError
from nbody.native.engine import NativeSystem, in_space


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
    print(json.dumps(told, indent=2) if options.json else advice_text(told))
    return 0


def _advice(options: argparse.Namespace) -> dict[str, Any]:
    G = newton(options.G if options.G in G_OF_UNITS else float(options.G))
    rows = np.array(read_particles(options.system, G))
    dim = (rows.shape[1] - 1) // 2
    places, speeds = in_space(rows[:, 1 : 1 + dim]), in_space(rows[:, 1 + dim :])
    system = NativeSystem(G * rows[:, 0], places, speeds, options.softening)
    steppers = [TrainedStepper.load(path) for path in options.stepper]

    def tell(text: str) -> None:
        print(text, file=sys.stderr)

    return advice(system, options.span, options.error, steppers, tell=tell)


if __name__ == "__main__":
    sys.exit(main())
