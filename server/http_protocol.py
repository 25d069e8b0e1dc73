"""How the server listens: uvicorn's HTTP/1.1, with a limit on how long a request's head may take.

Without it a client that sends half a header, or nothing, keeps a connection open for ever.
"""

import asyncio
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from server.app import create_app
from server.asgi import App
from server.settings import ServerSettings

GRACEFUL_SHUTDOWN_S = 3


class ImpatientProtocol(H11Protocol):
    """Closes connections on which no whole request head arrives in time."""

    def __init__(self, *arguments: Any, head_timeout_s: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_timeout_s = head_timeout_s
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The first head is awaited from here on."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """A head is awaited whenever no request is being worked on."""
        super().data_received(data)
        if self._is_working():
            self._head_is_here()
        else:
            self._await_head()

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


def uvicorn_config(settings: ServerSettings, **options: Any) -> uvicorn.Config:
    """The whole service, ready for `uvicorn.Server`."""
    protocol: Any = partial(ImpatientProtocol, head_timeout_s=settings.head_timeout_s)
    return uvicorn.Config(
        _traced(create_app(settings)) if settings.tracing else create_app(settings),
        host=settings.host,
        port=settings.port,
        http=protocol,
        interface="asgi3",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
        **options,
    )


def _traced(app: App) -> App:
    """Raises ValueError where the packages of the extra `tracing` are not there."""
    try:
        from server.tracing import traced  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ValueError(f"ORRERY_TRACING needs pip install 'orrery[tracing]' ({error})") from None
    return traced(app)
