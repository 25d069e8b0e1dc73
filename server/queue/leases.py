"""When each lease was last heard of, on a clock that nobody can move.

Deadlines live in memory: a heartbeat costs no write, a jump of the wall clock expires nothing, and
after a restart of the server every lease starts with its full time.
"""

import time
from collections.abc import Callable, Iterable


class Leases:
    """Deadlines of the leases that hold a job."""

    def __init__(self, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.ttl_s = ttl_s
        self._clock = clock
        self._deadline: dict[str, float] = {}
        self._begun: set[str] = set()

    def renew(self, lease_id: str, *, has_begun: bool = False) -> None:
        """The holder was heard of; with has_begun, its attempt has epochs on record."""
        self._deadline[lease_id] = self._clock() + self.ttl_s
        if has_begun:
            self._begun.add(lease_id)

    def has_begun(self, lease_id: str) -> bool:
        """Whether the attempt is known to have epochs on record."""
        return lease_id in self._begun

    def restore(self, lease_ids: Iterable[str]) -> None:
        """Leases that were held when the server started."""
        for lease_id in lease_ids:
            self.renew(lease_id)

    def release(self, lease_id: str) -> None:
        """The lease holds nothing any more."""
        self._deadline.pop(lease_id, None)
        self._begun.discard(lease_id)

    def excuse(self, seconds: float) -> None:
        """The server itself heard nobody for so long: every deadline moves by that."""
        for lease_id in self._deadline:
            self._deadline[lease_id] += seconds

    def oldest_silence_s(self) -> float:
        """How long the holder that is silent the longest was not heard of [s]."""
        now = self._clock()
        return max((now - (d - self.ttl_s) for d in self._deadline.values()), default=0.0)

    def __len__(self) -> int:
        return len(self._deadline)

    def is_expired(self, lease_id: str) -> bool:
        """Whether the holder was not heard of in time."""
        deadline = self._deadline.get(lease_id)
        return deadline is not None and deadline <= self._clock()

    def expired(self) -> list[str]:
        """Leases whose holder was not heard of in time."""
        return [lease_id for lease_id in list(self._deadline) if self.is_expired(lease_id)]
