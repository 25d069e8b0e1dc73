"""Clients that begin a request and never end it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import uvicorn

from server.cli.local_service import free_port
from server.client import Client
from server.settings import ServerSettings
from server.web.listening.protocol import uvicorn_config


@contextmanager
def serving(data: Path, head_timeout_s: float) -> Iterator[int]:
    number = free_port("127.0.0.1")
    settings = ServerSettings(data=data, port=number, head_timeout_s=head_timeout_s)
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


pytestmark = pytest.mark.slow


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A server that waits 0.3 s for a head."""
    with serving(tmp_path, 0.3) as number:
        yield number


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, bytes]]:
    """A server that waits for ever, and its admin's token in a header."""
    data = tmp_path_factory.mktemp("patient")
    with serving(data, 3600.0) as number:
        token = (data / ".orrery" / "admin.token").read_bytes().strip()
        yield number, b"Authorization: Bearer " + token + b"\r\n"


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
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BODY = b'{"config": {}}'
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
Patient = tuple[int, bytes]


@pytest.mark.parametrize("start", [GET + b"X-Long: " + LONG, b"GET /" + LONG])
def test_a_head_without_end_is_refused(patient: Patient, start: bytes) -> None:
    assert answer_to(patient[0], start).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("fields", [b"X: " + b"y" * 70_000 + b"\r\n", b"X: yyyyyy\r\n" * 10_000])
@pytest.mark.parametrize("method", [GET, POST + LENGTH])
def test_a_whole_head_that_is_too_large_is_refused(
    patient: Patient, method: bytes, fields: bytes
) -> None:
    assert answer_to(patient[0], method + fields + b"\r\n").startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("endless", [b"1;" + LONG, b"0\r\nX-Long: " + LONG])
def test_chunks_and_trailers_without_end_are_refused(patient: Patient, endless: bytes) -> None:
    number, token = patient
    start = POST + token + b"Transfer-Encoding: chunked\r\n\r\n"
    assert b"HTTP/1.1 2" not in answer_to(number, start, endless)


def test_a_head_behind_a_request_that_is_worked_on_is_limited_as_well(patient: Patient) -> None:
    assert answer_to(patient[0], waiting(patient), GET + b"X-Long: " + LONG) == b""


def waiting(patient: Patient) -> bytes:
    """A request whose answer takes 20 s."""
    number, token = patient
    with Client(f"http://127.0.0.1:{number}", token.split()[-1].decode()) as client:
        job, version = client.job_with_version(client.submit({})["id"])
    path = f"/v1/jobs/{job['id']}?wait=20&version={version}".encode()
    return b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n" + token + b"\r\n"


def test_requests_that_nobody_waits_for_the_answers_of_are_refused(patient: Patient) -> None:
    assert answer_to(patient[0], waiting(patient), (GET + b"\r\n") * 100_000) == b""


def test_a_few_requests_at_once_are_answered_in_order(patient: Patient) -> None:
    close = GET + b"Connection: close\r\n\r\n"
    assert answer_to(patient[0], (GET + b"\r\n") * 20 + close).count(b"HTTP/1.1 200") == 21


@pytest.mark.parametrize("size", [1, 1000, 200_000])
def test_a_large_body_in_chunks_is_no_head(patient: Patient, size: int) -> None:
    number, token = patient
    body = BODY + b" " * 200_000
    chunks = [body[k : k + size] for k in range(0, len(body), size)]
    head = POST + token + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    sent = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    assert answer_to(number, head, sent).startswith(b"HTTP/1.1 201")


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"


@pytest.mark.parametrize("framing", [LENGTH, b"Transfer-Encoding: chunked\r\n"])
def test_a_body_with_an_offer_of_another_protocol_is_refused(
    patient: Patient, framing: bytes
) -> None:
    number, token = patient
    smuggled = b"GET /v1/workers HTTP/1.1\r\nHost: localhost\r\n" + token + b"\r\n"
    received = answer_to(number, POST + token + UPGRADE + framing + b"\r\n", smuggled)
    assert received == b"" or received.endswith(b"as HTTP/1.1, without Upgrade.")
    assert b"HTTP/1.1 200" not in received


def test_an_offer_of_another_protocol_is_not_taken(patient: Patient) -> None:
    received = answer_to(patient[0], GET + UPGRADE + b"\r\n")
    assert received.startswith(b"HTTP/1.1 200")
    assert received.count(b"HTTP/1.1") == 1


def test_a_trailer_is_no_part_of_the_head(patient: Patient) -> None:
    number, token = patient
    head = POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    chunk = b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
    assert answer_to(number, head + chunk + token + b"\r\n").startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("field", [b"Host: evil.example\r\n", b"Authorization: Bearer x\r\n"])
def test_fields_that_decide_must_not_come_twice(patient: Patient, field: bytes) -> None:
    number, token = patient
    assert answer_to(number, POST + token + field + LENGTH + b"\r\n" + BODY).startswith(
        b"HTTP/1.1 400"
    )


def test_a_request_with_more_behind_it_than_it_said_is_answered(patient: Patient) -> None:
    port, _ = patient
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}, and more"
    answer = answer_to(port, whole)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in answer.lower()
    assert answer.count(b"HTTP/1.1") == 1
