"""Workers that end while they wait for a job: none is given to them."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.patience import until
from tests.server.conftest import TINY, OrreryServer, assert_problem

pytestmark = pytest.mark.slow


def waiting(server: OrreryServer) -> int:
    """How many claims wait."""
    idle: Any = server.app
    while not hasattr(idle, "state"):
        idle = idle._app
    return sum(map(len, idle.state.idle_workers._waiting.values()))


def asks(server: OrreryServer, worker_id: str, wait_s: float) -> "socket.socket":
    """A claim on a connection of its own."""
    body = json.dumps({"claim_id": "c", "wait_s": wait_s}).encode()
    connection = socket.create_connection(("127.0.0.1", server.port))
    head = (
        f"POST /v1/workers/{worker_id}/claim HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {server.worker_token}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    return connection


def test_one_that_was_killed_gets_no_job(server: OrreryServer) -> None:
    dead, alive = server.register(), server.register()
    connection = asks(server, dead, 25)
    until(lambda: waiting(server) == 1)
    connection.close()
    until(lambda: waiting(server) == 0)
    job = server.submit()
    assignment = server.claim(alive)
    assert assignment is not None
    assert (assignment["job"], assignment["attempt"]) == (job["id"], 1)


def test_one_that_leaves_is_answered_and_counts_no_more(server: OrreryServer) -> None:
    worker_id = server.register(memory_bytes=2**34)
    with ThreadPoolExecutor() as beside:
        asked = beside.submit(server.claim, worker_id, wait_s=25)
        until(lambda: waiting(server) == 1)
        assert server.worker.post(f"/v1/workers/{worker_id}/leave").status_code == 204
        assert asked.result(timeout=10) is None
    job = server.submit()
    assert server.claim(worker_id) is None  # of one that does not know itself
    assert "none is there" in server.job(job["id"])["waits_for"]
    [listed] = [w for w in server.admin.get("/v1/workers").json()["data"] if w["id"] == worker_id]
    assert listed["left_at"] is not None
    server.register()
    assert server.job(job["id"])["waits_for"] is None


def test_a_worker_says_it_of_itself_alone(server: OrreryServer) -> None:
    worker_id = server.register()
    other = server.http(server.new_token("worker"))
    assert_problem(other.post(f"/v1/workers/{worker_id}/leave"), 404)
    assert server.claim(worker_id) is None
    server.submit(config=TINY)
    assert server.claim(worker_id) is not None
