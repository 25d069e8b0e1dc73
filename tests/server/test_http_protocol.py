"""Clients that begin a request and never end it."""

import socket
import threading
from collections.abc import Iterator
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
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for piece in pieces:
            connection.sendall(piece)
        received = b""
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
