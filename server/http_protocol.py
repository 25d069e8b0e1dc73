"""How the server listens: uvicorn's HTTP/1.1, with limits on a request's head: how long it may
take, and how large it may be.

Without them a client that sends half a header, or nothing, keeps a connection open for ever, and
one that sends a header without end fills the memory: the parser itself has no limit.
"""

import asyncio
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.app import create_app
from server.asgi import App
from server.settings import ServerSettings

GRACEFUL_SHUTDOWN_S = 3
MOST_HEAD_BYTES = 2**16


class ImpatientProtocol(HttpToolsProtocol):
    """Closes connections on which no whole request head arrives in time, or too large a one."""

    def __init__(self, *arguments: Any, head_timeout_s: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_timeout_s = head_timeout_s
        self._deadline: asyncio.TimerHandle | None = None
        self._held_bytes = 0  # by the parser: what came and is no part of a body

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The first head is awaited from here on."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """A head is awaited whenever no request is being worked on."""
        self._held_bytes += len(data)
        super().data_received(data)
        if self._held_bytes > MOST_HEAD_BYTES:
            self._refuse_head()
        elif self._is_working():
            self._head_is_here()
        else:
            self._await_head()

    def on_body(self, body: bytes) -> None:
        """A piece of a body; who reads it has a limit of its own."""
        self._held_bytes -= len(body)
        super().on_body(body)

    def on_chunk_complete(self) -> None:
        """The parser keeps nothing of a chunk."""
        self._held_bytes = 0

    def on_message_complete(self) -> None:
        """Nor of a request that is whole."""
        self._held_bytes = 0
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._head_is_here()
        super().connection_lost(exc)

    def _is_working(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _await_head(self) -> None:
        """From the first byte of a head on, not from each of its bytes."""
        if self._deadline is None:
            self._deadline = self.loop.call_later(self._head_timeout_s, self._give_up)

    def _head_is_here(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if not self._is_working():
            self.transport.close()

    def _refuse_head(self) -> None:
        """With a word where no answer to an earlier request is under way."""
        if self._is_working():
            self.transport.close()
        else:
            self.send_400_response("The head of the request is too large.")


def uvicorn_config(settings: ServerSettings, app: App | None = None) -> uvicorn.Config:
    """The whole service, ready for `uvicorn.Server`.

    Args:
        app: what `create_app` made of the settings.
    """
    app = app or create_app(settings)
    protocol: Any = partial(ImpatientProtocol, head_timeout_s=settings.head_timeout_s)
    return uvicorn.Config(
        _traced(app) if settings.tracing else app,
        host=settings.host,
        port=settings.port,
        http=protocol,
        loop="uvloop",
        ws="none",
        interface="asgi3",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
    )


def _traced(app: App) -> App:
    """Raises ValueError where the packages of the extra `tracing` are not there."""
    try:
        from server.tracing import traced  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ValueError(f"ORRERY_TRACING needs pip install 'orrery[tracing]' ({error})") from None
    return traced(app)
