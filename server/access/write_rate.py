"""How often one token may write."""

import time
from collections.abc import Callable

from server.errors import LimitReached

BYTES_OF_ONE = 2**15
MOST_BUCKETS = 10_000
UNCOUNTED = ("/cancel",)  # writes that no limit of how much one asks for stops


class WriteRate:
    """A token bucket for each principal: bursts of a minute's worth, then the rate."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._clock = float(per_minute), clock
        self._buckets: dict[str, tuple[float, float]] = {}  # writes left, and when that was

    def spend(self, principal_id: str) -> None:
        """Count one write.

        Raises:
            LimitReached
        """
        if not self._burst:
            return
        left = self._left(principal_id)
        if left < 1:
            limit = f"{self._burst:.0f} writes a minute (ORRERY_WRITES_PER_MINUTE)"
            raise LimitReached(limit, (1 - left) * 60 / self._burst)
        self._keep(principal_id, left - 1)

    def count_body(self, principal_id: str, size: int) -> None:
        """Count the body of a write: every 32 KiB of it is as much as another.

        Args:
            size: [B].
        """
        if self._burst and size >= BYTES_OF_ONE:
            self._keep(principal_id, self._left(principal_id) - size // BYTES_OF_ONE)

    def _left(self, principal_id: str) -> float:
        now = self._clock()
        left, at = self._buckets.get(principal_id, (self._burst, now))
        return min(self._burst, left + (now - at) * self._burst / 60)

    def _keep(self, principal_id: str, left: float) -> None:
        if len(self._buckets) >= MOST_BUCKETS:
            self._buckets.clear()  # everyone gets a full bucket again
        self._buckets[principal_id] = (left, self._clock())
