"""What a job begins with, taken from the server: a checkpoint, initial conditions.

Each is kept by its sha256, so that the next job of the kind finds it.
"""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from nbody.durable_file import is_file_of
from server.wire.workers import Assignment
from worker.back_off import BackOff
from worker.client import FileRefused, Unreachable, WorkerClient
from worker.files.scratch import Cache

RETRIES = 10  # of one file, where its connection ends again and again


def take_inputs(
    client: WorkerClient,
    assignment: Assignment,
    data: Path,
    cache: Cache,
    keep_alive: Callable[[], None],
    stopping: threading.Event,
) -> None:
    """Lay the files that a job begins with where its process looks for them.

    The first checkpoint that can be had is enough; one that cannot is left out, as if it were not
    there.

    Args:
        data: the folder of the process.
        keep_alive: called at least with each megabyte; what it raises ends this.
        stopping: ends waits.

    Raises:
        Unreachable, ServerRefused, OSError
    """
    lease_id = assignment.lease_id

    def take(path: str, sha256: str | None = None) -> bool:
        back_off, failures = BackOff(stopping), 0
        while True:
            try:
                kept = _kept(client, lease_id, path, sha256, cache, keep_alive)
            except Unreachable:
                failures += 1
                if failures > RETRIES:
                    raise
                back_off.wait()
                keep_alive()
            else:
                if kept is not None:
                    _lay(kept, data / path)
                return kept is not None

    for point in assignment.resume_from:
        if is_file_of(data / point.path, point.sha256) or take(point.path, point.sha256):
            break
    if (path := assignment.config.ic_path) is not None:
        take(path)


def _kept(
    client: WorkerClient,
    lease_id: str,
    path: str,
    sha256: str | None,
    cache: Cache,
    keep_alive: Callable[[], None],
) -> Path | None:
    """A file in the cache, taken if need be; None where it is gone, or another one by now."""
    try:
        sha256 = sha256 or client.sha256_of(lease_id, path)
        if (found := cache.find(sha256)) is not None:
            return found
        partial = cache.partial(sha256)
        client.take(lease_id, path, partial, keep_alive)
    except FileRefused:
        return None
    return cache.keep(partial, sha256)


def _lay(kept: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    try:
        os.link(kept, place)
    except OSError:  # a file system without links
        shutil.copyfile(kept, place)
