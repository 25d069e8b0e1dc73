"""Runs as a picture: where each particle went, with a dot at every step."""

from importlib import import_module
from pathlib import Path
from typing import Any

from nbody.simulation.finished import Simulation

PANEL = 4.2  # inches
INK = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf")


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure of so many inches.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    try:
        figures: Any = import_module("matplotlib.figure")
    except ModuleNotFoundError as error:
        message = "a picture needs matplotlib: pip install 'orrery[plot]'"
        raise ModuleNotFoundError(message) from error
    return figures.Figure(figsize=(width, height), layout="constrained")


def draw_runs(runs: dict[str, Simulation], path: Path) -> None:
    """Draw runs of one system each, side by side, to a PNG, SVG or PDF file.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    figure = new_figure(PANEL * len(runs), PANEL)
    panels = figure.subplots(1, len(runs), squeeze=False)[0]
    for panel, (name, run) in zip(panels, runs.items(), strict=True):
        for number, way in enumerate(run.position.unbind(1)):  # (K, D) of each particle
            x, y, *_ = way.cpu().numpy().T
            ink = INK[number % len(INK)]
            panel.plot(x, y, linewidth=0.5, color=ink, alpha=0.4)
            panel.plot(x, y, linestyle="none", marker=".", markersize=4, color=ink)
        error = float(run.energy_error.max())
        panel.set_title(f"{name}: {run.steps} steps, |ΔE/E| ≤ {error:.1e}", fontsize="medium")
        panel.set_aspect("equal")
        panel.set_axis_off()
    figure.savefig(path, dpi=160, bbox_inches="tight")
