"""Files that clients send: written as they come, under a name that nobody else has."""

import asyncio
import errno
import hashlib
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from starlette.requests import ClientDisconnect

from nbody.durable_file import write_durably
from server.errors import BodyTimeout, BodyTooLarge, NoFile, StorageFull
from server.web.listening.reading import LOST, Rest

PIECE = 2**20  # bytes that are written at once

Piece = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Received:
    """A file that is there for a while."""

    path: Path
    bytes: int
    sha256: str


@asynccontextmanager
async def received(
    stream: AsyncIterator[bytes],
    folder: Path,
    *,
    most: int,
    patience_s: float,
    suffix: str = "",
) -> AsyncGenerator[Received]:
    """The file that a request's body is; it is gone thereafter.

    Args:
        folder: to write it to.
        most: its largest size [B].
        patience_s: in which each megabyte has to come [s].
        suffix: of the file's name here.

    Raises:
        BodyTooLarge, BodyTimeout, NoFile, StorageFull
    """
    with _new_file(folder, suffix) as file:
        digest, size = hashlib.sha256(), 0
        async for piece in pieces(stream, patience_s, lambda: PIECE):
            size += len(piece)
            if size > most:
                raise BodyTooLarge(most)
            await asyncio.to_thread(write_piece, file, piece)
            await asyncio.to_thread(digest.update, piece)
        yield Received(Path(file.name), size, digest.hexdigest())


def check_is_file(content_type: str) -> None:
    """Refuse a body that says it is something else than a file.

    Raises:
        NoFile
    """
    if content_type.partition(";")[0].strip().lower() != "application/octet-stream":
        raise NoFile("Send the file itself, with Content-Type: application/octet-stream.")


def keep(source: Path, target: Path) -> None:
    """Copy a file that was received to where it stays, durably.

    Raises:
        StorageFull
    """
    with told_as_full():
        write_durably(target, partial(shutil.copyfile, source))


def _new_file(folder: Path, suffix: str) -> IO[bytes]:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return tempfile.NamedTemporaryFile(buffering=0, dir=folder, prefix="upload-", suffix=suffix)


def no_rest() -> None:
    """Of what is read as a stream."""


async def pieces(
    stream: AsyncIterator[bytes],
    patience_s: float,
    size: Callable[[], int],
    rest: Callable[[], Rest | None] = no_rest,
) -> AsyncIterator[Piece]:
    """What comes, in pieces of a size or more, but for the last ones; what comes in one is not
    copied.

    Args:
        patience_s: in which each has to come [s].
        size: as it is by then [B].
        rest: what comes after what came, where it can be read past the stream.

    Raises:
        BodyTimeout, NoFile: after what came of the last piece was handed out.
    """
    kept: bytes | bytearray = b""
    is_over = False
    past: Rest | None = None
    problem: BodyTimeout | NoFile | None = None
    while not is_over:
        try:
            async with asyncio.timeout(patience_s):
                while past is None and len(kept) < size():
                    kept = _joined(kept, await anext(stream))
                    past = rest()
        except StopAsyncIteration:
            is_over = True
        except TimeoutError:
            problem = BodyTimeout(patience_s)
        except ClientDisconnect:
            problem = NoFile(LOST)
        yield kept
        kept = b""
        if problem is not None:
            raise problem
        if past is not None:
            async for piece in past.pieces(patience_s, size):
                yield piece
            past = None


def _joined(kept: bytes | bytearray, more: bytes) -> bytes | bytearray:
    if not kept:
        return more
    whole = kept if isinstance(kept, bytearray) else bytearray(kept)
    whole += more
    return whole


def write_piece(file: IO[bytes], piece: Piece) -> None:
    """Write all of a piece where the next one begins.

    Args:
        file: without a buffer, which would be written later, after a failure, too.

    Raises:
        StorageFull
    """
    left = memoryview(piece)
    with told_as_full():
        while left:
            left = left[file.write(left) :]


@contextmanager
def told_as_full() -> Generator[None]:
    """A full disk is an answer."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StorageFull from error
        raise
