"""How much one token may ask for: writes in a minute, and jobs that wait."""

import time
from collections.abc import Callable

from sqlalchemy import Connection, func, select

from server.errors import LimitReached
from server.states import JobStatus
from server.tables import jobs

QUEUE_RETRY_S = 60  # when to look whether the queue has become shorter
MOST_BUCKETS = 10_000


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
        now, per_second = self._clock(), self._burst / 60
        left, at = self._buckets.get(principal_id, (self._burst, now))
        left = min(self._burst, left + (now - at) * per_second)
        if left < 1:
            limit = f"{self._burst:.0f} writes a minute (ORRERY_WRITES_PER_MINUTE)"
            raise LimitReached(limit, (1 - left) / per_second)
        if len(self._buckets) >= MOST_BUCKETS:
            self._buckets.clear()  # everyone gets a full bucket again
        self._buckets[principal_id] = (left - 1, now)


def check_queue(connection: Connection, owner_id: str, most: int) -> None:
    """Refuse another job of an owner who has `most` waiting; 0 means no limit.

    Raises:
        LimitReached
    """
    if not most:
        return
    mine = select(func.count()).where(
        jobs.c.status == JobStatus.QUEUED, jobs.c.owner_id == owner_id
    )
    if connection.execute(mine).scalar_one() >= most:
        raise LimitReached(f"{most} waiting jobs (ORRERY_MAX_QUEUED_JOBS)", QUEUE_RETRY_S)
