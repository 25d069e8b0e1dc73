"""Waiting longer after each failure."""

import threading

FIRST_S, LONGEST_S = 0.2, 10.0


class BackOff:
    """Waits longer after each failure; `stopping` ends a wait at once."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._delay = FIRST_S

    def wait(self) -> None:
        """Wait, and wait twice as long next time."""
        self._stopping.wait(self._delay)
        self._delay = min(2 * self._delay, LONGEST_S)

    def reset(self) -> None:
        """It worked."""
        self._delay = FIRST_S
