"""What is written in one turn of the event loop is sent at once, in order, and never too late."""

import asyncio
from typing import Any, cast

from server.web.listening.gathered_writes import MOST_GATHERED, Gathered


class Recorded:
    """What a transport was asked to do."""

    def __init__(self) -> None:
        self.calls: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def close(self) -> None:
        self.calls.append("close")

    def is_closing(self) -> bool:
        return "close" in self.calls


def gathered() -> tuple[Any, Recorded]:
    transport = Recorded()
    return Gathered(cast(Any, transport), asyncio.get_running_loop()), transport


def test_a_head_and_its_body_are_sent_together() -> None:
    async def write() -> list[bytes | str]:
        writer, transport = gathered()
        writer.write(b"head ")
        writer.write(b"body")
        assert transport.calls == []
        await asyncio.sleep(0)
        writer.write(b"next")
        await asyncio.sleep(0)
        return transport.calls

    assert asyncio.run(write()) == [b"head body", b"next"]


def test_much_is_not_kept_waiting() -> None:
    async def write() -> list[bytes | str]:
        writer, transport = gathered()
        writer.write(b"head")
        writer.write(b"x" * MOST_GATHERED)
        assert len(transport.calls) == 1
        writer.write(b"tail")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return transport.calls

    assert asyncio.run(write()) == [b"head" + b"x" * MOST_GATHERED, b"tail"]


def test_what_was_written_is_sent_before_the_connection_closes() -> None:
    async def write() -> list[bytes | str]:
        writer, transport = gathered()
        writer.write(b"goodbye")
        writer.close()
        assert writer.is_closing()
        await asyncio.sleep(0)
        return transport.calls

    assert asyncio.run(write()) == [b"goodbye", "close"]
