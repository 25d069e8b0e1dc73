"""A simulation as a film: bodies move with the time of the system, and leave their steps behind."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from server.results.drawing import new_figure, of_way, step_range
from server.results.errors import NothingToShow, PackageMissing
from server.results.run import Run

FORMATS = (".mp4", ".gif")
DPI = 110


def film(run: Run, path: Path, *, seconds: float = 10.0, rate: int = 30) -> Path:
    """Draw the way of a simulation's first system to an mp4 or a gif.

    Args:
        seconds: the film lasts.
        rate: pictures a second.

    Raises:
        NothingToShow: the job is no simulation that is over.
        PackageMissing: matplotlib or imageio-ffmpeg is not installed.
        ValueError: the file's name ends in neither.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"a film is written as {' or '.join(FORMATS)}, by its name's ending")
    if (way := run.way) is None:
        raise NothingToShow(f"{run.title} has no orbit: it is no simulation that is over")
    figure, [axes] = new_figure()
    draw = _painter(axes, way, run.title)
    frames = max(2, round(seconds * rate))
    span = abs(way["time"][-1] - way["time"][0])
    figure.canvas.draw()
    figure.set_layout_engine("none")  # laid out once: else it takes most of the time
    animation: Any = import_module("matplotlib.animation")
    writer = _writer(animation, path, rate)
    with writer.saving(figure, str(path), DPI):
        for frame in range(frames):  # even in the system's own time
            draw(span * frame / (frames - 1))
            writer.grab_frame()
    return path


def _writer(animation: Any, path: Path, rate: int) -> Any:
    if path.suffix == ".gif":
        return animation.PillowWriter(fps=rate)
    try:
        ffmpeg: Any = import_module("imageio_ffmpeg")
    except ModuleNotFoundError:
        raise PackageMissing("imageio-ffmpeg", "plot", "an mp4 film") from None
    matplotlib: Any = import_module("matplotlib")
    matplotlib.rcParams["animation.ffmpeg_path"] = ffmpeg.get_ffmpeg_exe()
    even = ["-pix_fmt", "yuv420p", "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2"]  # what players can do
    return animation.FFMpegWriter(fps=rate, codec="libx264", extra_args=even)


def _painter(axes: Any, way: dict[str, Any], name: str) -> Callable[[float], None]:
    """What draws the system at a time since its start.

    A body is shown where its last step took it: between two steps nothing is known.
    """
    import numpy as np  # noqa: PLC0415 - not for the command line's start

    position, dt = np.asarray(way["position"]), np.asarray(way["dt"])
    passed = np.abs(np.asarray(way["time"]) - way["time"][0])
    low, high = position.reshape(-1, position.shape[-1]).min(0), position.max((0, 1))
    room = 0.05 * max(high[:2] - low[:2]).item() or 1.0
    norm: Any = import_module("matplotlib.colors").LogNorm(*step_range(dt))
    trail = axes.scatter([], [], c=[], s=4, norm=norm, cmap="viridis", linewidths=0)
    bodies = axes.scatter(*position[0, :, :2].T, s=28, color="C3", zorder=3)
    axes.set(xlim=(low[0] - room, high[0] + room), ylim=(low[1] - room, high[1] + room))
    axes.set(xlabel="x", ylabel="y")
    axes.set_aspect("equal")
    axes.figure.colorbar(trail, ax=axes, label="dt")

    def draw(time: float) -> None:
        now = int(np.searchsorted(passed, time, side="right"))
        trail.set_offsets(position[:now, :, :2].reshape(-1, 2))
        trail.set_array(np.repeat(dt[:now], position.shape[1]))
        bodies.set_offsets(position[now - 1, :, :2])
        axes.set_title(f"{of_way(way, name)}   t = {time:.4g}", fontsize="medium")

    return draw
