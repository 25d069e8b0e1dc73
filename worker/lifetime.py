"""How long an agent takes jobs: for ever, for some of them, while there are any, until a time."""

import threading
import time
from dataclasses import dataclass

FAREWELL_S = 30.0  # before its end an agent stops: an epoch, a checkpoint, its way to the server
LEAST_S = 10.0  # that are worth a job
LEAST_WAIT_S, NO_END_S = 0.2, 3600.0


@dataclass(frozen=True)
class Bounds:
    """What ends an agent; None does not.

    Attributes:
        jobs: that it takes.
        idle_s: in which none of its slots had a job [s].
        until: its end, in seconds since 1970.
    """

    jobs: int | None = None
    idle_s: float | None = None
    until: float | None = None


class Lifetime:
    """Of one agent; its slots ask before each claim."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._changing = threading.Lock()
        self._taken = self._asking = self._running = 0
        self._idle_since: float | None = None  # from the first question on

    @property
    def left_s(self) -> float | None:
        """Seconds that jobs have until the agent stops; None where there is no end."""
        until = self._bounds.until
        return None if until is None else max(until - time.time() - FAREWELL_S, 0.0)

    @property
    def patience_s(self) -> float:
        """How long a slot that has no job may wait for one, before it looks again whether to end
        [s]."""
        waits = [NO_END_S]
        if (left_s := self.left_s) is not None:
            waits.append(left_s - LEAST_S)
        if (idle_s := self._bounds.idle_s) is not None:
            with self._changing:
                waits.append(idle_s - self._idle_so_far_s())
        return max(min(waits), LEAST_WAIT_S)

    def over(self) -> str | None:
        """Why no more jobs are taken, for a slot that cannot ask for one; None: it may be able to
        later."""
        with self._changing:
            return self._why_not(self._taken)

    def ask(self) -> str | None:
        """A slot is about to ask for a job, and says thereafter whether it `got` one.

        Returns:
            Why it is not to; None: it is.
        """
        with self._changing:
            why = self._why_not(self._taken + self._asking)
            self._asking += why is None
            return why

    def _why_not(self, taken: int) -> str | None:
        bounds, left_s = self._bounds, self.left_s
        idle_s = self._idle_so_far_s()
        if bounds.jobs is not None and taken >= bounds.jobs:
            return f"it takes no more than {bounds.jobs} jobs"
        if bounds.idle_s is not None and idle_s >= bounds.idle_s:
            return f"there was no job for {bounds.idle_s:g} s"
        if left_s is not None and left_s < LEAST_S:
            return "its time is nearly over"
        return None

    def _idle_so_far_s(self) -> float:
        if self._idle_since is None:
            self._idle_since = time.monotonic()
        return 0.0 if self._running else time.monotonic() - self._idle_since

    def got(self, *, one: bool) -> None:
        """The slot that asked has a job, or none."""
        with self._changing:
            self._asking -= 1
            self._taken += one
            self._running += one

    def done(self) -> None:
        """A job is over."""
        with self._changing:
            self._running -= 1
            self._idle_since = time.monotonic()
