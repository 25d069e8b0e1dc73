"""How long the server itself was away: stopped, starved, or waiting for its disk.

Whoever does not listen must not hold others' silence against them.
"""

import time
from collections.abc import Callable

TOLERATED_S = 0.1  # a look that is late by less is on time


class OwnSilence:
    """Looks regularly, and says how much of the time since the last look nobody could be heard.

    Args:
        interval_s: between looks, where nothing is in the way [s].
    """

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.interval_s = interval_s
        self._clock = clock
        self._looked_at = clock()

    def look(self, busy_since: float | None) -> float:
        """Seconds since the last look in which the server was away.

        Args:
            busy_since: when the transaction began that is still not durable, on the same clock.
        """
        now = self._clock()
        passed = now - self._looked_at
        away = passed - self.interval_s
        if busy_since is not None and busy_since <= self._looked_at:
            away = passed  # the disk held up whatever workers said
        self._looked_at = now
        return away if away > TOLERATED_S else 0.0
