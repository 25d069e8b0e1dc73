"""Figures of jobs, with axes, units and legends: each function draws on one set of axes.

Legend: K states of a run, N particles.
"""

import difflib
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from nbody.metrics import METRIC_NAMES
from server.results.errors import NothingToShow, PackageMissing
from server.results.run import Json, Run

WIDTH, HEIGHT = 5.6, 3.8  # inches of one panel
DEFAULT_KEYS = ["part2/efficiency", "part2/final_pass_rate", "part2/max_rel_dE"]
LOGARITHMIC = {"part2/max_rel_dE", "part2/mean_rel_dE", "part1/mean_energy_error"}
MARKED = {"resumed": "resumed", "paused": "paused", "failed": "failed", "cancelled": "cancelled"}

Draw = Callable[[Any], None]  # on matplotlib's Axes


class Panel(NamedTuple):
    """One figure: what it is called in a file's name, and what draws it."""

    name: str
    draw: Draw


def new_figure(panels: int = 1, columns: int = 2) -> tuple[Any, list[Any]]:
    """A matplotlib figure with so many axes.

    Raises:
        PackageMissing: matplotlib is not installed.
    """
    try:
        figures: Any = import_module("matplotlib.figure")
    except ModuleNotFoundError:
        raise PackageMissing("matplotlib", "plot", "a figure") from None
    across = min(panels, columns)
    down = -(-panels // across)
    figure = figures.Figure(figsize=(WIDTH * across, HEIGHT * down), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for spare in axes[panels:]:
        spare.set_axis_off()
    return figure, axes[:panels]


def draw_panels(panels: Sequence[Panel]) -> Any:
    """All panels in one figure."""
    figure, axes = new_figure(len(panels))
    for panel, place in zip(panels, axes, strict=True):
        panel.draw(place)
    return figure


def panels_of(runs: Sequence[Run], keys: Sequence[str] | None = None) -> list[Panel]:
    """What there is to draw of jobs: curves of trainings together, scores, orbits of each.

    Args:
        keys: metrics of trainings; three usual ones where none are given.

    Raises:
        NothingToShow: nothing is there to be drawn, or there is no such metric.
    """
    for key in keys or ():
        _check_metric(key)
    trained = [run for run in runs if run.kind == "train" and run.epochs]
    names = titles(runs)
    panels = [Panel(key.replace("/", "_"), curves(trained, key, names)) for key in keys or ()]
    if not keys and trained:
        panels = [Panel(key.replace("/", "_"), curves(trained, key, names)) for key in DEFAULT_KEYS]
    if keys and not trained:
        raise NothingToShow("none of these jobs has metrics: only trainings have them")
    for run in () if keys else runs:
        panels += _of_one(run, names[run.id])
    if not panels:
        raise NothingToShow("there is nothing to draw of these jobs yet: none has epochs, or ended")
    return panels


def _check_metric(key: str) -> None:
    if key not in METRIC_NAMES:
        near = difflib.get_close_matches(key, METRIC_NAMES, n=3, cutoff=0.3) or METRIC_NAMES
        raise NothingToShow(f"there is no metric {key!r}; there is {', '.join(near)}")


def titles(runs: Sequence[Run]) -> dict[str, str]:
    """What each job is called in legends, by its id: no two the same."""
    known = [run.title for run in runs]
    return {
        run.id: run.title if known.count(run.title) == 1 else f"{run.title} …{run.id[-5:]}"
        for run in runs
    }


def _of_one(run: Run, name: str) -> list[Panel]:
    prefix = f"{name}_"
    panels: list[Panel] = []
    if (held := run.held_out) is not None:
        if held["by_eccentricity"]:
            panels.append(Panel(f"{prefix}eta", efficiency_over_eccentricity(held, name)))
        panels.append(Panel(f"{prefix}ratios", step_ratios(held, name)))
    if (way := run.way) is not None:
        panels.append(Panel(f"{prefix}orbit", orbit(way, name)))
        panels.append(Panel(f"{prefix}energy", energy_error(way, name)))
    return panels


def curves(runs: Sequence[Run], key: str, names: dict[str, str]) -> Draw:
    """A metric of trainings over their epochs; of a single one with what happened to it."""

    def draw(axes: Any) -> None:
        axes.xaxis.get_major_locator().set_params(integer=True)
        for run in runs:
            epochs, values = run.series(key)
            marker = "." if len(epochs) < 40 else None
            axes.plot(
                epochs,
                _numbers(values),
                label=as_it_is(names[run.id]),
                linewidth=1.3,
                marker=marker,
            )
        if len(runs) == 1:
            _mark_events(axes, runs[0])
        axes.set(xlabel="epoch", ylabel=key)
        if key in LOGARITHMIC:
            axes.set_yscale("log", nonpositive="mask")
        _finish(axes)

    return draw


def _mark_events(axes: Any, run: Run) -> None:
    for event in run.events:
        word = MARKED.get(event["type"])
        if word and isinstance(event["data"].get("epoch"), int):
            axes.axvline(event["data"]["epoch"], color="0.5", linestyle=":", linewidth=1)
            place = (event["data"]["epoch"], 0.98)
            axes.annotate(
                word, place, xycoords=axes.get_xaxis_transform(), rotation=90, va="top", fontsize=7
            )


def efficiency_over_eccentricity(held: Json, name: str) -> Draw:
    """Calibrated η of each rule in bins of eccentricity."""
    bins = held["by_eccentricity"]

    def draw(axes: Any) -> None:
        middle = [(each["from"] + each["to"]) / 2 for each in bins]
        for rule in bins[0]["efficiency"]:
            axes.plot(
                middle, [each["efficiency"][rule] for each in bins], marker="o", ms=3, label=rule
            )
        axes.set(
            xlabel="eccentricity e", ylabel="calibrated η", ylim=(0, 1.05), title=as_it_is(name)
        )
        _finish(axes)

    return draw


def step_ratios(held: Json, name: str) -> Draw:
    """The histogram of dt/dt*, of the network as it is and of the other rules calibrated."""
    edges, shares = held["ratios"]["edges"], held["ratios"]["shares"]

    def draw(axes: Any) -> None:
        for rule, values in shares.items():
            how = "as it is" if rule == held["rule"] else "calibrated"
            axes.stairs(values, edges, label=f"{rule} ({how})")
        axes.axvline(1, color="0.5", linewidth=1)
        axes.set(
            xscale="log", xlabel="dt / dt*", ylabel="share of held-out states", title=as_it_is(name)
        )
        _finish(axes)

    return draw


def orbit(way: Json, name: str, state: int | None = None) -> Draw:
    """Where bodies went, up to a state, each place in the colour of the step taken there."""

    def draw(axes: Any) -> None:
        import numpy as np  # noqa: PLC0415 - not for the command line's start

        position = np.asarray(way["position"])[: None if state is None else state + 1]
        dt = np.asarray(way["dt"])
        norm: Any = import_module("matplotlib.colors").LogNorm(*step_range(dt))
        taken = np.repeat(dt[: len(position)], position.shape[1])
        x, y = position[..., 0].ravel(), position[..., 1].ravel()
        axes.plot(position[..., 0], position[..., 1], color="0.8", linewidth=0.4, zorder=0)
        dots = axes.scatter(x, y, c=taken, s=4, norm=norm, cmap="viridis", linewidths=0)
        axes.figure.colorbar(dots, ax=axes, label="dt")
        axes.set(xlabel="x", ylabel="y", title=of_way(way, name))
        axes.set_aspect("equal", adjustable="datalim")

    return draw


def of_way(way: Json, name: str) -> str:
    """What a figure of a simulation is of."""
    first = f", first of {way['systems']} systems" if way.get("systems", 1) > 1 else ""
    return as_it_is(f"{name} ({way['rule']}{first})")


def step_range(dt: Any) -> tuple[float, float]:
    """From which step to which colours go: the few that are far off have those of the ends."""
    import numpy as np  # noqa: PLC0415

    positive = dt[dt > 0]
    if not len(positive):
        return 1.0, 10.0
    low, high = (float(each) for each in np.quantile(positive, (0.02, 0.98)))
    return low, max(high, low * 1.01)


def energy_error(way: Json, name: str) -> Draw:
    """|ΔE/E| since the start, and the threshold of one step."""

    def draw(axes: Any) -> None:
        time = [abs(each) for each in way["time"]]
        axes.plot(time, _numbers(way["energy_error"]), linewidth=1, label="|ΔE/E|")
        threshold = way["threshold"]
        axes.axhline(threshold, color="0.5", linestyle=":", label="threshold of one step")
        axes.set(xlabel="time", ylabel="|ΔE/E| since the start", title=of_way(way, name))
        axes.set_yscale("log", nonpositive="mask")
        _finish(axes)

    return draw


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def as_it_is(text: str) -> str:
    """Text that users wrote, for matplotlib: no formula, whatever signs are in it."""
    return text.replace("$", r"\$")


def _finish(axes: Any) -> None:
    axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small")
