"""Run one config with no server: `python -m nbody CONFIG [--set key=value] [--save-dir FOLDER]`."""

import argparse
import json
import sys
from pathlib import Path

from nbody.config import Config
from nbody.config.files import parse_override
from nbody.device import set_process_switches
from nbody.epoch_line import epoch_line
from nbody.errors import NBodyError
from nbody.evaluation.score import evaluate
from nbody.stepper import Stepper
from nbody.training.run import TrainingRun
from nbody.unified_training import checkpoint_path, epochs, is_checkpoint_epoch


def main(arguments: list[str] | None = None) -> int:
    """Train, printing one line per epoch; checkpoints go to the save folder."""
    parser = argparse.ArgumentParser(prog="python -m nbody", description=__doc__)
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
    options = parser.parse_args(arguments)
    try:
        config = Config.from_file(options.config, dict(map(parse_override, options.set)))
        train(config, options)
    except (ValueError, OSError, NBodyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def train(config: Config, options: argparse.Namespace) -> None:
    """Run a config to its end."""
    folder = options.save_dir or options.data / (config.save_name or "run_nbody") / "model"
    for warning in [*config.warnings(), *wandb_hint(config)]:
        print(f"warning: {warning}", file=sys.stderr)
    set_process_switches(config)
    run = (
        TrainingRun.resume(config, options.resume, options.data)
        if options.resume
        else TrainingRun.start(config, options.data)
    )
    print(config.summary(), file=sys.stderr)
    for metrics in epochs(run):
        named = metrics.named()
        print(json.dumps(named) if options.json else epoch_line(named, config.epochs), flush=True)
        if is_checkpoint_epoch(metrics.epoch, config.epochs, config.checkpoint_every):
            saved = run.save(checkpoint_path(folder, metrics.epoch), logs=named)
            print(f"checkpoint {saved}", file=sys.stderr)
    if config.evaluation_orbits:
        scores = evaluate(
            Stepper(run.model, run.adapter),
            seed=run.seed,
            systems=config.evaluation_orbits,
            data_folder=options.data,
        )
        print(json.dumps({"evaluation": scores}, indent=None if options.json else 2))


def wandb_hint(config: Config) -> list[str]:
    """What a user who asked for W&B should know here."""
    return ["without a worker nothing is logged to W&B"] if config.wandb else []


if __name__ == "__main__":
    sys.exit(main())
