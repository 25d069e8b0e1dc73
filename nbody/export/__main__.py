"""A trained stepper as files for other programs: `python -m nbody.export CHECKPOINT --to c`."""

import argparse
import sys
from pathlib import Path

from nbody.config.explained import in_words
from nbody.errors import NBodyError
from nbody.export.formats import FORMATS, export_stepper
from nbody.stepper import load_stepper

MEANINGS = {
    "c": "C99 without a library, with test vectors and a program that checks them (make check)",
    "fortran": "the same, with a Fortran module",
    "rebound": "an integrator for REBOUND 5, one file of C to compile; in Python use nbody.rebound",
    "onnx": "the network alone, from features to dt; needs the package onnx",
    "safetensors": "the weights alone, with the config; needs the package safetensors",
}


def main(arguments: list[str] | None = None) -> int:
    """Write the files; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="orrery export",
        description="Turn a trained stepper into files for other programs.",
        epilog="\n".join(f"{name:12} {meaning}" for name, meaning in MEANINGS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path, help="model_epoch_*.pt, or a folder of them")
    parser.add_argument("--to", choices=FORMATS, required=True, help="which files; see below")
    parser.add_argument(
        "--output", "-o", type=Path, default=Path("stepper"), help="folder, ./stepper by default"
    )
    parser.add_argument(
        "--name", default="orrery", help="prefix of all names in the code, for several steppers"
    )
    parser.add_argument(
        "--calibration", type=float, default=1.0, help="factor on each step, as evaluate tells it"
    )
    options = parser.parse_args(arguments)
    if not 0 < options.calibration < float("inf"):
        parser.error("--calibration must be above zero")
    title = f"Time stepper of {options.checkpoint.name}, trained with Orrery"
    try:
        stepper = load_stepper(options.checkpoint)
        paths = export_stepper(
            stepper,
            options.to,
            options.output,
            name=options.name,
            title=title,
            calibration=options.calibration,
        )
    except (NBodyError, ValueError, OSError) as error:
        print(f"error: {in_words(error)}", file=sys.stderr)
        return 1
    for path in paths:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
