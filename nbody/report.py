"""How good a trained stepper is: `python -m nbody.report CHECKPOINT [--json] [--picture FILE]`."""

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from nbody.comparison import LONG_RUN_RULES, REFERENCE_ERROR, compare, long_runs
from nbody.config import Config, parse_override
from nbody.errors import NBodyError
from nbody.evaluation import TARGET_VIOLATION
from nbody.stepper import load_stepper

# Fields that not every kind of system has.
OF_A_POPULATION = {
    *("num_particles", "num_systems", "num_orbits", "dim", "mass_ratio_min", "lifetime"),
    *("resample_each_epoch", "ic_path", "particles"),
}


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
            _draw(report, options.picture)
    except (NBodyError, ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report, indent=2) if options.json else _tables(report))
    return 0


def _report(options: argparse.Namespace) -> dict[str, Any]:
    stepper = load_stepper(options.checkpoint, compiled=options.compile)
    population = _population(stepper.config, dict(map(parse_override, options.set)))
    report = compare(
        stepper, population, seed=options.seed, systems=options.systems, data_folder=options.data
    )
    report["checkpoint"] = str(options.checkpoint)
    report["long_runs"] = []
    if options.orbits:
        for curve in long_runs(
            stepper,
            eccentricity=options.eccentricity,
            orbits=options.orbits,
            rules=options.rule,
        ):
            print(_line_of(curve), file=sys.stderr)
            report["long_runs"].append(curve)
    return report


def _population(trained: Config, changes: dict[str, Any]) -> Config:
    """The config of training with changes; another kind of system begins with its own defaults."""
    given = trained.model_dump()
    if changes.get("initial_conditions", trained.initial_conditions) != trained.initial_conditions:
        defaults = Config().model_dump()
        given = {
            name: value
            for name, value in given.items()
            if name not in OF_A_POPULATION and value != defaults[name]
        }
    return Config.model_validate({**given, **changes})


def _tables(report: dict[str, Any]) -> str:
    lines = [
        report["population"],
        f"held-out systems: {report['systems']}, states: {report['states']}, seed {report['seed']}",
        "",
        f"{'rule':28} {'η':>7} {'V':>8} {'O':>8} {'factor':>8} {'η cal.':>7} {'V cal.':>8}",
    ]
    lines += [
        f"{name:28} {row['efficiency']:7.3f} {row['violation_rate']:8.2%} "
        f"{row['overshoot_rate']:8.2%} {row['calibration_factor']:8.3f} "
        f"{row['calibrated_efficiency']:7.3f} {row['calibrated_violation_rate']:8.2%}"
        for name, row in report["scores"].items()
    ]
    lines += _remarks(report)
    bins = report.get("by_eccentricity", [])
    if bins:
        heads = " ".join(f"{row['from']:5.2f}-{row['to']:4.2f}" for row in bins)
        lines += ["", f"{'η cal. by eccentricity':28} {heads}"]
        lines += [
            f"{name:28} " + " ".join(f"{row['efficiency'][name]:10.3f}" for row in bins)
            for name in report["scores"]
        ]
    for curve in report["long_runs"]:
        if curve is report["long_runs"][0]:
            lines += [
                "",
                f"e = {curve['eccentricity']}, {curve['orbits']} orbits: forces per orbit",
            ]
        lines.append(_line_of(curve))
    return "\n".join(lines)


def _remarks(report: dict[str, Any]) -> list[str]:
    """What to know of the calibrated columns before they are compared."""
    if report["systems"] == 1:
        return ["", "One fixed system: calibrated and reported on the same states."]
    rates = [row["calibrated_violation_rate"] for row in report["scores"].values()]
    if max(rates) > 2 * TARGET_VIOLATION:
        beyond = f"V cal. beyond {TARGET_VIOLATION:.1%}: calibrated on few states"
        return ["", f"{beyond}; use more --systems."]
    return []


def _line_of(curve: dict[str, Any]) -> str:
    """A rule's name, some of its points, and what it needs for the reference error."""
    reference = curve.get("forces_at_reference_error")
    told = "" if reference is None else f"  ({reference:.0f} for {REFERENCE_ERROR:g})"
    points = list(zip(curve["forces_per_orbit"], curve["max_energy_error"], strict=True))
    shown = ", ".join(f"{forces:.0f}: {error:.1e}" for forces, error in points[::3])
    return f"{curve['rule']:38}{shown}{told}"


def _draw(report: dict[str, Any], path: Path) -> None:
    """Bars of the calibrated efficiencies and, where there are long runs, cost against error.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    try:
        figure_module: Any = import_module("matplotlib.figure")
    except ModuleNotFoundError as error:
        message = "a picture needs matplotlib: pip install 'orrery[plot]'"
        raise ModuleNotFoundError(message) from error
    runs = report["long_runs"]
    figure = figure_module.Figure(figsize=(12 if runs else 7, 5), layout="constrained")
    panels = figure.subplots(1, 2 if runs else 1, squeeze=False)[0]
    names = list(report["scores"])
    values = [report["scores"][name]["calibrated_efficiency"] for name in names]
    panels[0].barh(names[::-1], values[::-1])
    panels[0].set_xlabel("calibrated efficiency (oracle steps / steps, V ≤ 0.1 %)")
    panels[0].set_xlim(0, 1)
    for curve in runs:
        panels[1].plot(
            curve["forces_per_orbit"], curve["max_energy_error"], marker=".", label=curve["rule"]
        )
    if runs:
        panels[1].set(xscale="log", yscale="log")
        panels[1].set_xlabel("force evaluations per orbit")
        panels[1].set_ylabel(f"max |ΔE/E| over {runs[0]['orbits']} orbits")
        panels[1].legend(fontsize="x-small")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(main())
