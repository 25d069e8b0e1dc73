"""A worker's own folder for jobs: what it keeps for the next one, and what it takes away."""

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from nbody.durable_file import is_file_of
from worker.wandb_journal import Journal


class Cache:
    """Files by their sha256, the ones that were used last.

    Args:
        most_bytes: of all of them.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self._most_bytes = folder, most_bytes

    def find(self, sha256: str) -> Path | None:
        """A file, if it is here and whole."""
        path = self._folder / sha256
        if not is_file_of(path, sha256):
            path.unlink(missing_ok=True)
            return None
        os.utime(path)
        return path

    def partial(self, sha256: str) -> Path:
        """Where to write one that comes; of an earlier try the beginning may be there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / f"{sha256}.part"

    def keep(self, partial: Path, sha256: str) -> Path | None:
        """Keep one that has come, if it is what it is to be."""
        path = self._folder / sha256
        partial.replace(path)
        found = self.find(sha256)
        self._thin(but=path)
        return found

    def add(self, path: Path, sha256: str) -> None:
        """Keep a file of this worker's own, for whoever goes on with it here."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # gone, there already, or no links: it can be had from the server
            os.link(path, self._folder / sha256)
        self._thin()

    def _thin(self, but: Path | None = None) -> None:
        found: list[tuple[float, int, Path]] = []
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):  # another slot's look took it
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        room = self._most_bytes - sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if room < 0 and path != but:
                room += size
                path.unlink(missing_ok=True)


def clear(data: Path, job_folders: Iterable[Path]) -> None:
    """Take away folders of jobs, but those of which W&B is still to be told."""
    for folder in job_folders:
        if not Journal.of(data, folder.name).folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # other jobs are in it
                folder.parent.rmdir()
