"""Files in the data folder, by the path in their row: never outside their job's own folder."""

import contextlib
import re
import secrets
import shutil
import stat
from pathlib import Path

from nbody.confined_path import PathEscapes, confined
from nbody.durable_file import write_durably
from server.errors import NotFound, RangeImpossible, RangeMalformed

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def folder_id(mark: Path) -> str:
    """What the mark of a data folder holds; the file is made where it is not there.

    Raises:
        OSError: it cannot be read or written.
    """
    if not mark.exists():
        text = f"folder_{secrets.token_hex(16)}"
        write_durably(mark, lambda path: path.write_text(f"{text}\n", encoding="ascii"))
    return mark.read_text(encoding="ascii").strip()


def locate(data_folder: Path, relative: str, size: int) -> Path:
    """The file of a row's path.

    Args:
        size: that it had when it was recorded [bytes].

    Raises:
        NotFound: it is gone, another one, or the path leads out of the job's own folder.
    """
    try:
        path = _in_job_folder(data_folder, relative)
        status = path.stat(follow_symlinks=False)
    except (PathEscapes, OSError):
        raise NotFound(f"file {Path(relative).name}") from None
    if not stat.S_ISREG(status.st_mode) or status.st_size != size:
        raise NotFound(f"file {path.name} as it was recorded")
    return path


def file_size(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def remove_file(data_folder: Path, relative: str) -> bool:
    """Delete a file of a row that is gone; nothing outside the job's own folder.

    Returns:
        Whether nothing of it is left.
    """
    with contextlib.suppress(OSError, PathEscapes):
        _in_job_folder(data_folder, relative).unlink(missing_ok=True)
    return not (data_folder / relative).exists()


def remove_folder(data_folder: Path, relative: str) -> bool:
    """Delete a job's folder with all that is in it; nothing outside the data folder.

    Returns:
        Whether nothing of it is left.
    """
    with contextlib.suppress(PathEscapes):
        shutil.rmtree(_in_job_folder(data_folder, relative), ignore_errors=True)
    return not (data_folder / relative).exists()


def _in_job_folder(data_folder: Path, relative: str) -> Path:
    """The real path of `SAVE_NAME/JOB` or of something in it; no link leads there or out of it.

    Raises:
        PathEscapes
    """
    job = Path(*Path(relative).parts[:2])
    folder = confined(data_folder, str(job))
    path = confined(data_folder, relative)
    if folder != data_folder.resolve() / job or not path.is_relative_to(folder):
        raise PathEscapes(relative)
    return path


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
