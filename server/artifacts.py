"""Files in the data folder, by the path in their row: never outside it."""

from pathlib import Path

from server.errors import NotFound


def locate(data_folder: Path, relative: str) -> Path:
    """The file of a row's path.

    Raises:
        NotFound: it is gone, or the path leads out of the data folder.
    """
    root = data_folder.resolve()
    path = (root / relative).resolve()
    if not path.is_relative_to(root) or not path.is_file():
        raise NotFound(f"file {Path(relative).name}")
    return path
