"""Many workers that wait for a job: a few of them look for all of their sort.

Were each woken by each change of the queue, to look for itself, a thousand of them would be a
thousand transactions for one job.
"""

import asyncio
import math
import time
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Generator, Hashable
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from server.errors import Stopping
from server.queue.changes import Changes
from server.queue.workers import NO_BOUND, Capacity
from server.wire.workers import Assignment

LOOKS_AT_ONCE = 4  # of workers of the same capacity
TRUSTED_S = 1.0  # in which what one has found counts for others
REMEMBERED = 20_000  # claims
SORTS = 1000  # of workers

Look = Callable[[], Awaitable[tuple[Capacity, Assignment | None]]]


@dataclass
class _Look:
    """One that was begun after so many changes, for jobs that take so long at most [s]; or that
    found nothing."""

    count: int
    seconds: float
    ended_at: float = math.inf  # [s, monotonic]

    @property
    def is_under_way(self) -> bool:
        return self.ended_at == math.inf


class Asking:
    """Somebody who asks for a job, until `end`."""

    def __init__(self) -> None:
        self.is_over = False
        self.seconds = 0.0  # that the worker has
        self.news = asyncio.Event()

    def end(self) -> None:
        """Nobody wants an answer any more, but that there is none."""
        self.is_over = True
        self.news.set()


class IdleWorkers:
    """Those that wait, and what those found that looked last. Belongs to one event loop."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        # Of claims that were answered by no job: one that was given a job looks anew, for the
        # answer may be lost, and is then to be the same again.
        self._capacities: OrderedDict[Hashable, Capacity] = OrderedDict()
        self._looks: dict[Hashable, _Look] = {}  # the last of each sort
        self._waiting: defaultdict[Hashable, OrderedDict[Asking, None]]
        self._waiting = defaultdict(OrderedDict)  # the one that waits longest first
        self._asking: defaultdict[str, set[Asking]] = defaultdict(set)  # by worker
        changes.listen(Changes.QUEUE, self._wake_some)

    @contextmanager
    def asking(self, worker_id: str) -> Generator[Asking]:
        """A worker asks, inside."""
        asking = Asking()
        self._asking[worker_id].add(asking)
        try:
            yield asking
        finally:
            self._asking[worker_id].discard(asking)
            if not self._asking[worker_id]:
                del self._asking[worker_id]

    def dismiss(self, worker_id: str) -> None:
        """Answer what a worker asks now: there is no job for it."""
        for asking in self._asking.get(worker_id, ()):
            asking.end()

    async def claim(
        self, claim: Hashable, seconds: float, wait_s: float, look: Look, asking: Asking
    ) -> Assignment | None:
        """A job for a claim, once there is one, or None after `wait_s`.

        Args:
            seconds: that the worker has.

        Raises:
            Stopping
        """
        deadline, asking.seconds = time.monotonic() + wait_s, seconds
        looks_for: Hashable = None  # the sort for which it was woken
        while not asking.is_over:
            known = self._capacities.get(claim)
            # Whoever was woken looks, unless one has found nothing meanwhile.
            is_woken = looks_for is not None
            if known is None or not self._is_looked_for(known, seconds, is_woken=is_woken):
                known, assignment = await self._look(claim, known, seconds, look)
                if assignment is not None:
                    self._wake(known.sort, 1)  # perhaps there is more
                    return assignment
            if looks_for is not None and known.sort != looks_for:
                self._wake(looks_for, 1)
            elif looks_for is not None and seconds < NO_BOUND:
                self._hand_on(looks_for, seconds)
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            if self._changes.is_over:
                raise Stopping
            # Between this question and the waiting nothing else runs.
            if self._is_looked_for(known, seconds, trusted_s=math.inf):
                await self._wait(known.sort, left, asking)
            looks_for = known.sort
        return None

    async def _wait(self, sort: Hashable, seconds: float, asking: Asking) -> None:
        if asking.is_over:
            return
        asking.news.clear()
        self._waiting[sort][asking] = None
        try:
            async with asyncio.timeout(seconds):
                await asking.news.wait()
        except TimeoutError:
            pass
        finally:
            waiting = self._waiting[sort]
            waiting.pop(asking, None)
            if not waiting:
                del self._waiting[sort]
        if asking.is_over:  # perhaps it was to look for the others
            self._wake(sort, 1)
        if self._changes.is_over:
            raise Stopping

    def _wake_some(self) -> None:
        """The queue changed: of each sort some look, and those that find a job wake others."""
        for sort in list(self._waiting):
            number = len(self._waiting[sort]) if self._changes.is_over else LOOKS_AT_ONCE
            self._wake(sort, number)

    def _wake(self, sort: Hashable, number: int) -> None:
        for asking in list(islice(self._waiting.get(sort, ()), number)):
            self._waiting[sort].pop(asking)
            asking.news.set()

    def _hand_on(self, sort: Hashable, seconds: float) -> None:
        """Nothing for one that has so little time: one that has more may find something."""
        waiting = self._waiting.get(sort, ())
        longer = next((asking for asking in waiting if asking.seconds > seconds), None)
        if longer is not None:
            self._waiting[sort].pop(longer)
            longer.news.set()

    def _is_looked_for(
        self,
        capacity: Capacity,
        seconds: float,
        *,
        trusted_s: float = TRUSTED_S,
        is_woken: bool = False,
    ) -> bool:
        """Whether another one's look, after the last change, counts for this one, too. Else each of
        a thousand would look again after each change that came while it looked."""
        last = self._looks.get(capacity.sort)
        return (
            last is not None
            and last.count == self._changes.last(Changes.QUEUE)
            and seconds <= last.seconds
            and not (is_woken and last.is_under_way)
            and time.monotonic() - last.ended_at < trusted_s
        )

    async def _look(
        self, claim: Hashable, known: Capacity | None, seconds: float, look: Look
    ) -> tuple[Capacity, Assignment | None]:
        mine = _Look(self._changes.last(Changes.QUEUE), seconds)
        if known is not None:
            self._note(known.sort, mine)
        try:
            capacity, assignment = await look()
        except BaseException:
            if known is not None:  # others relied on it
                self._withdraw(known.sort, mine)
                self._wake(known.sort, 1)
            raise
        mine.ended_at = time.monotonic()
        if known is not None and known.sort != capacity.sort:  # it is drained, and saw nothing
            self._withdraw(known.sort, mine)
        if assignment is not None:
            self._withdraw(capacity.sort, mine)  # there may be more
            self._capacities.pop(claim, None)
            return capacity, assignment
        self._note(capacity.sort, mine)
        self._capacities[claim] = capacity
        self._capacities.move_to_end(claim)
        if len(self._capacities) > REMEMBERED:
            self._capacities.popitem(last=False)
        return capacity, None

    def _withdraw(self, sort: Hashable, mine: _Look) -> None:
        if self._looks.get(sort) is mine:
            del self._looks[sort]

    def _note(self, sort: Hashable, mine: _Look) -> None:
        """The last look of a sort is the one after most changes, for the longest jobs."""
        last = self._looks.get(sort)
        if last is None or (mine.count, mine.seconds) >= (last.count, last.seconds):
            if len(self._looks) > SORTS:
                self._looks.clear()
            self._looks[sort] = mine
