"""What a file's bytes are, by their sha256."""

import hashlib
from pathlib import Path


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
