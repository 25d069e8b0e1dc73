"""A worker's name, which is its own in a data folder for as long as it runs."""

import fcntl
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from nbody.durable_file import is_at
from worker.settings import ANY_NUMBER, WorkerSettings

MOST = 1000  # workers of one pattern
TRIES = 10  # while the folder goes away under it


class AlreadyRunning(Exception):
    """Another agent with this name works in this data folder."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"another worker named {name!r} runs in this data folder; give this one another --name"
        )


class FolderUnusable(Exception):
    """There can be no data folder where it was to be."""

    def __init__(self, folder: Path, error: OSError) -> None:
        why = error.strerror
        super().__init__(f"{folder} cannot be a data folder ({why}); name another --data")


@contextmanager
def own_name(settings: WorkerSettings) -> Generator[WorkerSettings]:
    """Hold a name's lock. In `worker-*` the star is the least number that no agent has, so that a
    container that is made again finds what the one before it left.

    Raises:
        AlreadyRunning, FolderUnusable
    """
    try:
        (settings.data / ".orrery").mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise FolderUnusable(settings.data, error) from error
    for name in _names(settings.name):
        named = replace(settings, name=name)
        with _held(named.state_folder) as is_mine:
            if is_mine:
                yield named
                return
    raise AlreadyRunning(settings.name)


@contextmanager
def _held(folder: Path) -> Generator[bool]:
    """Whether the lock of a folder was free; others take away folders that nobody uses."""
    for _ in range(TRIES):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = (folder / "lock").open("w")
        except FileNotFoundError:
            continue
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                break
            if is_at(folder / "lock", lock.fileno()):
                yield True
                return
    yield False


def _names(pattern: str) -> Iterator[str]:
    if not pattern.endswith(ANY_NUMBER):
        yield pattern
        return
    for number in range(1, MOST + 1):
        yield f"{pattern.removesuffix(ANY_NUMBER)}{number}"
