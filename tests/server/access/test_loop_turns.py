"""The steps of one token's requests take turns with those of others."""

import asyncio
from collections import Counter

from server.access.loop_turns import TURN_S, LoopTurns


async def _steps(turns: LoopTurns, who: str, seconds: float, number: int, done: list[str]) -> None:
    for _ in range(number):
        if turns.is_over(who):
            await turns.next(who)
        turns.spend(who, seconds)
        done.append(who)
        await asyncio.sleep(0)


async def _race(greedy_s: float, requests: int) -> list[str]:
    turns, done = LoopTurns(), list[str]()
    greedy = [_steps(turns, "greedy", greedy_s, 5, done) for _ in range(requests)]
    tasks = [asyncio.create_task(one) for one in greedy]
    await asyncio.sleep(0)
    await asyncio.create_task(_steps(turns, "modest", TURN_S / 10, 5, done))
    last = len(done)
    await asyncio.gather(*tasks)
    assert Counter(done) == {"greedy": 5 * requests, "modest": 5}
    return done[:last]


def test_whoever_comes_with_a_hundred_requests_gets_one_long_step_at_a_time() -> None:
    before = Counter(asyncio.run(_race(2 * TURN_S, 100)))
    assert before["greedy"] <= 4 * before["modest"]


def test_short_steps_share_a_turn() -> None:
    before = Counter(asyncio.run(_race(TURN_S / 10, 100)))
    assert 10 <= before["greedy"] <= 80


def test_whoever_is_cancelled_while_waiting_takes_no_turn_from_the_next() -> None:
    async def cancelled() -> list[str]:
        turns, done = LoopTurns(), list[str]()
        tasks = [
            asyncio.create_task(_steps(turns, str(n // 10), 2 * TURN_S, 1, done)) for n in range(30)
        ]
        await asyncio.sleep(0)
        for task in tasks[1:8]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return done

    assert Counter(asyncio.run(cancelled())) == {"0": 3, "1": 10, "2": 10}
