"""Bodies that are read past the parser: every byte, in order, and what comes after them."""

import asyncio
import hashlib
import secrets
import socket
from typing import Any

import pytest

from server.errors import BodyTimeout, NoFile
from server.web.listening.reading import AT_ONCE, Rest
from tests.server.conftest import OrreryServer, checkpoint
from tests.server.files.test_lease_files import begun, place

CONTENT = secrets.token_bytes(5_000_003)
SHA = hashlib.sha256(CONTENT).hexdigest()
PATIENCE_S = 20.0


def head_of(server: OrreryServer, assignment: dict[str, Any], *more: str, sha256: str = SHA) -> str:
    about = f"path={checkpoint(assignment, 1)['path']}&sha256={sha256}"
    fields = [
        "Host: localhost",
        f"Authorization: Bearer {server.worker_token}",
        f"Content-Length: {len(CONTENT)}",
        f"Content-Range: bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}",
        *more,
    ]
    url = f"/v1/leases/{assignment['lease_id']}/files?{about}"
    return "\r\n".join([f"PUT {url} HTTP/1.1", *fields, "", ""])


def read_until(connection: socket.socket, end: bytes) -> bytes:
    said = b""
    while end not in said:
        more = connection.recv(2**16)
        assert more, said
        said += more
    return said


@pytest.fixture
def connection(server: OrreryServer) -> Any:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as connection:
        yield connection


@pytest.mark.parametrize("slices", [[], [1], [70_000, 70_001, 4_999_999], [2**16, 2**17, 2**21]])
def test_what_follows_a_body_is_the_next_request(
    server: OrreryServer, connection: socket.socket, slices: list[int]
) -> None:
    assignment = begun(server)
    after = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    whole = head_of(server, assignment).encode() + CONTENT + after
    for begin, end in zip([0, *slices], [*slices, len(whole)], strict=True):
        connection.sendall(whole[begin:end])
    said = read_until(connection, b'"ok"')
    assert said.count(b"HTTP/1.1 200 OK") == 2
    assert b'"is_whole":true' in said
    assert place(server, assignment).read_bytes() == CONTENT


def test_who_waits_to_be_told_to_go_on_is_told(
    server: OrreryServer, connection: socket.socket
) -> None:
    assignment = begun(server)
    connection.sendall(head_of(server, assignment, "Expect: 100-continue").encode())
    read_until(connection, b"100 Continue\r\n\r\n")
    connection.sendall(CONTENT)
    read_until(connection, b'"is_whole":true')


def test_another_content_is_told_and_the_connection_goes_on(
    server: OrreryServer, connection: socket.socket
) -> None:
    assignment = begun(server)
    for sha256, said in (("0" * 64, b"HTTP/1.1 4"), (SHA, b'"is_whole":true')):
        connection.sendall(head_of(server, assignment, sha256=sha256).encode() + CONTENT)
        read_until(connection, said)
    assert place(server, assignment).read_bytes() == CONTENT


class Coming:
    """A rest of which something comes whenever there is room, as a connection does it.

    Args:
        most: bytes that come before nothing does any more.
    """

    def __init__(self, size: int, most: int) -> None:
        self.rest = Rest(CONTENT[:9], size, pause=lambda: None, resume=self._come)
        self.most = most
        self.lost_after = size
        self.pieces: list[bytes] = []

    def _come(self) -> None:
        room = self.rest.room()
        size = min(len(room), self.most)
        room[:size] = CONTENT[9 + self.came : 9 + self.came + size]
        self.most -= size
        self.rest.came(size)

    @property
    def came(self) -> int:
        """Bytes that were handed out."""
        return max(0, sum(map(len, self.pieces)) - 9)

    async def take(self, patience_s: float = PATIENCE_S) -> None:
        """All of it, if it comes."""
        async for piece in self.rest.pieces(patience_s, lambda: 2**18):
            self.pieces.append(bytes(piece))
            if self.came >= self.lost_after:
                self.rest.lose()


def test_pieces_grow_and_are_the_whole() -> None:
    coming = Coming(1_000_000, most=1_000_000)
    asyncio.run(coming.take())
    assert b"".join(coming.pieces) == CONTENT[:1_000_009]
    sizes = [len(piece) for piece in coming.pieces]
    assert sizes[:5] == [9, AT_ONCE, 2 * AT_ONCE, 2**18, 2**18]


def test_what_came_before_it_took_too_long_is_kept() -> None:
    coming = Coming(1_000_000, most=100_000)
    with pytest.raises(BodyTimeout):
        asyncio.run(coming.take(patience_s=0.05))
    assert b"".join(coming.pieces) == CONTENT[:100_009]


def test_a_connection_that_is_lost_while_a_piece_is_written_is_no_wait() -> None:
    coming = Coming(1_000_000, most=1_000_000)
    coming.lost_after = AT_ONCE
    with pytest.raises(NoFile, match="ended before"):
        asyncio.run(coming.take())
    assert b"".join(coming.pieces) == CONTENT[: AT_ONCE + 9]
