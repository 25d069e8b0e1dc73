"""Train, simulate, or both, with no server: `python -m nbody [train | simulate | both] CONFIG`.

`train` is what is meant where none is named. Of AITimeStepper's files each half reads the shared
keys and its own section.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from nbody.checkpoint import load_config_from_checkpoint
from nbody.config import Config
from nbody.config.explained import in_words
from nbody.config.files import (
    parse_override,
    read_config_file,
    read_table,
    say_warnings_plainly,
)
from nbody.config.original_format import of_half
from nbody.config.sections import InitialConditionSection
from nbody.config.size import evaluated_systems, remarks
from nbody.config.stepping_rules import rule_with_stepper
from nbody.device import Threads, set_process_switches
from nbody.epoch_line import epoch_line
from nbody.errors import NBodyError
from nbody.evaluation.score import evaluate
from nbody.metrics import GOOD_PASS_RATE
from nbody.simulation import __main__ as simulation
from nbody.stepper import Stepper, best_of, info_of
from nbody.training.run import TrainingRun
from nbody.unified_training import checkpoint_path, epochs, is_checkpoint_epoch

HALVES = ("train", "simulate", "both")


def main(arguments: list[str] | None = None) -> int:
    """Train, simulate, or train and then simulate; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    half, rest = (given[0], given[1:]) if given and given[0] in HALVES else ("train", given)
    if half == "simulate":
        return simulation.main(rest)
    parser = argparse.ArgumentParser(
        prog="python -m nbody", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config", type=Path, help="JSON or TOML file, ours or AITimeStepper's")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="replace a field"
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="data folder, for ic_path and checkpoints"
    )
    parser.add_argument("--save-dir", type=Path, help="checkpoints; default DATA/SAVE_NAME/model")
    parser.add_argument("--resume", type=Path, help="continue from this checkpoint")
    parser.add_argument("--json", action="store_true", help="one JSON object per epoch")
    if half == "both":
        parser.add_argument("--states", type=Path, help="write the simulation to this npz or h5")
        parser.add_argument("--picture", type=Path, help="draw the simulation to this file")
    options = parser.parse_args(rest)
    work: Callable[[argparse.Namespace], int] = train_and_simulate if half == "both" else train
    try:
        return work(options)
    except (ValueError, OSError, NBodyError) as error:
        print(f"error: {in_words(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def train(options: argparse.Namespace) -> int:
    """Run a config to its end; returns the exit code."""
    _train(options)
    return 0


def _train(options: argparse.Namespace) -> Path:
    """Print one line per epoch; checkpoints go to the save folder. Returns the best of them."""
    config = Config.from_file(options.config, dict(map(parse_override, options.set)))
    folder = _folder(config, options)
    for warning in [*config.warnings(), *remarks(config), *wandb_hint(config)]:
        print(f"warning: {warning}", file=sys.stderr)
    set_process_switches(config)
    threads = Threads.for_run(config)
    other = _other_systems(options.resume, config) if options.resume else ""
    if other:
        print(f"warning: the checkpoint is of a run with other {other}", file=sys.stderr)
    _warn_of_earlier_run(options, folder)
    run = (
        TrainingRun.resume(config, options.resume, options.data)
        if options.resume
        else TrainingRun.start(config, options.data)
    )
    print(config.summary(), file=sys.stderr)
    saved = {options.resume: info_of(options.resume)} if options.resume and not other else {}
    for metrics in epochs(run, threads):
        named = metrics.named()
        print(json.dumps(named) if options.json else epoch_line(named, config.epochs), flush=True)
        if is_checkpoint_epoch(metrics.epoch, config.epochs, config.checkpoint_every):
            path = run.save(checkpoint_path(folder, metrics.epoch), logs=named)
            saved[path] = run.quality or {}
            rate = metrics.final_pass_rate
            mark = "" if rate >= GOOD_PASS_RATE else f" (a bad epoch: {rate:.0%} pass)"
            print(f"checkpoint {path}{mark}", file=sys.stderr)
    best = best_of(saved) if saved else options.resume  # which was at its end already
    print(f"best checkpoint {best}", file=sys.stderr)
    if systems := evaluated_systems(config):
        print(f"scoring it on {systems} held-out systems", file=sys.stderr)
        scores = evaluate(
            Stepper(run.model, run.adapter),
            seed=run.seed,
            systems=systems,
            data_folder=options.data,
            watcher=threads,
        )
        print(json.dumps({"evaluation": scores}, indent=None if options.json else 2))
    return best


def train_and_simulate(options: argparse.Namespace) -> int:
    """Train, then simulate with the best checkpoint: by the stepper, unless another rule is named.

    Raises:
        ValueError: a field is wrong; that of the simulation is found before training begins.
    """
    changes = dict(map(parse_override, options.set))
    trained = Config.from_file(options.config, changes)
    asked = of_half(read_table(options.config), "simulate") | changes
    rule = asked.get("integrator_mode", rule_with_stepper(trained.history_len, trained.integrator))
    fields = read_config_file(options.config, changes, "simulate")
    simulated = Config.model_validate(fields | {"integrator_mode": rule})
    simulation.check_outputs(options.states, options.picture, simulated.systems)
    best = _train(options)
    arguments = [str(options.config), "--stepper", str(best), "--rule", rule]
    arguments += ["--data", str(options.data)]
    for assignment in options.set:
        arguments += ["--set", assignment]
    for name in ("states", "picture"):
        if getattr(options, name):
            arguments += [f"--{name}", str(getattr(options, name))]
    return simulation.main(arguments)


def _warn_of_earlier_run(options: argparse.Namespace, folder: Path) -> None:
    """Checkpoints of two runs in one folder are hard to tell apart."""
    if not options.resume and any(folder.glob("model_epoch_*.pt")):
        told = f"{folder} holds checkpoints of an earlier run, which this one writes over"
        print(f"warning: {told}: --save-dir takes another folder", file=sys.stderr)


def wandb_hint(config: Config) -> list[str]:
    """What a user who asked for W&B should know here."""
    return ["without a worker nothing is logged to W&B"] if config.wandb else []


def _other_systems(path: Path, config: Config) -> str:
    """The fields of the population, and of its gate, in which a checkpoint's config differs."""
    before = load_config_from_checkpoint(path)
    if before is None:
        return ""
    names = [*InitialConditionSection.model_fields, "energy_threshold", "integrator"]
    names += [] if config.gate == "auto" else ["gate"]
    return ", ".join(n for n in names if getattr(before, n) != getattr(config, n))


def _folder(config: Config, options: argparse.Namespace) -> Path:
    return options.save_dir or options.data / (config.save_name or "run_nbody") / "model"


if __name__ == "__main__":
    say_warnings_plainly()
    sys.exit(main())
