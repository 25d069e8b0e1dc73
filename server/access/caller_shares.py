"""Who asks for much waits for itself: so much of one token at a time, the rest of it later."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class CallerShares:
    """Of a means that all callers share, such as the threads that read.

    Args:
        most: uses of one caller at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._gates: dict[str, asyncio.Semaphore] = {}
        self._here: dict[str, int] = {}  # those who use it or wait for that, by caller

    @asynccontextmanager
    async def share(self, caller: str | None) -> AsyncGenerator[None]:
        """Wait until a caller may have another use; None is the server itself, and never waits."""
        if caller is None:
            yield
            return
        gate = self._gates.setdefault(caller, asyncio.Semaphore(self._most))
        self._here[caller] = self._here.get(caller, 0) + 1
        try:
            async with gate:
                yield
        finally:
            self._here[caller] -= 1
            if not self._here[caller]:
                del self._here[caller], self._gates[caller]
