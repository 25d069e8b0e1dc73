"""Many workers that wait for a job, and find none: one looks for all of its kind.

Each change of the queue wakes every worker that waits. Were each to look for itself, a thousand of
them would be a thousand transactions for one job.
"""

import asyncio
import time
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass

from server.queue.changes import Changes
from server.queue.workers import Capacity
from server.wire.workers import Assignment

LOOKS_AT_ONCE = 4  # of workers of the same capacity
TRUSTED_S = 1.0  # in which what one has found counts for others
REMEMBERED = 20_000  # claims
SORTS = 1000  # of workers

Look = Callable[[], Awaitable[tuple[Capacity, Assignment | None]]]


@dataclass(frozen=True)
class _Nothing:
    """What a worker found: no job, after so many changes, that takes so long at most [s]."""

    count: int
    at: float
    seconds: float


class IdleWorkers:
    """What those found that looked last. Belongs to one event loop."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        # Of claims that were answered by no job: one that was given a job looks anew, for the
        # answer may be lost, and is then to be the same again.
        self._capacities: OrderedDict[Hashable, Capacity] = OrderedDict()
        self._nothing: dict[Hashable, _Nothing] = {}
        self._looking: defaultdict[Hashable, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(LOOKS_AT_ONCE)
        )

    async def look(self, claim: Hashable, seconds: float, look: Look) -> Assignment | None:
        """A job for a claim; it is looked for where it might be there.

        Args:
            seconds: that the worker has.
        """
        known = self._capacities.get(claim)
        if known is None:
            return await self._look(claim, look)
        async with self._looking[known.sort]:
            if self._is_nothing_for(known, seconds):
                return None
            return await self._look(claim, look)

    def _is_nothing_for(self, capacity: Capacity, seconds: float) -> bool:
        found = self._nothing.get(capacity.sort)
        return (
            found is not None
            and found.count == self._changes.last(Changes.QUEUE)
            and time.monotonic() - found.at < TRUSTED_S
            and seconds <= found.seconds
        )

    async def _look(self, claim: Hashable, look: Look) -> Assignment | None:
        count, at = self._changes.last(Changes.QUEUE), time.monotonic()
        capacity, assignment = await look()
        if assignment is not None:
            self._capacities.pop(claim, None)
            return assignment
        if len(self._nothing) > SORTS:
            self._nothing.clear()
            self._looking.clear()
        self._nothing[capacity.sort] = _Nothing(count, at, capacity.seconds)
        self._capacities[claim] = capacity
        self._capacities.move_to_end(claim)
        if len(self._capacities) > REMEMBERED:
            self._capacities.popitem(last=False)
        return None
