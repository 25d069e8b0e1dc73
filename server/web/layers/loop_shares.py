"""No token has the event loop for itself: what a request holds it for is counted, then it rests.

While a piece of work is under way, nobody else is answered. The layers below bound how long one
piece can be; this one how many of them a user has, whatever their bodies ask for. Reads come in
pages, and never rest; nor do workers, whose reports are what the service is for.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from types import coroutine
from typing import Any, cast

from server.access.loop_time import LoopTime
from server.web.asgi import BODY_METHODS, App, Receive, Scope, Send


class LoopShares:
    """Lets the writes of a token wait while it has had more than its share of the loop."""

    def __init__(self, app: App, taken: LoopTime | None = None) -> None:
        self._app, self._taken = app, taken or LoopTime()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, whose body has been received before."""
        caller = scope["state"].get("principal")
        writes = scope["method"] in BODY_METHODS
        if not writes or caller is None or caller.role == "worker":
            await self._app(scope, receive, send)
            return
        while (rest_s := self._taken.rest_s(caller.token_id)) > 0:  # noqa: ASYNC110 - not an event
            await asyncio.sleep(rest_s)  # then another of its requests may have come first

        def spend(seconds: float) -> None:
            self._taken.spend(caller.token_id, seconds)

        work = cast(Coroutine[Any, Any, None], self._app(scope, receive, send))
        await step_by_step(work, spend)


@coroutine
def step_by_step(
    work: Coroutine[Any, Any, None], spend: Callable[[float], None]
) -> Generator[Any, Any, None]:
    """Await `work`, and tell of each of its steps how much processor time it took [s].

    A step is what goes on between two waits: the event loop does nothing else meanwhile.
    """
    step = partial(work.send, None)
    while True:
        began = time.thread_time()
        try:
            awaited = step()
        except StopIteration:
            return
        finally:
            spend(time.thread_time() - began)
        try:
            sent = yield awaited
        except BaseException as error:  # noqa: BLE001 - cancelled or closed: the work's own affair
            step = partial(work.throw, error)
        else:
            step = partial(work.send, sent)
