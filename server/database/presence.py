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
            f"{path} was deleted, replaced or changed by others while the server runs; nothing is "
            "written any more. Restart the server: it says what to do"
        )


class Presence:
    """The files of one open database, as they were when first looked at."""

    def __init__(self, database: Path) -> None:
        self._paths = [f"{database}{end}" for end in ENDS]
        self._known: list[tuple[int, int]] = []
        self._written: tuple[int, int, int] | None = None

    def check_untouched(self) -> None:
        """Compare what is in the files with what the last write left there: nobody else writes.

        Raises:
            DatabaseTakenAway
        """
        if self._written is not None:
            when, size, of_log = self._content()
            if (when, size) != self._written[:2] or of_log < self._written[2]:
                raise DatabaseTakenAway(Path(self._paths[0]))

    def check(self) -> None:
        """Compare with the first look. The database is open, and was just written to.

        Raises:
            DatabaseTakenAway
        """
        self._written = self._content()
        found = [_file_at(path) for path in self._paths]
        if not self._known:
            self._known = found
        for path, now, before in zip(self._paths, found, self._known, strict=True):
            if now != before or now == (0, 0):
                raise DatabaseTakenAway(Path(path))

    def _content(self) -> tuple[int, int, int]:
        """When the database file was written and its size, and that of its log."""
        try:
            file, log = (os.stat(path) for path in self._paths[:2])  # noqa: PTH116 - likewise
        except FileNotFoundError:
            return 0, 0, 0
        return file.st_mtime_ns, file.st_size, log.st_size


def _file_at(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116 - for each commit
    except FileNotFoundError:
        return 0, 0
    return status.st_dev, status.st_ino
