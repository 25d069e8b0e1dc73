"""How long the event loop was held by one piece of work: nobody else is answered meanwhile."""

import asyncio
import time
from collections import deque

LOOK_INTERVAL_S = 0.02
REMEMBERED_S = 60.0


class LoopLag:
    """Looks at how late it is woken.

    Attributes:
        longest_s: the longest delay of the last minute [s].
    """

    def __init__(self) -> None:
        self._delays: deque[tuple[float, float]] = deque()  # (when, delay), falling

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(LOOK_INTERVAL_S)
            now = time.monotonic()
            self.note(now, now - before - LOOK_INTERVAL_S)

    def note(self, now: float, delay: float) -> None:
        """A delay; those that a longer one followed are of no interest any more."""
        while self._delays and self._delays[-1][1] <= delay:
            self._delays.pop()
        self._delays.append((now, delay))
        while now - self._delays[0][0] > REMEMBERED_S:
            self._delays.popleft()

    @property
    def longest_s(self) -> float:
        """The longest delay of the last minute."""
        return self._delays[0][1] if self._delays else 0.0
