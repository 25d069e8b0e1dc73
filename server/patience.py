"""How one who waits goes on while a server is away: restarted, upgraded, not to be reached."""

import random
import time
from collections.abc import Callable

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0


class Patience:
    """Pauses longer and longer, up to a time in all.

    Args:
        seconds: from the first failure on; then it is at its end.
        tell: called once for each absence, with why.
    """

    def __init__(self, seconds: float, tell: Callable[[str], object]) -> None:
        self._seconds, self._tell = seconds, tell
        self._since: float | None = None
        self._pause_s = FIRST_PAUSE_S

    def is_at_end(self, why: str) -> bool:
        """After a failure: pause, and say whether the time is over."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self._tell(why)
        if now - self._since > self._seconds:
            return True
        time.sleep(self._pause_s * random.uniform(0.5, 1.0))
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        return False

    def renew(self) -> None:
        """The server answered."""
        self._since, self._pause_s = None, FIRST_PAUSE_S
