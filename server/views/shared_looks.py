"""One read of the database for all who want to see the same after the same change."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Seen = TypeVar("Seen")
MOST_KEPT = 256


class SharedLooks(Generic[Seen]):
    """What was seen, by a key that names the state: it never changes under its key."""

    def __init__(self) -> None:
        self._looks: OrderedDict[Hashable, asyncio.Future[Seen]] = OrderedDict()

    async def look(self, key: Hashable, read: Callable[[], Awaitable[Seen]]) -> Seen:
        """What `read` sees, or saw for somebody else with the same key."""
        found = self._looks.get(key)
        if found is None:
            found = self._looks[key] = asyncio.ensure_future(read())
            found.add_done_callback(lambda done: self._forget_failure(key, done))
            if len(self._looks) > MOST_KEPT:
                self._looks.popitem(last=False)
        return await asyncio.shield(found)  # one who leaves does not end it for the others

    def _forget_failure(self, key: Hashable, done: "asyncio.Future[Seen]") -> None:
        if done.cancelled() or done.exception() is not None:
            self._looks.pop(key, None)
