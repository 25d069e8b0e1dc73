"""Paths below a folder that lead nowhere else: not out of it, and into nothing hidden in it."""

from pathlib import Path, PurePosixPath


class PathEscapes(ValueError):
    """A path leads out of its folder, or to something hidden there."""

    def __init__(self, relative: str) -> None:
        super().__init__(f"{PurePosixPath(relative).name!r} leads to a place that is not for it")


def confined(folder: Path, relative: str) -> Path:
    """The real path of `relative` in a folder, links followed; it need not exist.

    Raises:
        PathEscapes: it is absolute, goes up, leads out of the folder over a link, or has a part
            that begins with a dot, before or after links are followed.
    """
    parts = PurePosixPath(relative).parts
    root = folder.resolve()
    try:
        path = root.joinpath(*parts).resolve()
        after = path.relative_to(root).parts
    except (ValueError, OSError, RuntimeError):  # out of it; NUL in it; links in a circle
        raise PathEscapes(relative) from None
    if not after or any(part.startswith((".", "/")) for part in (*parts, *after)):
        raise PathEscapes(relative)
    return path
