"""How a run in a process of its own tells the agent where it is, and leaves when it must."""

import time

from nbody.watcher import NoWatcher, Phase, Watcher
from worker.spool import ProgressFile

STOP_GRACE_S = 3.0  # after SIGTERM, for the epoch to end; then the process leaves without it
PROGRESS_INTERVAL_S = 0.2
OF_AN_EPOCH = frozenset({Phase.COLLECT, Phase.GENERALIZE, Phase.CHECKPOINT})  # they come again soon


class StopRequested(Exception):
    """SIGTERM came and the epoch took too long to end."""


class ChildWatcher:
    """Tells the agent where the run is; ends it when it must leave.

    Attributes:
        threads: of the process, looked after while the run goes on.
    """

    def __init__(self, progress: ProgressFile) -> None:
        self._progress = progress
        self._sequence, self._phase, self._told_at = 0, Phase.STARTING, 0.0
        self._asked_at: float | None = None
        self.threads: Watcher = NoWatcher()

    def ask_to_stop(self, *_: object) -> None:
        """Signal handler: leave at the end of the epoch."""
        self._asked_at = self._asked_at or time.monotonic()

    @property
    def stop_asked(self) -> bool:
        """Whether to leave."""
        return self._asked_at is not None

    def phase(self, phase: Phase) -> None:
        """The run enters a phase."""
        self._phase = phase
        self._tell(at_once=phase not in OF_AN_EPOCH)

    def tick(self) -> None:
        """The run is alive."""
        self._tell()
        if self._asked_at is not None and time.monotonic() - self._asked_at > STOP_GRACE_S:
            raise StopRequested

    def _tell(self, *, at_once: bool = False) -> None:
        self.threads.tick()
        self._sequence += 1
        now = time.monotonic()
        if at_once or now - self._told_at >= PROGRESS_INTERVAL_S:
            self._told_at = now
            self._progress.write(self._sequence, self._phase)
