"""Strangers do not lock out those with tokens; unread answers and revoked tokens end."""

import contextlib
import hashlib
import logging
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.errors import LimitReached
from server.web.listening import connections as listening
from server.web.listening import protocol
from server.web.listening.connections import Connections
from tests.server.conftest import OrreryServer, checkpoint

Json = dict[str, Any]


class Line:
    """A connection that remembers whether it was closed."""

    def __init__(self) -> None:
        self.is_open = True

    def abort(self) -> None:
        self.is_open = False

    def unread_bytes(self) -> int:
        return 2**20


def _begun(connections: Connections, number: int, address: str) -> list[Line]:
    lines = [Line() for _ in range(number)]
    for line in lines:
        connections.begin(line, address)
    return lines


def test_strangers_share_a_part_of_all_and_the_oldest_make_room() -> None:
    connections = Connections(16)
    crowd = [line for n in range(6) for line in _begun(connections, 3, f"10.0.0.{n}")]
    assert [line.is_open for line in crowd] == [False] * 10 + [True] * 8
    [guest] = _begun(connections, 1, "10.1.1.1")
    assert guest.is_open
    connections.recognise(guest, "a")
    _begun(connections, 3, "10.0.1.1")
    assert guest.is_open
    assert len(connections) == 9


def test_one_address_has_a_quarter_of_all() -> None:
    connections = Connections(16)
    crowd = _begun(connections, 10, "10.0.0.1")
    assert [line.is_open for line in crowd] == [False] * 6 + [True] * 4


def _recognised(connections: Connections, number: int, token_id: str) -> list[Line]:
    lines: list[Line] = []
    for _ in range(number):
        lines += _begun(connections, 1, "10.0.0.1")
        connections.recognise(lines[-1], token_id)
    return lines


def test_those_with_tokens_have_nearly_all_that_is_left() -> None:
    connections = Connections(16)
    known = _recognised(connections, 15, "a")
    [late] = _begun(connections, 1, "10.0.0.2")
    for _ in range(3):
        with pytest.raises(LimitReached, match="15 connections of your token"):
            connections.recognise(late, "a")
    assert all(line.is_open for line in [*known, late])
    for line in [*known, late]:
        connections.end(line)
    assert len(connections) == 0


def test_whoever_has_most_connections_makes_room_for_others() -> None:
    connections = Connections(32)
    many, few = _recognised(connections, 25, "many"), _recognised(connections, 5, "few")
    late = _recognised(connections, 5, "late")
    assert [line.is_open for line in many] == [False] * 5 + [True] * 20
    assert all(line.is_open for line in [*few, *late])
    for token in ("late", "many", "late"):  # a proxy's connection shows one token after the other
        connections.recognise(many[-1], token)
    assert many[-1].is_open
    assert len(connections) == 30


def test_answers_that_are_not_read_are_bounded_for_each_token() -> None:
    connections = Connections(512)
    lines, others = _recognised(connections, 150, "a"), _recognised(connections, 2, "b")
    for line in lines[:128]:
        connections.leave_unread(line)
    connections.leave_unread(others[0])
    assert all(line.is_open for line in lines)  # of 1 MiB each
    connections.read_again(lines[0])
    connections.leave_unread(lines[128])
    assert all(line.is_open for line in lines)
    connections.leave_unread(lines[129])
    assert [line.is_open for line in lines[:4]] == [True, False, True, True]
    assert all(line.is_open for line in [*lines[2:], *others])


def test_who_leaves_too_many_answers_unread_loses_those_of_longest_ago(
    server: OrreryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "MOST_UNREAD_BYTES", 1)
    token = server.new_token("user")
    path = _large(server, token)
    with _begin_download(server, token, path) as first:
        server.until(lambda: _is_writing(server))
        with _begin_download(server, token, path) as second:
            server.until(lambda: first.getsockname()[1] not in _ports(server))
            assert _all_of(first) < 49_000_000
            assert _all_of(second) > 49_000_000


@pytest.mark.slow
def test_a_crowd_without_tokens_keeps_nobody_out(tmp_path: Path) -> None:
    with OrreryServer(tmp_path, max_connections=64) as server, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        crowd = [stack.enter_context(socket.create_connection(address, 10)) for _ in range(200)]
        for _ in range(20):
            headers = {"Authorization": f"Bearer {server.admin_token}"}
            assert httpx.get(f"{server.url}/v1/jobs", headers=headers).status_code == 200
        assert len(crowd) == 200


def _large(server: OrreryServer, token: str) -> str:
    """The path of a file of 50 MB, of a job of whoever has the token."""
    job, assignment = server.start(client=server.http(token))
    content = b"w" * 50_000_000
    saved = checkpoint(
        assignment, 0, bytes=len(content), sha256=hashlib.sha256(content).hexdigest()
    )
    path = server.settings.data / saved["path"]
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    server.report(assignment["lease_id"], checkpoints=[saved])
    [listed] = server.admin.get(f"/v1/jobs/{job['id']}/checkpoints").json()["data"]
    return f"/v1/checkpoints/{listed['id']}/content"


def _all_of(connection: socket.socket) -> int:
    """Bytes until it is closed."""
    received = 0
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(2**20):
            received += len(piece)
    return received


def _begin_download(server: OrreryServer, token: str, path: str = "") -> socket.socket:
    """A download of which nothing but the head is read yet."""
    request = f"GET {path or _large(server, token)} HTTP/1.1\r\nHost: localhost\r\n"
    connection = socket.create_connection(("127.0.0.1", server.port), 10)
    connection.sendall(f"{request}Authorization: Bearer {token}\r\n\r\n".encode())
    assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    return connection


def _is_writing(server: OrreryServer) -> bool:
    found: Any = server._listener.server_state.connections
    return any(connection.transport.get_write_buffer_size() for connection in found)


def _ports(server: OrreryServer) -> set[int]:
    """Of the clients."""
    found: Any = server._listener.server_state.connections
    return {connection.client[1] for connection in list(found)}


@pytest.mark.slow
def test_an_answer_that_nobody_reads_is_given_up(
    server: OrreryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "READ_TIMEOUT_S", 0.2)
    with _begin_download(server, server.new_token("user")) as connection:
        server.until(lambda: _is_writing(server))
        server.until(lambda: not _is_writing(server))
        assert _all_of(connection) < 49_000_000


def test_a_download_ends_with_its_token(
    server: OrreryServer, caplog: pytest.LogCaptureFixture
) -> None:
    known = {token["id"] for token in server.admin.get("/v1/tokens").json()["data"]}
    with _begin_download(server, server.new_token("user")) as connection:
        for token in server.admin.get("/v1/tokens").json()["data"]:
            if token["id"] not in known:
                server.admin.delete(f"/v1/tokens/{token['id']}")
        assert _all_of(connection) < 49_000_000
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
