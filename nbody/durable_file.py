"""Files that are either whole and durable, or not there."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_durably(path: Path, write: Callable[[Path], object], mode: int = 0o644) -> Path:
    """Let `write` fill a file under a temporary name; sync, rename, and sync the folder."""
    make_folder_durably(path.parent)
    descriptor, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.stem}.", suffix=f".tmp{path.suffix}"
    )
    temporary = Path(name)
    try:
        write(temporary)
        os.fsync(descriptor)
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    sync_folder(path.parent)
    return path


def make_folder_durably(folder: Path, mode: int = 0o777) -> None:
    """Make a folder with all above it; each one that is new is in its parent after a power cut.

    Args:
        mode: of the folder itself, as `Path.mkdir` takes it.
    """
    if folder.is_dir():
        return
    make_folder_durably(folder.parent)
    folder.mkdir(mode, exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, as hexadecimal digits.

    Raises:
        OSError
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_file_of(path: Path, sha256: str) -> bool:
    """Whether there is a file, and its bytes have that sha256.

    Raises:
        OSError: it is there, and cannot be read.
    """
    try:
        return sha256_of(path) == sha256
    except FileNotFoundError:
        return False


def is_at(path: Path, file: int) -> bool:
    """Whether an open file is still there under its name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False
