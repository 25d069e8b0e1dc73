"""A connection that is gone is gone at once, not when the collector comes to it.

Whoever opens many and drops them would have the collector hold up everybody else.
"""

import asyncio
import gc
import weakref
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from server.web.asgi import Receive, Scope, Send
from server.web.listening.connections import Connections
from server.web.listening.protocol import ImpatientProtocol

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Deaf(asyncio.Transport):
    """Takes what is written and keeps nothing."""

    closing = False

    def write(self, data: Any) -> None:
        return

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def pause_reading(self) -> None:
        return

    def resume_reading(self) -> None:
        return

    def get_write_buffer_size(self) -> int:
        return 0


async def _until_dropped(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _at_once(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x"})


async def _dropped(app: Any, requests: int, error: Exception | None) -> weakref.ref[Any]:
    """Serve a connection and drop it."""
    config = uvicorn.Config(app, http=ImpatientProtocol, lifespan="off", log_config=None)
    config.load()
    protocol = ImpatientProtocol(
        config, ServerState(), {}, all_connections=Connections(10), head_timeout_s=30.0
    )
    transport = Deaf()
    protocol.connection_made(transport)
    protocol.data_received(REQUEST * requests)
    for _ in range(5):
        await asyncio.sleep(0)
    transport.closing = True
    protocol.connection_lost(error)
    for _ in range(5):
        await asyncio.sleep(0)
    return weakref.ref(protocol)


@pytest.mark.parametrize("error", [None, ConnectionResetError()])
@pytest.mark.parametrize(
    ("app", "requests"), [(_at_once, 1), (_at_once, 3), (_until_dropped, 1), (_until_dropped, 20)]
)
def test_nothing_of_a_dropped_connection_stays(
    app: Any, requests: int, error: Exception | None
) -> None:
    async def left() -> Any:
        return (await _dropped(app, requests, error))()

    gc.disable()
    try:
        assert asyncio.run(left()) is None
    finally:
        gc.enable()
