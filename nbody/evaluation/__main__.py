"""How good a trained stepper is: `python -m nbody.evaluation CHECKPOINT [--picture FILE]`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from nbody.config import Config
from nbody.config.explained import in_words
from nbody.config.files import parse_override
from nbody.config.populations import with_changes
from nbody.cores import usable_cores
from nbody.device import Threads, set_process_switches
from nbody.errors import NBodyError
from nbody.evaluation.beside_criteria import evaluate_beside_criteria
from nbody.evaluation.long_runs import LONG_RUN_RULES, long_runs
from nbody.evaluation.picture import draw
from nbody.evaluation.report_text import curve_line, report_text
from nbody.evaluation.wall_time import wall_times
from nbody.initial_conditions.from_config import initial_particle
from nbody.stepper import load_stepper


def main(arguments: list[str] | None = None) -> int:
    """Score a checkpoint beside every criterion in use; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="orrery evaluate",
        description="Score a trained stepper on held-out systems, beside every criterion in use.",
    )
    parser.add_argument("checkpoint", type=Path, help="model_epoch_*.pt")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="score on another population than that of training, for example num_particles=32",
    )
    parser.add_argument("--seed", type=int, default=1000, help="of the held-out systems")
    parser.add_argument("--systems", type=int, default=256, help="held-out systems, at least 2")
    parser.add_argument(
        "--orbits", type=int, default=0, help="also run two bodies for this many orbits"
    )
    parser.add_argument(
        "--rule",
        action="append",
        default=[],
        choices=LONG_RUN_RULES,
        metavar="RULE",
        help="only this rule in the long runs; can be repeated: " + "; ".join(LONG_RUN_RULES),
    )
    parser.add_argument("--eccentricity", type=float, default=0.9, help="of those orbits")
    parser.add_argument(
        "--compile", action="store_true", help="compile the stepper first: pays with many orbits"
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="data folder, for ic_path")
    parser.add_argument("--json", action="store_true", help="print JSON, not tables")
    parser.add_argument("--picture", type=Path, help="draw to this PNG, SVG or PDF file")
    options = parser.parse_args(arguments)
    if options.systems < 2 or not 0 <= options.eccentricity < 1 or options.orbits < 0:
        parser.error("use --systems >= 2, 0 <= --eccentricity < 1, --orbits >= 0")
    try:
        report = _report(options)
        if options.picture:
            draw(report, options.picture)
    except (NBodyError, ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {in_words(error)}", file=sys.stderr)
        return 1
    print(json.dumps(report, indent=2) if options.json else report_text(report))
    return 0


def _report(options: argparse.Namespace) -> dict[str, Any]:
    stepper = load_stepper(options.checkpoint, compiled=options.compile)
    set_process_switches(stepper.config)
    changes = dict(map(parse_override, options.set))
    trained = stepper.config.model_dump(mode="json")
    population = Config.model_validate(with_changes(trained, changes))
    report = evaluate_beside_criteria(
        stepper,
        population,
        seed=options.seed,
        systems=options.systems,
        data_folder=options.data,
        watcher=Threads(usable_cores()),
    )
    systems = initial_particle(population, seed=options.seed, data_folder=options.data)
    torch.set_num_threads(1)  # of one system at a time from here on
    report["wall_time"] = wall_times(stepper, systems.states())
    report["checkpoint"] = str(options.checkpoint)
    report["long_runs"] = []
    if options.orbits:
        for curve in long_runs(
            stepper,
            eccentricity=options.eccentricity,
            orbits=options.orbits,
            rules=options.rule,
        ):
            print(curve_line(curve), file=sys.stderr)
            report["long_runs"].append(curve)
    return report


if __name__ == "__main__":
    sys.exit(main())
