"""Where a worker's jobs work: in the server's folder, or in one of their own, with files sent."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from server.wire.workers import Assignment, FileWays
from worker.client import WorkerClient
from worker.files.inputs import take_inputs
from worker.files.scratch import Cache, clear
from worker.files.transport import FileTransport, InPlace
from worker.files.uploads import Uploads
from worker.settings import WorkerSettings


@dataclass(frozen=True)
class Room:
    """A folder for jobs.

    Attributes:
        data: that jobs see as their data folder.
        cache: what is kept for the next job; None where the server sees the folder.
    """

    data: Path
    cache: Cache | None = None

    @classmethod
    def of(cls, settings: WorkerSettings, ways: FileWays) -> "Room":
        """By how files travel between this worker and its server."""
        if ways == "shared":
            return cls(settings.data)
        own = settings.state_folder
        return cls(own / "scratch", Cache(own / "cache", settings.cache_bytes))

    def transport(self, client: WorkerClient, lease_id: str) -> FileTransport:
        """How the files of an attempt get to the server."""
        if self.cache is None:
            return InPlace()
        return Uploads(client, lease_id, self.data, self.cache.add)

    def furnish(
        self,
        client: WorkerClient,
        assignment: Assignment,
        keep_alive: Callable[[], None],
        stopping: threading.Event,
    ) -> None:
        """Lay the files there that a job begins with.

        Raises:
            Unreachable, ServerRefused, OSError, and what `keep_alive` raises
        """
        if self.cache is not None:
            take_inputs(client, assignment, self.data, self.cache, keep_alive, stopping)

    def leave(self, assignment: Assignment) -> None:
        """Take away what a job has left here."""
        if self.cache is not None:
            clear(self.data, [(self.data / assignment.output_folder).parent])

    def sweep(self) -> None:
        """Take away what all jobs left, and began with, when nothing of any is to be delivered."""
        if self.cache is not None:
            clear(self.data, self.data.glob("*/job_*"))
