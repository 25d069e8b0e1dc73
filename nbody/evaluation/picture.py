"""The scores of a stepper as a picture."""

from pathlib import Path
from typing import Any

from nbody.simulation.picture import new_figure


def draw_look(look: dict[str, Any], path: Path) -> None:
    """η over eccentricity, where systems are of two bodies, and the histogram of dt/dt*.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    bins, edges = look["by_eccentricity"], look["ratios"]["edges"]
    figure = new_figure(12.0 if bins else 7.0, 5.0)
    *left, right = figure.subplots(1, 2 if bins else 1, squeeze=False)[0]
    for rule, shares in look["ratios"]["shares"].items():
        right.stairs(shares, edges, label=rule)
    right.set(xscale="log", xlabel="dt / dt*", ylabel="share of held-out states")
    for panel in left:
        middle = [(each["from"] + each["to"]) / 2 for each in bins]
        for rule in bins[0]["efficiency"]:
            panel.plot(middle, [each["efficiency"][rule] for each in bins], "o-", label=rule)
        panel.set(xlabel="eccentricity", ylabel="calibrated efficiency", ylim=(0, 1.05))
    for panel in (*left, right):
        panel.legend(fontsize="x-small")
    figure.savefig(path, dpi=120, format="png")


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
