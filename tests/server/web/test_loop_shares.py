"""The layer that lets a token rest: what it counts, whom it lets wait, and what it leaves alone."""

import asyncio
import itertools
import time
from typing import Any

import pytest

from server.access.loop_time import LoopTime
from server.access.roles import Principal
from server.errors import LimitReached, Unauthenticated
from server.web.asgi import App, Message, Receive, Scope, Send
from server.web.layers.loop_shares import MOST_RESTING, LoopShares, step_by_step


def _work(seconds: float) -> None:
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        pass


async def _receive() -> Message:
    return {}


async def _send(_: Message) -> None:
    return


def _scope(token_id: str, role: Any = "user", method: str = "POST") -> Scope:
    state = {"principal": Principal(token_id, role)}
    return {"type": "http", "method": method, "path": "/v1/jobs", "state": state}


def _layer(app: App, taken: LoopTime | None = None, *, holds: bool = True) -> LoopShares:
    return LoopShares(app, lambda _: holds, taken)


class Noted(LoopTime):
    """Rests as often as it is told to."""

    def __init__(self, rests: int) -> None:
        super().__init__()
        self.left, self.spent = rests, list[tuple[str, float]]()

    def spend(self, principal_id: str, seconds: float) -> None:
        self.spent.append((principal_id, seconds))

    def rest_s(self, principal_id: str) -> float:
        self.left -= 1
        return 1e-6 if self.left >= 0 else 0.0


def test_each_step_is_counted_by_itself_and_waiting_is_not() -> None:
    spent: list[float] = []

    async def work() -> None:
        _work(0.02)
        await asyncio.sleep(0.1)
        _work(0.01)
        await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))

    asyncio.run(_awaited(step_by_step(work(), spent.append)))
    first, second, *_ = spent
    assert first >= 0.02
    assert 0.01 <= second < 0.1
    assert sum(spent) < 0.1


async def _awaited(work: Any) -> Any:
    return await work


def test_errors_and_cancellations_pass_through() -> None:
    seen: list[str] = []

    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("mine")

    async def waits() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def times_out() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.get_running_loop().create_future()
        seen.append("timed out")

    async def both() -> None:
        with pytest.raises(KeyError):
            await step_by_step(fails(), lambda _: None)
        await step_by_step(times_out(), lambda _: None)
        task = asyncio.create_task(_awaited(step_by_step(waits(), lambda _: None)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(both())
    assert seen == ["timed out", "cancelled"]


def test_users_rest_before_writes_until_they_may_go_on_and_workers_never_do() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0)

    taken = Noted(rests=3)
    layer = _layer(app, taken)
    asyncio.run(layer(_scope("greedy"), _receive, _send))
    assert taken.left < 0
    assert {who for who, _ in taken.spent} == {"greedy"}
    counted = len(taken.spent)
    asyncio.run(layer(_scope("alpha", "worker"), _receive, _send))
    asyncio.run(layer(_scope("greedy", method="GET"), _receive, _send))
    asyncio.run(layer(_scope("greedy") | {"path": "/v1/leases/lease_x/report"}, _receive, _send))
    asyncio.run(layer(_scope("greedy") | {"state": {}}, _receive, _send))
    asyncio.run(layer({"type": "lifespan", "state": {}}, _receive, _send))
    assert len(taken.spent) == counted


def test_requests_of_one_token_that_came_together_go_one_by_one() -> None:
    begun: list[float] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(time.monotonic())
        _work(0.01)

    async def together() -> None:
        layer = _layer(app)
        await asyncio.gather(*(layer(_scope("greedy"), _receive, _send) for _ in range(4)))

    asyncio.run(together())
    # Each holds the loop for 10 ms and then rests for longer; others are answered in between.
    assert all(after - before > 0.03 for before, after in itertools.pairwise(begun))


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(0)


def test_only_so_many_requests_of_a_token_rest_and_cancelling_never_does() -> None:
    async def many() -> list[Any]:
        taken = LoopTime()
        taken.spend("greedy", 0.05)
        layer = _layer(_nothing, taken)
        requests = [layer(_scope("greedy"), _receive, _send) for _ in range(MOST_RESTING + 3)]
        resting = [asyncio.create_task(request) for request in requests]
        await asyncio.sleep(0)
        await layer(_scope("greedy") | {"path": "/v1/jobs/job_x/cancel"}, _receive, _send)
        assert not any(task.done() and not task.exception() for task in resting)
        return await asyncio.gather(*resting, return_exceptions=True)

    answers = asyncio.run(many())
    assert [type(one) for one in answers[MOST_RESTING:]] == [LimitReached] * 3
    assert answers[:MOST_RESTING] == [None] * MOST_RESTING


def test_a_token_that_is_revoked_meanwhile_writes_nothing() -> None:
    taken = LoopTime()
    taken.spend("greedy", 0.01)
    with pytest.raises(Unauthenticated):
        asyncio.run(_layer(_nothing, taken, holds=False)(_scope("greedy"), _receive, _send))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_hundred_requests_of_one_token_do_not_come_before_anothers(method: str) -> None:
    order: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(3):
            _work(0.002)
            order.append(scope["state"]["principal"].token_id)
            await asyncio.sleep(0)

    async def crowd() -> None:
        layer = _layer(app)
        many = [layer(_scope("greedy", method=method), _receive, _send) for _ in range(100)]
        tasks = [asyncio.create_task(one) for one in many]
        await asyncio.sleep(0)
        await layer(_scope("modest", method=method), _receive, _send)
        assert order.count("greedy") <= 12
        await asyncio.gather(*tasks)

    asyncio.run(crowd())
    assert len(order) == 303


def test_whoever_is_cancelled_before_its_turn_ends_as_cancelled() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            _work(0.002)
            await asyncio.sleep(0)
            _work(0.002)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def cancelled() -> None:
        layer = _layer(app)
        tasks = [
            asyncio.create_task(_awaited(layer(_scope("greedy"), _receive, _send)))
            for _ in range(5)
        ]
        for _ in range(3):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(end) for end in ended} == {asyncio.CancelledError}

    asyncio.run(cancelled())
    assert seen


def test_work_that_is_closed_is_closed_at_once() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(0)
        except GeneratorExit:
            seen.append("closed")
            raise

    asked: list[str] = []
    steps: Any = step_by_step(work(), lambda _: None, lambda: asked.append("turn"))
    steps.send(None)
    steps.close()
    assert (seen, asked) == (["closed"], ["turn"])
