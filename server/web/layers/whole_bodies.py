"""Bodies are read whole before anyone works on them: too large or too slow is an answer."""

import asyncio
import contextlib

from server.errors import BodyTimeout, BodyTooLarge
from server.web.asgi import Receive, give_again

DRAIN_TIMEOUT_S = 5.0
MOST_DRAINED_BYTES = 2**26


async def receive_whole(
    receive: Receive, headers: dict[bytes, bytes], limit: int, timeout_s: float
) -> tuple[Receive, int]:
    """A request's body.

    Args:
        limit: of its size [B].
        timeout_s: in which all of it has to come [s].

    Returns:
        Where the application receives it, in one message, and its size [B].

    Raises:
        BodyTooLarge, BodyTimeout
    """
    length = headers.get(b"content-length", b"0").decode("latin-1")
    if not length.isascii() or not length.isdigit() or int(length[:20]) > limit:
        if length.isdigit() and int(length[:20]) <= MOST_DRAINED_BYTES:
            await _drain(receive)
        raise BodyTooLarge(limit)
    parts: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(timeout_s):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return give_again(message), size
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > limit:
                    parts.clear()
                    await _drain(receive)
                    raise BodyTooLarge(limit)
                more = message.get("more_body", False)
    except TimeoutError:
        raise BodyTimeout(timeout_s) from None
    whole = {"type": "http.request", "body": b"".join(parts), "more_body": False}
    return give_again(whole, then=receive), size


async def _drain(receive: Receive) -> None:
    """Read on for a while, keeping nothing: a client that still sends would miss the answer."""
    dropped = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            while dropped < MOST_DRAINED_BYTES:
                message = await receive()
                dropped += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
