"""A transport that sends together what is written together: an answer's head with its body."""

import asyncio
from typing import Any

MOST_GATHERED = 2**16  # bytes that may wait for the end of a turn of the event loop


class Gathered:
    """Keeps what is written until the event loop's next turn, and then sends it at once.

    To send takes longer than to make most answers, and wakes the client each time.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        """Whatever does not write is the transport's own."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send with what else is written in this turn; much is sent at once."""
        if not self._parts:
            self._loop.call_soon(self._send)
        self._parts.append(data)
        self._size += len(data)
        if self._size > MOST_GATHERED:
            self._send()

    def close(self) -> None:
        """Close after what was written."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._parts:
            data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts, self._size = [], 0
            self._transport.write(data)
