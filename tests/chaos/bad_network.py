"""A proxy between workers and server that drops, delays, doubles and reorders requests.

It understands as much of HTTP as it must to know where a request ends: its head, and as many bytes
as Content-Length says.
"""

import asyncio
import contextlib
import re
import threading
from random import Random

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
LONGEST_DELAY_S = 1.0
LONGEST_LATENESS_S = 3.0  # of a copy: longer than a lease of these tests
FATES = ("drop", "half", "lost answer", "cut answer", "double", "late copy", "delay")


class BadNetwork:
    """Listens on a port of its own for as long as it is open.

    Attributes:
        trouble: of how many requests something goes wrong with, 0 to 1.
    """

    def __init__(self, server_port: int, random: Random) -> None:
        self.trouble = 0.0
        self.port = 0
        self._server_port, self._random = server_port, random
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)

    def open(self) -> None:
        """Begin to listen."""
        self._thread.start()
        listening = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._listening = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        self.port = self._listening.sockets[0].getsockname()[1]

    def close(self) -> None:
        """End, and cut what is connected."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """End every connection in the middle of whatever it does."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result()

    async def _cut(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    async def _end(self) -> None:
        self._listening.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (request := await _message(reader)) is not None:
                answer = await self._carry(request, writer)
                writer.write(answer)
                await writer.drain()
                if not answer:
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _carry(self, request: bytes, writer: asyncio.StreamWriter) -> bytes:
        """Bring one request to the server; its answer, or nothing: then the connection ends."""
        if self._random.random() >= self.trouble:
            return await self._ask(request)
        fate = self._random.choice(FATES)
        if fate == "drop":
            return b""
        if fate == "half":
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._ask(request[: self._random.randrange(1, len(request))], cut=True)
            return b""
        if fate == "delay":
            await asyncio.sleep(self._random.uniform(0, LONGEST_DELAY_S))
        answer = await self._ask(request)
        if fate == "lost answer":
            return b""
        if fate == "cut answer":
            writer.write(answer[: self._random.randrange(len(answer))])
            return b""
        if fate == "double":
            await self._ask(request)
        if fate == "late copy":
            late = self._loop.create_task(self._send_late(request))
            self._tasks.add(late)
            late.add_done_callback(self._tasks.discard)
        return answer

    async def _send_late(self, request: bytes) -> None:
        await asyncio.sleep(self._random.uniform(0, LONGEST_LATENESS_S))
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._ask(request)

    async def _ask(self, request: bytes, *, cut: bool = False) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        try:
            writer.write(request)
            await writer.drain()
            if cut:
                writer.write_eof()
            answer = await _message(reader)
            if answer is None:
                raise ConnectionResetError
            return answer
        finally:
            writer.close()


async def _message(reader: asyncio.StreamReader) -> bytes | None:
    """A request or an answer, whole; None where the other side has ended."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    length = LENGTH.search(head)
    return head + (await reader.readexactly(int(length[1])) if length else b"")
