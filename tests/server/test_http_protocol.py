"""Clients that begin a request and never end it."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import uvicorn

from server.client import Client
from server.http_protocol import uvicorn_config
from server.settings import ServerSettings
from server.up import free_port


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A server that waits 0.3 s for a head."""
    number = free_port("127.0.0.1")
    settings = ServerSettings(data=tmp_path, port=number, head_timeout_s=0.3)
    server = uvicorn.Server(uvicorn_config(settings))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with Client(f"http://127.0.0.1:{number}") as client:
            client.wait_until_ready(20)
        yield number
    finally:
        server.should_exit = True
        thread.join()


def answer_to(port: int, *pieces: bytes) -> bytes:
    """All that the server sends until it closes the connection."""
    received = b""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
        suppress(ConnectionResetError, BrokenPipeError),  # closed with some of it unread
    ):
        for piece in pieces:
            connection.sendall(piece)
        while piece := connection.recv(65536):
            received += piece
    return received


@pytest.mark.parametrize("start", [b"", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"])
def test_a_head_that_does_not_end_is_given_up_on(port: int, start: bytes) -> None:
    assert answer_to(port, start) == b""


def test_a_second_head_on_a_connection_is_given_up_on_as_well(port: int) -> None:
    whole = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    received = answer_to(port, whole, b"GET /heal")
    assert received.startswith(b"HTTP/1.1 200")
    assert received.count(b"HTTP/1.1") == 1


def test_a_request_that_takes_its_time_is_answered(port: int, tmp_path: Path) -> None:
    token = (tmp_path / ".orrery" / "admin.token").read_text().strip()
    with Client(f"http://127.0.0.1:{port}", token) as client:
        job, version = client.job_with_version(client.submit({})["id"])
        again, _ = client.job_with_version(job["id"], wait=1, version=version)
    assert again["status"] == "queued"


LONG = b"x" * 1_000_000


@pytest.mark.parametrize(
    "start",
    [
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: " + LONG,
        b"GET /" + LONG,
        b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + LONG,
    ],
    ids=["header", "path", "chunk extension"],
)
def test_a_head_without_end_is_refused_before_it_fills_the_memory(port: int, start: bytes) -> None:
    received = answer_to(port, start)
    refused = b"HTTP/1.1 400", b"HTTP/1.1 401"  # the latter before the body is looked at
    assert received.startswith(refused) or received == b""


def test_a_head_behind_a_request_that_is_worked_on_is_limited_as_well(
    port: int, tmp_path: Path
) -> None:
    token = (tmp_path / ".orrery" / "admin.token").read_bytes().strip()
    with Client(f"http://127.0.0.1:{port}", token.decode()) as client:
        job, version = client.job_with_version(client.submit({})["id"])
    waits = f"GET /v1/jobs/{job['id']}?wait=20&version={version} HTTP/1.1\r\nHost: localhost\r\n"
    whole = waits.encode() + b"Authorization: Bearer " + token + b"\r\n\r\n"
    assert answer_to(port, whole, b"GET /healthz HTTP/1.1\r\nX-Long: " + LONG) == b""


@pytest.mark.parametrize("size", [1, 1000, 200_000])
def test_a_large_body_in_chunks_is_no_head(port: int, tmp_path: Path, size: int) -> None:
    token = (tmp_path / ".orrery" / "admin.token").read_bytes().strip()
    body = json.dumps({"config": {}, "name": "x" * 100}).encode() + b" " * 200_000
    chunks = [body[k : k + size] for k in range(0, len(body), size)]
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    head += b"Content-Type: application/json\r\nConnection: close\r\n"
    sent = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    received = answer_to(port, head + b"Authorization: Bearer " + token + b"\r\n\r\n", sent)
    assert received.startswith(b"HTTP/1.1 201")
