"""A thousand workers that find nothing are no thousand transactions."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from server.errors import Stopping
from server.queue.changes import Changes
from server.queue.workers import ANYTHING, NO_BOUND, Capacity
from server.web import idle_workers
from server.web.idle_workers import LOOKS_AT_ONCE, IdleWorkers
from server.wire.workers import Assignment

JOB = Assignment.model_construct(job="job_0")
SHORT = replace(ANYTHING, seconds=60.0)
LONG = replace(ANYTHING, seconds=3600.0)


class Queue:
    """Jobs that are given to whoever looks; counts looks."""

    def __init__(self) -> None:
        self.changes = Changes()
        self.idle = IdleWorkers(self.changes)
        self.jobs = self.looks = 0
        self.refuse: Capacity | None = None  # which may take none
        self.slow, self.fails = 1, False

    def submit(self) -> None:
        self.jobs += 1
        self.changes.notify(Changes.QUEUE)

    def claim(
        self, claim: Any, capacity: Capacity = ANYTHING, wait_s: float = 0.0
    ) -> Awaitable[Assignment | None]:
        async def look() -> tuple[Capacity, Assignment | None]:
            self.looks += 1
            fails, self.fails = self.fails, False
            for _ in range(self.slow):  # the writer's
                await asyncio.sleep(0)
            if fails:
                raise RuntimeError
            found = self.jobs > 0 and capacity is not self.refuse
            self.jobs -= found
            return capacity, JOB if found else None

        async def ask() -> Assignment | None:
            with self.idle.asking(str(claim)) as asking:
                return await self.idle.claim(claim, capacity.seconds, wait_s, look, asking)

        return ask()

    async def settled(self) -> None:
        """Return once all that is under way waits."""
        for _ in range(5000):
            await asyncio.sleep(0)


def run(play: Callable[[Queue], Awaitable[None]]) -> None:
    async def begin() -> None:
        await play(Queue())

    asyncio.run(begin())


def test_of_many_that_wait_a_few_look_after_each_change() -> None:
    async def play(queue: Queue) -> None:
        waiting = {asyncio.ensure_future(queue.claim(each, wait_s=60.0)) for each in range(1000)}
        await queue.settled()
        assert queue.looks == 1000  # each looks once, in any case
        for jobs in (1, 3, 200):
            queue.looks = 0
            for _ in range(jobs):
                queue.submit()
            await queue.settled()
            had = {claim for claim in waiting if claim.done()}
            assert len(had) == jobs
            assert queue.jobs == 0
            assert queue.looks <= (1 + LOOKS_AT_ONCE) * jobs
            waiting -= had
        for claim in waiting:
            claim.cancel()

    run(play)


def test_at_the_end_nobody_waits_any_more() -> None:
    async def play(queue: Queue) -> None:
        waiting = [asyncio.ensure_future(queue.claim(each, wait_s=60.0)) for each in range(20)]
        await queue.settled()
        queue.changes.end()
        told = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(each) for each in told} == {Stopping}
        with pytest.raises(Stopping):
            await queue.claim(0, wait_s=60.0)

    run(play)


def test_who_waits_is_answered_in_time() -> None:
    async def play(queue: Queue) -> None:
        assert await queue.claim(0, wait_s=0.01) is None
        assert not queue.idle._waiting

    run(play)


def test_a_change_is_not_missed_whenever_it_comes() -> None:
    async def play(queue: Queue) -> None:
        await queue.claim(1)
        await queue.claim(2)
        assert queue.looks == 2  # each looks once, in any case
        await queue.claim(2)
        assert queue.looks == 2

        # While one looks, and has seen that there is nothing.
        async def look() -> tuple[Capacity, Assignment | None]:
            queue.submit()
            return ANYTHING, None

        with queue.idle.asking("3") as asking:
            await queue.idle.claim(3, ANYTHING.seconds, 0.0, look, asking)
        assert await queue.claim(2) is JOB

    run(play)


def test_an_answer_that_was_lost_is_given_again() -> None:
    async def play(queue: Queue) -> None:
        await queue.claim("slot 1")
        queue.submit()
        assert await queue.claim("slot 1") is JOB
        await queue.claim("slot 2")
        queue.looks = 0
        await queue.claim("slot 1")  # the database knows that it has one
        assert queue.looks == 1

    run(play)


def test_others_that_can_take_more_look_for_themselves() -> None:
    async def play(queue: Queue) -> None:
        other = replace(ANYTHING, labels=("site=leiden",))
        for claim, capacity in (("a", SHORT), ("b", LONG), ("c", other)):
            await queue.claim(claim, capacity)
        queue.changes.notify(Changes.QUEUE)
        queue.looks = 0
        await queue.claim("a", SHORT)
        await queue.claim("b", LONG)  # has time for longer jobs
        await queue.claim("c", other)
        assert queue.looks == 3
        await queue.claim("a", SHORT)
        assert queue.looks == 3

    run(play)


def test_what_was_found_does_not_count_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(queue: Queue) -> None:
        await queue.claim(1)
        queue.jobs = 1  # and nobody was told
        assert await queue.claim(1) is None
        now = idle_workers.time.monotonic()
        monkeypatch.setattr(idle_workers.time, "monotonic", lambda: now + 2.0)
        assert await queue.claim(1) is JOB

    run(play)


def test_workers_of_ever_other_sorts_fill_no_memory() -> None:
    async def play(queue: Queue) -> None:
        for number in range(3 * idle_workers.SORTS):
            await queue.claim(number, replace(ANYTHING, labels=(f"number={number}",)))
        assert len(queue.idle._looks) <= idle_workers.SORTS + 1

    run(play)


def test_who_leaves_is_answered_at_once_and_gets_no_job() -> None:
    async def play(queue: Queue) -> None:
        leaves, stays = (asyncio.ensure_future(queue.claim(each, wait_s=60.0)) for each in (1, 2))
        await queue.settled()
        queue.idle.dismiss("1")
        assert await leaves is None
        queue.submit()
        assert await stays is JOB
        queue.submit()
        assert await queue.claim(1) is JOB  # of that name again

    run(play)


def test_one_that_leaves_as_a_job_comes_hands_on_who_is_to_look() -> None:
    async def play(queue: Queue) -> None:
        asked = [asyncio.ensure_future(queue.claim(each, wait_s=60.0)) for each in range(9)]
        await queue.settled()
        queue.submit()  # the first ones are woken
        for each in range(LOOKS_AT_ONCE):
            queue.idle.dismiss(str(each))
        await asyncio.wait(asked, timeout=5, return_when="FIRST_COMPLETED")
        await queue.settled()
        assert [task.result() for task in asked if task.done()].count(JOB) == 1

    run(play)


def test_those_with_little_time_hand_on_what_they_may_not_take() -> None:
    async def play(queue: Queue) -> None:
        little = Capacity(("train",), ANYTHING.memory, seconds=5.0)
        nothing = [asyncio.ensure_future(queue.claim(n, little, 60.0)) for n in range(20)]
        await queue.settled()
        queue.refuse = little
        able = asyncio.ensure_future(queue.claim("able", wait_s=60.0))
        await queue.settled()
        queue.submit()
        assert await asyncio.wait_for(able, 5) is JOB
        assert not any(task.done() for task in nothing)
        for task in nothing:
            task.cancel()
        await asyncio.wait(nothing)

    run(play)


def test_changes_that_come_while_many_look_make_no_herd() -> None:
    """Each would look again after each change, and as they all look, the next change comes."""

    async def play(queue: Queue) -> None:
        queue.slow = 50  # turns of the loop that a look takes
        claims = list(range(300))
        for each in claims:
            await queue.claim(each)
        queue.looks = 0
        asked = [asyncio.ensure_future(queue.claim(each, wait_s=60.0)) for each in claims]
        for _ in range(100):
            queue.changes.notify(Changes.QUEUE)  # more often than looks end
            for _ in range(10):
                await asyncio.sleep(0)
        await queue.settled()
        assert queue.looks <= 100 * (LOOKS_AT_ONCE + 2)
        queue.submit()
        await asyncio.wait(asked, timeout=5, return_when="FIRST_COMPLETED")
        assert [task.result() for task in asked if task.done()] == [JOB]
        for task in asked:
            task.cancel()

    run(play)


def test_a_look_that_fails_is_taken_over() -> None:
    async def play(queue: Queue) -> None:
        await queue.claim("a")
        await queue.claim("b")
        queue.slow, queue.fails = 50, True
        queue.changes.notify(Changes.QUEUE)
        fails = asyncio.ensure_future(queue.claim("a", wait_s=60.0))
        await asyncio.sleep(0)
        relies = asyncio.ensure_future(queue.claim("b", wait_s=60.0))
        await asyncio.sleep(0)
        queue.jobs = 1  # which the first would have found
        with pytest.raises(RuntimeError):
            await fails
        assert await asyncio.wait_for(relies, 5) is JOB

    run(play)


def test_one_that_is_drained_meanwhile_does_not_look_for_others() -> None:
    async def play(queue: Queue) -> None:
        capacities = dict.fromkeys(range(10), ANYTHING)

        async def ask(n: int) -> Assignment | None:
            async def look() -> tuple[Capacity, Assignment | None]:
                await asyncio.sleep(0)
                found = queue.jobs > 0 and bool(capacities[n].kinds)
                queue.jobs -= found
                return capacities[n], JOB if found else None

            with queue.idle.asking(str(n)) as asking:
                return await queue.idle.claim(n, NO_BOUND, 60.0, look, asking)

        asked = [asyncio.ensure_future(ask(n)) for n in capacities]
        await queue.settled()
        capacities |= {n: replace(ANYTHING, kinds=()) for n in range(LOOKS_AT_ONCE)}
        queue.submit()
        await queue.settled()
        assert [task.done() for task in asked].count(True) == 1
        for task in asked:
            task.cancel()

    run(play)
