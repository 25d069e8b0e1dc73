"""Whether the files of an open database are still those at its path.

SQLite goes on writing to files that were deleted or replaced, and what it acknowledges then is gone
with the process.
"""

import os
from pathlib import Path

ENDS = ("", "-wal", "-shm")


class DatabaseTakenAway(OSError):
    """A file of the database was deleted or replaced while the server runs."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} was deleted or replaced while the server runs; nothing is written any more. "
            "Restart the server: it says what to do"
        )


class Presence:
    """The files of one open database, as they were when first looked at."""

    def __init__(self, database: Path) -> None:
        self._paths = [f"{database}{end}" for end in ENDS]
        self._known: list[tuple[int, int]] = []

    def check(self) -> None:
        """Compare with the first look. The database is open, and was written to.

        Raises:
            DatabaseTakenAway
        """
        found = [_file_at(path) for path in self._paths]
        if not self._known:
            self._known = found
        for path, now, before in zip(self._paths, found, self._known, strict=True):
            if now != before or now == (0, 0):
                raise DatabaseTakenAway(Path(path))


def _file_at(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116 - for each commit
    except FileNotFoundError:
        return 0, 0
    return status.st_dev, status.st_ino
