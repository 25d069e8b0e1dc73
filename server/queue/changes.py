"""Wakes those who wait for something to change, without anyone polling the database."""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from itertools import takewhile

from server.errors import Stopping

WOKEN_AT_ONCE, WAKE_INTERVAL_S = 16, 0.001
REMEMBERED = 10_000  # topics whose last change is known


class Changes:
    """Topics, and the waiters of each. Belongs to one event loop."""

    QUEUE = "queue"

    def __init__(self) -> None:
        self._waiters: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self.is_over = False
        self._count = 0
        self._last: OrderedDict[str, int] = OrderedDict()  # the count at a topic's last change
        self._listeners: defaultdict[str, list[Callable[[], None]]] = defaultdict(list)
        self._forgotten = 0  # up to this count not all topics are known any more

    def end(self) -> None:
        """Wake everybody for the last time: whoever waits, or begins to, is told `Stopping`."""
        self.is_over = True
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.set()
        for listeners in self._listeners.values():
            for listener in listeners:
                listener()

    def listen(self, topic: str, listener: Callable[[], None]) -> None:
        """Have something called at each change of a topic, and at the end."""
        self._listeners[topic].append(listener)

    def notify(self, topic: str) -> None:
        """Wake everyone who waits for a topic; of many some at a time, and others' work between."""
        self._count += 1
        self._last[topic] = self._count
        self._last.move_to_end(topic)
        if len(self._last) > REMEMBERED:
            _, self._forgotten = self._last.popitem(last=False)
        for listener in self._listeners.get(topic, ()):
            listener()
        waiters = self._waiters.get(topic, ())
        if len(waiters) <= WOKEN_AT_ONCE:
            for waiter in waiters:
                waiter.set()
        else:
            self._wake(list(waiters))

    def _wake(self, waiters: list[asyncio.Event]) -> None:
        for waiter in waiters[:WOKEN_AT_ONCE]:
            waiter.set()
        if rest := waiters[WOKEN_AT_ONCE:]:
            asyncio.get_running_loop().call_later(WAKE_INTERVAL_S, self._wake, rest)

    @property
    def count(self) -> int:
        """Changes so far, of all topics: what is read from now on shows all of them."""
        return self._count

    def last(self, topic: str) -> int:
        """The count at a topic's last change, as far as that is known."""
        return self._last.get(topic, self._forgotten)

    def since(self, count: int) -> set[str] | None:
        """The topics that changed after so many changes; None where that is not known any more."""
        if count < self._forgotten:
            return None
        return {topic for topic, _ in takewhile(lambda item: item[1] > count, self._newest())}

    def _newest(self) -> Iterator[tuple[str, int]]:
        return reversed(self._last.items())

    def subscribe(self, topic: str) -> "Subscription":
        """Changes from now on; look at the state after subscribing, so that none is missed."""
        return Subscription(self, self._waiters, topic)


class Subscription:
    """One waiter of one topic; a context manager."""

    def __init__(
        self, changes: Changes, waiters: "defaultdict[str, set[asyncio.Event]]", topic: str
    ) -> None:
        self._changes = changes
        self._waiters, self._topic, self._event = waiters, topic, asyncio.Event()

    def __enter__(self) -> "Subscription":
        self._waiters[self._topic].add(self._event)
        return self

    def __exit__(self, *_: object) -> None:
        self._waiters[self._topic].discard(self._event)
        if not self._waiters[self._topic]:
            del self._waiters[self._topic]

    async def wait(self, seconds: float) -> bool:
        """Whether something changed within the time.

        Raises:
            Stopping: nothing will any more, here.
        """
        if not self._changes.is_over:
            try:
                async with asyncio.timeout(seconds):
                    await self._event.wait()
            except TimeoutError:
                return False
        if self._changes.is_over:
            raise Stopping
        self._event.clear()
        return True
