"""Files and numbers as records hold them."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from nbody.durable_file import sha256_of, write_durably
from server.wire.workers import Assignment
from worker.spool import SpoolWriter


def describe_file(path: Path, data: Path) -> dict[str, Any]:
    """Path relative to the data folder, size and sha256 of a file."""
    return {
        "path": path.relative_to(data).as_posix(),
        "bytes": path.stat().st_size,
        "sha256": sha256_of(path),
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


class Artifacts:
    """The files that an attempt leaves besides its checkpoints."""

    def __init__(self, assignment: Assignment, data: Path, spool: SpoolWriter) -> None:
        self._folder, self._data, self._spool = assignment.output_folder, data, spool

    def keep(self, name: str, write: Callable[[Path], object]) -> None:
        """A file: durable first, then its record."""
        path = write_durably(self._data / self._folder / name, write)
        self._spool.append("artifact", describe_file(path, self._data))

    def keep_json(self, name: str, content: Any, *, indent: int | None = None) -> None:
        """Plain data as a file; numbers that JSON does not have are null in it."""
        text = json.dumps(replace_nonfinite(content), indent=indent)
        self.keep(name, lambda path: path.write_text(text))
