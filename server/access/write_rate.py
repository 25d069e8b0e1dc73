"""How often one token may write."""

import time
from collections.abc import Callable

from server.errors import LimitReached

BYTES_OF_ONE = 2**15
MOST_BUCKETS = 10_000
UNCOUNTED = ("/cancel",)  # writes that no limit of how much one asks for stops
MOST_UNCOUNTED_BYTES = 2**12  # of their bodies


class WriteRate:
    """A token bucket for each principal: bursts of a minute's worth, then the rate."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._clock = float(per_minute), clock
        self._buckets: dict[str, tuple[float, float]] = {}  # writes left, and when that was

    def spend(self, principal_id: str, size: int = 0) -> None:
        """Count one write; every 32 KiB of its body are as much as another.

        Args:
            size: of the body [B].

        Raises:
            LimitReached: there is none left; the last one may be larger than what is.
        """
        if not self._burst:
            return
        now, per_second = self._clock(), self._burst / 60
        left, at = self._buckets.get(principal_id, (self._burst, now))
        left = min(self._burst, left + (now - at) * per_second)
        if left < 1:
            limit = f"{self._burst:.0f} writes a minute (ORRERY_WRITES_PER_MINUTE)"
            raise LimitReached(limit, (1 - left) / per_second)
        if len(self._buckets) >= MOST_BUCKETS:
            self._buckets.clear()  # everyone gets a full bucket again
        self._buckets[principal_id] = (left - 1 - size // BYTES_OF_ONE, now)
