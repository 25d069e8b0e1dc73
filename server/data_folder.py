"""Files in the data folder, by the path in their row: never outside it."""

import contextlib
import re
import shutil
from pathlib import Path

from server.errors import NotFound, RangeImpossible, RangeMalformed

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


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


def file_size(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def remove_file(data_folder: Path, relative: str) -> bool:
    """Delete a file of a row that is gone; nothing outside the data folder.

    Returns:
        Whether nothing of it is left.
    """
    root = data_folder.resolve()
    path = (root / relative).resolve()
    if path.is_relative_to(root) and path.is_file():
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    return not path.exists()


def remove_folder(data_folder: Path, relative: str) -> bool:
    """Delete a job's folder with all that is in it; nothing outside the data folder.

    Returns:
        Whether nothing of it is left.
    """
    root = data_folder.resolve()
    path = (root / relative).resolve()
    if path.is_relative_to(root) and path != root:
        shutil.rmtree(path, ignore_errors=True)
    return not (root / relative).exists()


def check_range(header: str | None, size: int) -> None:
    """Let one satisfiable range pass; several at once serve nobody here and cost much.

    Raises:
        RangeMalformed, RangeImpossible
    """
    if header is None:
        return
    match = RANGE.fullmatch(header.replace(" ", ""))
    if match is None:
        raise RangeMalformed
    first, last = match[1], match[2]
    if first == last == "" or (first and last and int(first) > int(last)):
        raise RangeMalformed
    if int(first) >= size if first else int(last) == 0:
        raise RangeImpossible(size)
