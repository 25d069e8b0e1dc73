"""Files that come in pieces: what arrived stays, and what is whole was looked at by this side.

A connection may end at any byte, and the server with it. The bytes so far lie beside the place of
the file, under a hidden name, and say by their number how far it is. Of the last piece the whole
is compared with its checksum, synced and renamed; before that nobody sees it.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from nbody.durable_file import is_file_of, make_folder_durably, sync_folder
from server.data_folder import file_size
from server.errors import ArrivalConflict, OtherContent
from server.web.listening.reading import Rest
from server.web.receiving import Piece, no_rest, pieces, told_as_full, write_piece

ALL_PIECES = 2**21  # bytes of all files that are read at once, about; as many are being written
WRITE_BACK = 2**25  # bytes
MOST_AHEAD = 8  # files whose next piece is read while one is written
LEAST_PIECE, LARGEST_PIECE = 2**16, 2**21  # of one
MOST_KNOWN = 1000  # files whose checksum so far is remembered; of others it is made again


@dataclass
class _Arrival:
    """A file of which some has come.

    Attributes:
        size: when it is whole [B].
        turn: of who sends it; an earlier one, whose connection may be dead, writes no more.
    """

    target: Path
    size: int
    came: int
    digest: Any
    turn: int = 0
    on_its_way: int = 0  # to the disk [B]
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def partial(self) -> Path:
        return _partial(self.target)

    async def append(self, turn: int, file: IO[bytes], piece: Piece) -> None:
        async with self.writing:
            if self.turn != turn:
                raise ArrivalConflict("Somebody else sends this file now.")
            if self.came + len(piece) > self.size:
                raise ArrivalConflict(f"The file was to have {self.size} bytes.")
            digest = self.digest.copy()  # what is written in part is not hashed
            await asyncio.gather(
                asyncio.to_thread(write_piece, file, piece), asyncio.to_thread(digest.update, piece)
            )
            self.digest = digest
            self.came += len(piece)
            if self.came - self.on_its_way >= WRITE_BACK:
                await asyncio.to_thread(self._send_on_its_way, file)

    def _send_on_its_way(self, file: IO[bytes]) -> None:
        """Begin to bring it to the disk: the sync at the end then waits for less."""
        window = self.on_its_way, self.came - self.on_its_way
        os.posix_fadvise(file.fileno(), *window, os.POSIX_FADV_DONTNEED)
        self.on_its_way = self.came


class Arrivals:
    """All files that are on their way.

    Args:
        patience_s: in which each piece has to come [s].
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._known: dict[Path, _Arrival] = {}
        self._finding = asyncio.Lock()
        self._coming = 0  # files at this moment

    @property
    def are_many(self) -> bool:
        """Whether so many files come at this moment that little is held of each."""
        return self._coming > MOST_AHEAD

    def _piece_bytes(self) -> int:
        """Of each file, while so many come."""
        return min(max(ALL_PIECES // self._coming, LEAST_PIECE), LARGEST_PIECE)

    async def came(self, target: Path, size: int, sha256: str) -> int:
        """How much of a file is there [B]; `size` where it is whole, and what it is to be.

        Raises:
            OtherContent
        """
        if await asyncio.to_thread(_is_whole, target, size, sha256):
            return size
        arrival = await self._arrival(target, size)
        if arrival.came == size:  # the server ended before it looked
            await self._settle(arrival, sha256)
        return arrival.came

    async def take(
        self,
        target: Path,
        size: int,
        sha256: str,
        start: int,
        stream: AsyncIterator[bytes],
        rest: Callable[[], Rest | None] = no_rest,
    ) -> int:
        """Take what comes of a file; returns how much of it is there [B].

        Args:
            target: where it will be.
            size: of all of it [B].
            start: of what comes [B].
            stream, rest: what comes; see `pieces`.

        Raises:
            ArrivalConflict: it does not go on where the last piece ended, is longer than it was
                said to be, or somebody else sends it now.
            OtherContent: it has come whole, and is another one; it is to be sent from its start.
            BodyTimeout, NoFile, StorageFull
        """
        arrival = await self._arrival(target, size)
        arrival.turn += 1
        turn = arrival.turn
        if start != arrival.came:
            raise ArrivalConflict(f"The next byte is number {arrival.came}.")
        await asyncio.to_thread(make_folder_durably, target.parent)
        with arrival.partial.open("ab", buffering=0) as file:
            written: asyncio.Task[None] | None = None
            self._coming += 1
            try:
                async for piece in pieces(stream, self._patience_s, self._piece_bytes, rest):
                    if written is not None:
                        await written
                    # While it is written the next one comes; of many files there is no room.
                    written = asyncio.create_task(arrival.append(turn, file, piece))
                    del piece
                    if self.are_many:
                        await written
            finally:
                self._coming -= 1
                if written is not None:
                    await written
        if arrival.came == size:
            await self._settle(arrival, sha256)
        return arrival.came

    async def _arrival(self, target: Path, size: int) -> _Arrival:
        async with self._finding:
            known = self._known.get(target)
            if known is not None:
                async with known.writing:
                    if known.size == size and known.came == file_size(known.partial):
                        return known
            known = self._known[target] = await asyncio.to_thread(_begin, target, size)
            while len(self._known) > MOST_KNOWN:
                self._known.pop(next(iter(self._known)))
            return known

    async def _settle(self, arrival: _Arrival, sha256: str) -> None:
        self._known.pop(arrival.target, None)
        is_it = arrival.digest.hexdigest() == sha256
        if not is_it or file_size(arrival.partial) != arrival.size:
            arrival.partial.unlink()
            raise OtherContent
        await asyncio.to_thread(_publish, arrival.partial, arrival.target)


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _begin(target: Path, size: int) -> _Arrival:
    """What earlier connections, or an earlier server, left of a file."""
    partial = _partial(target)
    if file_size(partial) > size:
        partial.unlink()
    digest = _digest(partial) if partial.exists() else hashlib.sha256()
    return _Arrival(target, size, file_size(partial), digest)


def _digest(path: Path) -> Any:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256")


def _is_whole(target: Path, size: int, sha256: str) -> bool:
    return file_size(target) == size and is_file_of(target, sha256)


def _publish(partial: Path, target: Path) -> None:
    with told_as_full(), partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(target)
    sync_folder(target.parent)
