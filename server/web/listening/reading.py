"""How a connection is read: little at once, and the body of a file straight into its pieces.

An event loop reads a quarter of a megabyte, of which the parser, its protocol and the application
each take a copy: of many uploads at once that is most of what they hold, of a fast one much of what
it costs. Here all connections are read into one small buffer, and whoever takes a body of a known
length may have the rest of it past the parser, in buffers of its own.
"""

import asyncio
import mmap
from collections.abc import AsyncIterator, Callable

from server.errors import BodyTimeout, NoFile

AT_ONCE = 2**16  # bytes
LOST = "The connection ended before the file did."


class Rest:
    """What has not come of a body, and what came that nobody has taken.

    Args:
        begun: of it, that came already.
        left: what has not come [B].
        pause, resume: the reading of the connection.
    """

    def __init__(
        self, begun: bytes, left: int, pause: Callable[[], None], resume: Callable[[], None]
    ) -> None:
        self.left = left
        self._begun = begun
        self._pause, self._resume = pause, resume
        self._piece = self._other = memoryview(b"")
        self._filled = 0  # bytes of the piece
        self._is_lost = False
        self._wake = asyncio.Event()
        pause()  # until there is room

    def room(self) -> memoryview:
        """Where the next bytes go."""
        return self._piece[self._filled : self._filled + self.left]

    def came(self, size: int) -> None:
        """So many bytes [B] went there."""
        self._filled += size
        self.left -= size
        if self.left == 0 or self._filled == len(self._piece):
            self._pause()
            self._wake.set()

    def lose(self) -> None:
        """Nothing comes any more."""
        self._is_lost = True
        self._wake.set()

    def _swap(self, size: int) -> None:
        """Of two pieces one is filled while the other one is written."""
        self._piece, self._other = self._other, self._piece
        if len(self._piece) != size:
            self._piece = memoryview(mmap.mmap(-1, size, mmap.MAP_PRIVATE))
        self._filled = 0

    async def pieces(
        self, patience_s: float, piece_bytes: Callable[[], int]
    ) -> AsyncIterator[bytes | memoryview]:
        """What came, and what comes, in pieces; see `server.web.receiving.pieces`."""
        if self._begun:
            yield self._begun
            self._begun = b""
        problem: BodyTimeout | NoFile | None = None
        while self.left and problem is None:
            self._swap(min(piece_bytes(), max(2 * len(self._piece), AT_ONCE)))
            if not self._is_lost:
                self._wake.clear()
                self._resume()
            try:
                async with asyncio.timeout(patience_s):
                    await self._wake.wait()
            except TimeoutError:
                if not self._wake.is_set():
                    self._pause()
                    problem = BodyTimeout(patience_s)
            if self._is_lost and self.left:
                problem = NoFile(LOST)
            yield self._piece[: self._filled]
        if problem is not None:
            raise problem


class GivesRests(asyncio.Protocol):
    """A protocol of which somebody may have the rest of a body."""

    rest: Rest | None = None  # that somebody has

    def rest_came(self, size: int) -> None:
        """So many bytes [B] of it were read."""
        raise NotImplementedError


class ReadInto(asyncio.BufferedProtocol):
    """What reads into a buffer, and hands a copy on; or the rest of a body to where it belongs.

    Args:
        protocol: to whom.
        buffer: of all connections; nothing happens between its being read into and copied from.
    """

    def __init__(self, protocol: GivesRests, buffer: memoryview) -> None:
        self._protocol = protocol
        self._buffer = buffer
        self.connection_made = protocol.connection_made
        self.connection_lost = protocol.connection_lost
        self.eof_received = protocol.eof_received
        self.pause_writing = protocol.pause_writing
        self.resume_writing = protocol.resume_writing

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's
        """Where to read into."""
        rest = self._protocol.rest
        return self._buffer if rest is None else rest.room()

    def buffer_updated(self, nbytes: int) -> None:
        """So much was read."""
        if self._protocol.rest is None:
            self._protocol.data_received(bytes(self._buffer[:nbytes]))
        else:
            self._protocol.rest_came(nbytes)


def reading_little(protocol: Callable[..., GivesRests]) -> Callable[..., ReadInto]:
    """The same protocol, made of the same arguments, read by `ReadInto`."""
    buffer = memoryview(bytearray(AT_ONCE))
    return lambda *arguments, **options: ReadInto(protocol(*arguments, **options), buffer)
