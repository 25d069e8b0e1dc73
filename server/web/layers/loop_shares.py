"""No token has the event loop for itself: whatever is done for it comes in turns with the others.

While a step of some work is under way, nobody else is answered. The layers below bound how long one
can be; this one how much of the loop's time a user has: the steps of its requests, however many
there are at a time, take turns with those of others, and long ones of its writes are followed by a
rest. Workers, whose reports are what the service is for, go on at once.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from types import coroutine
from typing import Any, cast

from server.access.loop_time import LoopTime
from server.access.loop_turns import LoopTurns
from server.access.roles import OF_WORKERS, Principal
from server.access.write_rate import UNCOUNTED
from server.errors import LimitReached, Unauthenticated
from server.web.asgi import BODY_METHODS, App, Receive, Scope, Send

MOST_RESTING = 8  # writes of one token that wait for their turn; each with its whole body
RETRY_S = 1.0


class LoopShares:
    """Lets the requests of a token wait while it has had its share of the loop.

    Args:
        holds: whether a caller's token is still good.
    """

    def __init__(
        self, app: App, holds: Callable[[Principal], bool], taken: LoopTime | None = None
    ) -> None:
        self._app, self._holds, self._taken = app, holds, taken or LoopTime()
        self._turns = LoopTurns()
        self._resting: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, whose body has been received before.

        Raises:
            LimitReached: too many of its writes wait already.
            Unauthenticated: its token was revoked while it waited.
        """
        caller: Principal | None = scope.get("state", {}).get("principal")
        if caller is None or caller.role == "worker" or scope["path"].startswith(OF_WORKERS):
            await self._app(scope, receive, send)
            return
        token_id, writes = caller.token_id, scope["method"] in BODY_METHODS
        if writes and not scope["path"].endswith(UNCOUNTED) and self._taken.rest_s(token_id) > 0:
            await self._rest(caller)

        def spend(seconds: float) -> None:
            self._turns.spend(token_id, seconds)
            if writes:
                self._taken.spend(token_id, seconds)

        work = cast(Coroutine[Any, Any, None], self._app(scope, receive, send))
        await step_by_step(work, spend, partial(self._turn, token_id))

    def _turn(self, token_id: str) -> "asyncio.Future[None] | None":
        return self._turns.next(token_id) if self._turns.is_over(token_id) else None

    async def _rest(self, caller: Principal) -> None:
        token_id = caller.token_id
        if self._resting[token_id] >= MOST_RESTING:
            raise LimitReached(f"{MOST_RESTING} large requests at a time", RETRY_S)
        self._resting[token_id] += 1
        try:
            while (rest_s := self._taken.rest_s(token_id)) > 0:  # noqa: ASYNC110 - not an event
                await asyncio.sleep(rest_s)  # then another of its requests may have come first
        finally:
            self._resting[token_id] -= 1
            if not self._resting[token_id]:
                del self._resting[token_id]
        if not self._holds(caller):
            raise Unauthenticated


@coroutine
def step_by_step(
    work: Coroutine[Any, Any, None],
    spend: Callable[[float], None],
    turn: Callable[[], "asyncio.Future[None] | None"] = lambda: None,
) -> Generator[Any, Any, None]:
    """Await `work`, and tell of each of its steps how much processor time it took [s].

    A step is what goes on between two waits: the event loop does nothing else meanwhile.

    Args:
        turn: what a step has to await before it begins.
    """
    step: Callable[[], Any] | None = partial(work.send, None)
    goes_on = True
    while True:
        try:
            if goes_on and (awaited := turn()) is not None:
                yield from awaited
        except BaseException as error:  # noqa: BLE001 - cancelled before it came to its turn
            step = partial(work.throw, error)
        began = time.thread_time()
        try:
            awaited = step()
        except StopIteration:
            return
        finally:
            step = None  # an error in it refers to this frame
            spend(time.thread_time() - began)
        try:
            sent = yield awaited
        except BaseException as error:  # noqa: BLE001 - cancelled or closed: the work's own affair
            step, goes_on = partial(work.throw, error), False
        else:
            step, goes_on = partial(work.send, sent), True
