"""Integrate a system here and now: `python -m nbody.simulation [CONFIG] [--stepper MODEL.pt]`."""

import argparse
import json
import sys
from pathlib import Path

from nbody.config import Config
from nbody.config.files import parse_override, read_config_file
from nbody.config.stepping_rules import STEPPING_RULES
from nbody.device import set_process_switches
from nbody.errors import NBodyError
from nbody.initial_conditions.from_config import initial_particle
from nbody.simulation.picture import draw_runs
from nbody.simulation.run import Simulation, simulate
from nbody.stepper import load_stepper


def main(arguments: list[str] | None = None) -> int:
    """Simulate by one rule, or by several side by side; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m nbody.simulation",
        description="Integrate a system with a trained stepper, or with a classical rule.",
    )
    parser.add_argument("config", type=Path, nargs="?", help="JSON or TOML file; or --set alone")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="replace a field"
    )
    parser.add_argument("--stepper", type=Path, metavar="MODEL", help="model_epoch_*.pt")
    parser.add_argument(
        "--rule",
        action="append",
        default=[],
        choices=list(STEPPING_RULES),
        help="instead of integrator_mode; can be repeated",
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="data folder, for ic_path")
    parser.add_argument("--states", type=Path, help="write the states of the last run to this npz")
    parser.add_argument("--picture", type=Path, help="draw one system to this PNG, SVG or PDF file")
    options = parser.parse_args(arguments)
    try:
        runs = _runs(options)
        for rule, run in runs.items():
            print(json.dumps({"rule": rule, **run.report()}))
        if options.states:
            list(runs.values())[-1].save(options.states)
        if options.picture:
            draw_runs(runs, options.picture)
    except (NBodyError, ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _runs(options: argparse.Namespace) -> dict[str, Simulation]:
    fields = read_config_file(options.config) if options.config else {}
    config = Config.model_validate(fields | dict(map(parse_override, options.set)))
    set_process_switches(config)
    particle = initial_particle(config, seed=config.seed or 0, data_folder=options.data)
    if options.picture and particle.is_batch:
        raise ValueError("a picture is of one system: use num_systems=1, or initial_conditions")
    stepper = load_stepper(options.stepper) if options.stepper else None
    runs: dict[str, Simulation] = {}
    for rule in options.rule or [config.integrator_mode]:
        ruled = Config.model_validate({**config.model_dump(), "integrator_mode": rule})
        runs[rule] = simulate(ruled, particle, stepper)
    return runs


if __name__ == "__main__":
    sys.exit(main())
