"""Files and numbers as records hold them."""

import hashlib
import math
from pathlib import Path
from typing import Any, cast


def sha256(path: Path) -> str:
    """Of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_file(path: Path, data: Path) -> dict[str, Any]:
    """Path relative to the data folder, size and sha256 of a file."""
    return {
        "path": path.relative_to(data).as_posix(),
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
    }


def replace_nonfinite(value: Any) -> Any:
    """Plain data with null in the place of numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: replace_nonfinite(item) for key, item in cast(dict[str, Any], value).items()}
    if isinstance(value, list):
        return [replace_nonfinite(item) for item in cast(list[Any], value)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
