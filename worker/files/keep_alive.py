"""Signs of life while a job's first files are taken, before its process is there."""

import threading
import time
from contextlib import suppress

from server.wire.states import StopReason
from server.wire.workers import Outcome
from worker.client import Unreachable
from worker.reporter import Reporter


class Interrupted(Exception):
    """The job is not to begin here.

    Attributes:
        outcome: of the attempt.
    """

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason)
        self.outcome = Outcome(status="stopped", stop_reason=reason)


class KeepAlive:
    """Called again and again; reports about as often as it is to.

    Args:
        interval_s: between reports [s].
        stopping: whether the agent is to end.
    """

    def __init__(self, reporter: Reporter, interval_s: float, stopping: threading.Event) -> None:
        self._reporter, self._interval_s, self._stopping = reporter, interval_s, stopping
        self._told_at = time.monotonic()

    def __call__(self) -> None:
        """Report, if it is time.

        Raises:
            LeaseEnded, ServerRefused
            Interrupted: it is not to go on.
        """
        if self._stopping.is_set():
            raise Interrupted(StopReason.WORKER_LOST)
        if time.monotonic() - self._told_at < self._interval_s:
            return
        self._told_at = time.monotonic()
        with suppress(Unreachable):
            if self._reporter.deliver().command is not None:
                raise Interrupted(StopReason.USER)
