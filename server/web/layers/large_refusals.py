"""Large bodies that are sent in spite of a limit: read late, and where they are many not at all.

A client that goes on sending what is refused would otherwise have the server read it as fast as it
comes. While a refusal rests nothing is read, and the client's own sending waits.
"""

import asyncio
from collections import Counter

from server.web.asgi import Scope

LARGE_BYTES = 2**15
REST_S = 1.0
MOST_RESTING = 8  # of one token


class LargeRefusals:
    """Of all tokens."""

    def __init__(self) -> None:
        self._resting: Counter[str] = Counter()

    async def rest(self, scope: Scope) -> bool:
        """Wait before a refusal is sent, if the request's body is large.

        Returns:
            Whether the body is to be read; else the connection is closed with the refusal.
        """
        if length_of(dict(scope["headers"])) < LARGE_BYTES:
            return True
        principal = scope["state"].get("principal")
        whose = "" if principal is None else principal.token_id
        if self._resting[whose] >= MOST_RESTING:
            return False
        self._resting[whose] += 1
        try:
            await asyncio.sleep(REST_S)
        finally:
            self._resting[whose] -= 1
            if not self._resting[whose]:
                del self._resting[whose]
        return True


def length_of(headers: dict[bytes, bytes]) -> int:
    """The length of a body, as its request says [B]; large, where it comes in chunks."""
    if b"transfer-encoding" in headers:
        return LARGE_BYTES
    length = headers.get(b"content-length", b"")
    return int(length[:20]) if length.isdigit() else 0
