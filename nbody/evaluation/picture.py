"""The scores of a stepper as a picture."""

from pathlib import Path
from typing import Any

from nbody.simulation.picture import new_figure


def draw(report: dict[str, Any], path: Path) -> None:
    """Bars of the calibrated efficiencies and, where there are long runs, cost against error.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    runs = report["long_runs"]
    figure = new_figure(12.0 if runs else 7.0, 5.0)
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
