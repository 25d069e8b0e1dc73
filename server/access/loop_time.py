"""How much of the event loop's time one token may take."""

import time
from collections.abc import Callable

SHARE = 0.05  # of the loop's time
LONG_S = 0.005  # of a processor; a piece of work that is shorter holds up nobody
MOST_S = 0.03  # no shape of a body makes a longer one: what is, is loaded for the first time
MOST_KEPT = 10_000


class LoopTime:
    """Whoever holds the loop for long rests afterwards, until it has had its share and no more.

    Whoever asks for little at a time never rests, however often it asks.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rests_until: dict[str, float] = {}

    def spend(self, principal_id: str, seconds: float) -> None:
        """Count one piece of work."""
        if seconds < LONG_S:
            return
        now = self._clock()
        if len(self._rests_until) >= MOST_KEPT:
            self._rests_until = {who: end for who, end in self._rests_until.items() if end > now}
        begins = max(now, self._rests_until.get(principal_id, now))
        self._rests_until[principal_id] = begins + min(seconds, MOST_S) * (1 / SHARE - 1)

    def rest_s(self, principal_id: str) -> float:
        """How long it has to wait before the next piece [s]; not positive: it may go on."""
        until = self._rests_until.get(principal_id)
        return 0.0 if until is None else until - self._clock()
