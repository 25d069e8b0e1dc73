"""Integrate a system here and now: `python -m nbody.simulation [CONFIG] [--stepper MODEL.pt]`."""

import argparse
import json
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nbody.checkpoint import load_checkpoint
from nbody.config import Config
from nbody.config.explained import in_words
from nbody.config.files import (
    parse_override,
    read_config_file,
    say_warnings_plainly,
)
from nbody.config.of_checkpoint import trained_on
from nbody.config.particle_file import HDF5
from nbody.config.sections import InitialConditionSection
from nbody.config.stepping_rules import STEPPING_RULES
from nbody.device import Threads, set_process_switches
from nbody.errors import NBodyError
from nbody.initial_conditions.from_config import initial_particle
from nbody.simulation.finished import FORMATS, Simulation
from nbody.simulation.picture import draw_runs
from nbody.simulation.rules import rule_of
from nbody.simulation.run import simulate
from nbody.stepper import Stepper, load_stepper


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
    parser.add_argument(
        "--states", type=Path, help="write the states of the last run to this npz or h5 file"
    )
    parser.add_argument("--picture", type=Path, help="draw one system to this PNG, SVG or PDF file")
    options = parser.parse_args(arguments)
    try:
        runs: dict[str, Simulation] = {}
        for rule, run in _runs(options):
            runs[rule], report = run, run.report()
            for warning in report["warnings"]:
                print(f"warning: {rule}: {warning}", file=sys.stderr)
            print(json.dumps({"rule": rule, **report}), flush=True)
        if options.states:
            list(runs.values())[-1].save(options.states)
        if options.picture:
            draw_runs(runs, options.picture)
    except (NBodyError, ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {in_words(error)}", file=sys.stderr)
        return 1
    return 0


def check_outputs(states: Path | None, picture: Path | None, systems: int) -> None:
    """Look before a run whether what it makes can be written.

    Raises:
        ValueError: it cannot.
    """
    needed = ((states and states.suffix in HDF5, "h5py", "hdf5"), (picture, "matplotlib", "plot"))
    for path, package, extra in needed:
        if path and find_spec(package) is None:
            raise ValueError(f"{package} is not installed: pip install 'orrery[{extra}]'")
    if states and states.suffix not in FORMATS:
        raise ValueError(f"--states is written as {', '.join(FORMATS)}, by its name's ending")
    if picture and systems > 1:
        raise ValueError("a picture is of one system: use num_systems=1, or initial_conditions")
    for path in filter(None, (states, picture)):
        if not path.parent.is_dir():
            raise ValueError(f"there is no folder {path.parent} for {path.name}")


def _runs(options: argparse.Namespace) -> Iterator[tuple[str, Simulation]]:
    changes = dict(map(parse_override, options.set))
    fields = read_config_file(options.config, changes, "simulate") if options.config else changes
    extra: dict[str, Any] = fields.get("extra") or {}
    path: Path | None = options.stepper or extra.get("model_path")  # AITimeStepper's
    stepper = load_stepper(path) if path else None
    config = Config.model_validate(fields | _asked_of(fields, stepper, path))
    set_process_switches(config)
    particle = initial_particle(config, seed=config.seed or 0, data_folder=options.data)
    check_outputs(options.states, options.picture, len(particle.batched().mass))
    ruled = [
        Config.model_validate({**config.model_dump(), "integrator_mode": rule})
        for rule in options.rule or [config.integrator_mode]
    ]
    for each in ruled:  # what a rule lacks is told before any of them runs
        rule_of(each, stepper)
    threads = Threads.for_run(config)
    for each in ruled:
        yield each.integrator_mode, simulate(each, particle, stepper, watcher=threads)


def _asked_of(fields: dict[str, Any], stepper: Stepper | None, path: Path | None) -> dict[str, Any]:
    """What a stepper settles: its history, its integrator where no other is given, and what it was
    trained on, where that is asked for."""
    if stepper is None or path is None:
        return {}
    settled: dict[str, Any] = {}
    if "integrator" not in fields:
        settled["integrator"] = stepper.config.integrator
    if fields.get("history_len", 0) != stepper.config.history_len:
        settled["history_len"] = stepper.config.history_len
    if (fields.get("extra") or {}).get("use_train_ic"):
        settled |= trained_on(load_checkpoint(path)) or _population(stepper.config)
    return settled


def _population(config: Config) -> dict[str, Any]:
    """The fields that say what a config's systems are, where they are not the defaults."""
    given = config.model_dump(include=set(InitialConditionSection.model_fields))
    defaults = InitialConditionSection.model_construct()
    return {name: value for name, value in given.items() if value != getattr(defaults, name)}


if __name__ == "__main__":
    say_warnings_plainly()
    sys.exit(main())
