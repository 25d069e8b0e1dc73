"""The scores of a stepper as text."""

from typing import Any

from nbody.evaluation.score import TARGET_VIOLATION


def report_text(report: dict[str, Any]) -> str:
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
        lines.append(curve_line(curve))
    return "\n".join(lines)


def _remarks(report: dict[str, Any]) -> list[str]:
    """What to know of the columns before they are compared."""
    told: list[str] = []
    if outside := report["outside_training"]:
        told.append(
            f"{outside:.2%} of the states are not like those of the training: a simulation finds "
            "their steps by trying. The scores are of the network alone."
        )
    rates = [row["calibrated_violation_rate"] for row in report["scores"].values()]
    if report["systems"] == 1:
        told.append("One fixed system: calibrated and reported on the same states.")
    elif max(rates) > 2 * TARGET_VIOLATION:
        beyond = f"V cal. beyond {TARGET_VIOLATION:.1%}: calibrated on few states"
        told.append(f"{beyond}; use more --systems.")
    if cost := report.get("wall_time"):
        told.append(
            f"One call of the stepper takes {1e6 * cost['stepper_s']:.0f} µs, one force "
            f"{1e6 * cost['force_s']:.0f} µs: of one system; of {cost['batch']} at once "
            f"{1e6 * cost['stepper_batch_s']:.1f} and {1e6 * cost['force_batch_s']:.1f} µs each."
        )
    return ["", *told] if told else []


def curve_line(curve: dict[str, Any]) -> str:
    """A rule's name, some of its points, and what it needs for the reference error."""
    reference = curve.get("forces_at_reference_error")
    told = "" if reference is None else f"  ({reference:.0f} for {curve['reference_error']:g})"
    points = list(zip(curve["forces_per_orbit"], curve["max_energy_error"], strict=True))
    shown = ", ".join(f"{forces:.0f}: {error:.1e}" for forces, error in points[::3])
    return f"{curve['rule']:38}{shown}{told}"
