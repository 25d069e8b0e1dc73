"""How the server listens: uvicorn's HTTP/1.1 with limits, for the parser itself has none.

Without them a client that sends half a header, or nothing, keeps a connection open for ever; a
header without end, or requests that nobody waits for the answers of, fill the memory. And what the
parser and the application could understand differently is refused.
"""

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from server.settings import ServerSettings
from server.web.app import create_app
from server.web.asgi import App
from server.web.listening.connections import Connections, most_connections
from server.web.listening.gathered_writes import Gathered
from server.web.listening.reading import GivesRests, Rest, reading_little
from server.web.listening.supervisor import tell_supervisor

GRACEFUL_SHUTDOWN_S = 1
READ_TIMEOUT_S = 20.0  # in which a client reads at least something of what it was sent
MOST_HEAD_BYTES = 2**16
MOST_PIPELINED = 32  # requests of one connection that wait for the answer to another
TOO_LARGE = "The head of the request is too large."
NEVER_TWICE = b"host", b"authorization", b"origin", b"content-type"
LENGTH = b"content-length"
BODY_FIELDS = LENGTH, b"transfer-encoding"


class RequestRefused(Exception):
    """Raised inside the parser: this is answered with 400, and the connection closed."""


class ImpatientProtocol(HttpToolsProtocol, GivesRests):
    """Closes connections whose next request head takes too long, is too large, or is ambiguous."""

    def __init__(
        self, *arguments: Any, all_connections: Connections, head_timeout_s: float, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._all_connections = all_connections
        self._head_timeout_s = head_timeout_s
        self._unread: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._refused_for = ""  # what to do about it
        self._answering: RequestResponseCycle | None = None
        self._head_bytes = 0  # of the request that is being read: path, fields and trailers
        self._body_bytes = 0  # of it, that came
        self._held_bytes = 0  # what came, and is neither a body nor a request that is whole

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The first head is awaited from here on."""
        super().connection_made(cast(asyncio.Transport, Gathered(transport, self.loop)))
        self._await_head()
        self._all_connections.begin(self, self.client[0] if self.client else "")

    def abort(self) -> None:
        """Close at once."""
        self.transport.abort()

    def recognise(self, token_id: str) -> None:
        """Whoever is there has shown a valid token.

        Raises:
            LimitReached: there are too many connections of it.
        """
        self._all_connections.recognise(self, token_id)

    def keep(self, most: int) -> None:
        """Let the kernel keep so many bytes of what comes, until they are read."""
        listening = self.transport.get_extra_info("socket")
        if listening is not None:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, most)

    def rest_of_body(self) -> Rest | None:
        """The rest of the body of the request that is answered, for whoever reads it instead of
        receiving it; its end is received. None where it came whole, or has no known length."""
        cycle: Any = self.cycle
        if cycle is None or cycle is not self._answering or not cycle.more_body:
            return None
        length = next((value for name, value in cycle.scope["headers"] if name == LENGTH), None)
        if length is None:
            return None
        begun, cycle.body = bytes(cycle.body), bytearray()
        cycle.message_event.clear()
        left = int(length) - self._body_bytes
        self.rest = Rest(begun, left, self.flow.pause_reading, self.flow.resume_reading)
        return self.rest

    def rest_came(self, size: int) -> None:
        """The parser, which knows nothing of it, is made anew for the next request."""
        rest = cast(Rest, self.rest)
        rest.came(size)
        if rest.left == 0:
            self.rest = None
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as it was
            self.on_message_complete()

    def unread_bytes(self) -> int:
        """What was sent and is not read."""
        return self.transport.get_write_buffer_size()

    def pause_writing(self) -> None:
        """The client does not read: for how long, is watched."""
        super().pause_writing()
        self._all_connections.leave_unread(self)
        self._watch_reader()

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        self._all_connections.read_again(self)
        self._stop_watching()

    def _watch_reader(self) -> None:
        self._stop_watching()
        size = self.transport.get_write_buffer_size()
        self._unread = self.loop.call_later(READ_TIMEOUT_S, self._close_if_unread, size)

    def _stop_watching(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _close_if_unread(self, size: int) -> None:
        """Where nothing was read in the time; whoever reads slowly goes on."""
        if self.transport.get_write_buffer_size() >= size:
            self.transport.abort()
        else:
            self._watch_reader()

    def data_received(self, data: bytes) -> None:
        """A head is awaited whenever no request is being worked on."""
        self._held_bytes += len(data)
        super().data_received(data)
        if self._held_bytes > MOST_HEAD_BYTES:
            self._refused_for = TOO_LARGE
            self.send_400_response(TOO_LARGE)
        elif self._is_working():
            self._head_is_here()
        else:
            self._await_head()

    def send_400_response(self, msg: str) -> None:
        """Say what is wrong and close; silently, where an earlier answer is still under way. That
        one is given first where its request is whole, and what came behind it is no request."""
        if self._is_working() and (self._refused_for or self.cycle.more_body):
            self.transport.abort()
        elif self._is_working():
            self.cycle.keep_alive = False
            self.flow.pause_reading()
        elif not self.transport.is_closing():
            super().send_400_response(self._refused_for or msg)

    # What the parser finds, in order. Whatever is raised here ends in `send_400_response`.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._head_bytes = self._body_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the path."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field, of the head or of the trailer."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole.

        The parser takes the body of a request that offers another protocol for that protocol's
        data, and the fields of a trailer for those of a head.

        Raises:
            RequestRefused
        """
        names = [name for name, _ in self.headers]
        if any(names.count(name) > 1 for name in NEVER_TWICE):
            self._refuse("Send Host, Authorization, Origin and Content-Type once.")
        if len(self.pipeline) >= MOST_PIPELINED:
            self._refuse("Too many requests at once on a connection; await some answers.")
        parser: Any = self.parser
        offers_upgrade = parser.should_upgrade()
        if offers_upgrade and any(name in BODY_FIELDS and v != b"0" for name, v in self.headers):
            self._refuse("Send a request with a body as HTTP/1.1, without Upgrade.")
        self.scope.setdefault("state", {})["connection"] = self
        super().on_headers_complete()
        self.headers = []  # whatever comes now is no field of this head
        if offers_upgrade:
            self.cycle.keep_alive = False  # what follows on the connection is not read

    def on_body(self, body: bytes) -> None:
        """A piece of a body; who reads it has a limit of its own."""
        self._held_bytes -= len(body)
        self._body_bytes += len(body)
        super().on_body(body)

    def on_chunk_complete(self) -> None:
        """The parser keeps nothing of a chunk."""
        self._held_bytes = 0

    def on_message_complete(self) -> None:
        """Nor of a request that is whole."""
        self._held_bytes = 0
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Nothing more is read before the requests are answered that came together with this."""
        if self.rest is not None:  # nobody reads it any more
            self.transport.close()
        super().on_response_complete()
        if self.pipeline:
            self.flow.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._head_is_here()
        self._stop_watching()
        self._all_connections.end(self)
        if self.rest is not None:
            self.rest.lose()
        super().connection_lost(exc)  # which tells the request that came last
        if (answering := self._answering) is not None and not answering.response_complete:
            answering.disconnected = True
            answering.message_event.set()
        self._unset_keepalive_if_required()
        # What refers to this connection, and is referred to by it, would wait for the collector.
        self.pipeline.clear()
        self.cycle = self._answering = self.scope = cast(Any, None)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MOST_HEAD_BYTES:
            self._refuse(TOO_LARGE)

    def _refuse(self, why: str) -> NoReturn:
        self._refused_for = why
        raise RequestRefused(why)

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


class Listener(uvicorn.Server):
    """Uvicorn's server; whoever waits for news is answered before it stops, and systemd is told.

    Args:
        end_waits: called once, when it begins to stop.
    """

    def __init__(self, config: uvicorn.Config, end_waits: Callable[[], None]) -> None:
        super().__init__(config)
        self._end_waits = end_waits

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        if self.started:
            tell_supervisor("READY=1")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop: no new connections, the waiting ones are answered, the working ones end."""
        tell_supervisor("STOPPING=1")
        self._end_waits()
        await super().shutdown(sockets)


def uvicorn_config(settings: ServerSettings, app: App | None = None) -> uvicorn.Config:
    """The whole service, ready for `uvicorn.Server`.

    Args:
        app: what `create_app` made of the settings.
    """
    app = app or create_app(settings)
    protocol: Any = reading_little(
        partial(
            ImpatientProtocol,
            all_connections=Connections(most_connections(settings.max_connections)),
            head_timeout_s=settings.head_timeout_s,
        )
    )
    return uvicorn.Config(
        _trace(app) if settings.tracing else app,
        host=settings.host,
        port=settings.port,
        uds=None if settings.socket is None else str(settings.socket),
        http=protocol,
        loop="auto",  # uvloop, where there is one
        ws="none",
        interface="asgi3",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
    )


def _trace(app: App) -> App:
    """Raises ValueError where the packages of the extra `tracing` are not there."""
    try:
        from server.web.layers.tracing import trace  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ValueError(f"ORRERY_TRACING needs pip install 'orrery[tracing]' ({error})") from None
    return trace(app)
