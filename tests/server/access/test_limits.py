"""Limits say which one it is, and when to come back."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from server.access.roles import Principal
from server.access.write_rate import WriteRate
from server.errors import LimitReached
from server.web.layers import large_refusals
from server.web.layers.large_refusals import LargeRefusals
from tests.server.conftest import TINY, Clock, OrreryServer, assert_problem


def test_a_burst_passes_then_the_rate_counts() -> None:
    clock = Clock()
    rate = WriteRate(60, clock)
    for _ in range(60):
        rate.spend("a")
    with pytest.raises(LimitReached) as refused:
        rate.spend("a")
    assert refused.value.headers["Retry-After"] == "1"
    rate.spend("b")
    clock.advance(1.0)
    rate.spend("a")
    with pytest.raises(LimitReached):
        rate.spend("a")
    clock.advance(3600)
    for _ in range(60):
        rate.spend("a")
    with pytest.raises(LimitReached):
        rate.spend("a")


def test_a_large_body_counts_as_many_writes() -> None:
    clock = Clock()
    rate = WriteRate(60, clock)
    rate.spend("a", 2**15 - 1)
    for _ in range(58):
        rate.spend("a")
    rate.spend("a", 2**20)  # the last may be larger than what is left
    with pytest.raises(LimitReached) as refused:
        rate.spend("a")
    assert refused.value.headers["Retry-After"] == "33"
    clock.advance(33.0)
    rate.spend("a")
    rate.spend("b")


def test_reports_are_not_counted_whoever_sends_them(tmp_path: Path) -> None:
    with OrreryServer(tmp_path, auth=False, writes_per_minute=2) as server:
        nobody = server.http(None)
        for _ in range(2):
            assert nobody.post("/v1/jobs/validate", json={"config": {}}).status_code == 200
        assert_problem(nobody.post("/v1/jobs/validate", json={"config": {}}), 429)
        path = f"/v1/leases/lease_{'0' * 26}/report"
        for _ in range(3):
            assert_problem(nobody.post(path, json={"epochs": []}), 409)


def test_a_body_in_chunks_counts_as_much(tmp_path: Path) -> None:
    with OrreryServer(tmp_path, writes_per_minute=20) as server:
        body = [b'{"config":{}}', b" " * 2**19, b" " * 2**18]
        for status in (200, 429):
            answer = server.admin.post(
                "/v1/jobs/validate",
                content=iter(body),
                headers={"Content-Type": "application/json"},
            )
            assert answer.status_code == status


def test_what_no_limit_stops_has_a_small_body(server: OrreryServer) -> None:
    path = f"/v1/jobs/{server.submit()['id']}/cancel"
    large = {"grace_s": 1.0, "note": "x" * 5000}
    assert_problem(server.admin.post(path, json=large), 413, "body_too_large")
    assert server.admin.post(path, json={"grace_s": 1.0}).status_code == 202


def test_no_limit_is_no_limit() -> None:
    rate = WriteRate(0)
    rate.spend("a", 2**30)
    for _ in range(1000):
        rate.spend("a")


def _refused(server: OrreryServer, field: str) -> bytes:
    """The refusal of a body without a token, which is not sent."""
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n{field}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.sendall(head.encode())
        return connection.recv(4096)


def test_large_bodies_that_are_refused_are_not_read_where_they_are_many(
    server: OrreryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_refusals, "MOST_RESTING", 0)
    fields = ("Content-Length: 10", "Content-Length: 1000000", "Transfer-Encoding: chunked")
    answers = [_refused(server, field) for field in fields]
    assert all(answer.startswith(b"HTTP/1.1 401") for answer in answers)
    assert [b"connection: close" in answer for answer in answers] == [False, True, True]


def test_some_large_bodies_of_a_token_rest_before_they_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def request(token_id: str, size: int) -> dict[str, Any]:
        state = {"principal": Principal(token_id, "user")}
        return {"headers": [(b"content-length", str(size).encode())], "state": state}

    async def many() -> None:
        refusals = LargeRefusals()
        large = [asyncio.create_task(refusals.rest(request("a", 10**6))) for _ in range(8)]
        large.append(asyncio.create_task(refusals.rest(request("b", 10**6))))
        await asyncio.sleep(0)
        assert await refusals.rest(request("a", 10))
        assert not await refusals.rest(request("a", 10**6))
        assert not any(task.done() for task in large)
        large[0].cancel()
        await asyncio.wait(large[:1])
        monkeypatch.setattr(large_refusals, "REST_S", 0.0)
        assert await refusals.rest(request("a", 10**6))
        for task in large:
            task.cancel()

    monkeypatch.setattr(large_refusals, "REST_S", 60.0)
    asyncio.run(many())


@pytest.mark.parametrize("field", ["Content-Length: 99999", "Transfer-Encoding: chunked"])
def test_a_request_that_has_no_use_for_a_body_has_none(server: OrreryServer, field: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        head = f"GET /healthz HTTP/1.1\r\nHost: localhost\r\n{field}\r\n\r\n"
        connection.sendall(head.encode())
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer


@pytest.mark.slow
def test_waiting_jobs_of_one_token_are_limited(tmp_path: Path) -> None:
    with OrreryServer(tmp_path, max_queued_jobs=2) as server:
        user, other = server.new_client("user"), server.new_client("user")
        jobs = [server.submit(user)["id"] for _ in range(2)]
        refused = user.post("/v1/jobs", json={"config": TINY})
        problem = assert_problem(refused, 429, "limit_reached")
        assert "2 waiting jobs" in problem["detail"]
        assert int(refused.headers["Retry-After"]) > 0
        server.submit(other)
        user.post(f"/v1/jobs/{jobs[0]}/cancel")
        server.submit(user)
        assert_problem(user.post(f"/v1/jobs/{jobs[0]}/retry"), 429, "limit_reached")
        assert user.post(f"/v1/jobs/{jobs[1]}/pause").status_code == 202
        server.submit(user)
        assert_problem(user.post(f"/v1/jobs/{jobs[1]}/resume"), 429, "limit_reached")


@pytest.mark.slow
def test_running_jobs_of_one_token_are_limited_and_others_pass_by(tmp_path: Path) -> None:
    with OrreryServer(tmp_path, max_running_jobs=1) as server:
        user, other = server.new_client("user"), server.new_client("user")
        first, second = (server.submit(user)["id"] for _ in range(2))
        third = server.submit(other, priority=-5)["id"]
        claimed = [server.claim() for _ in range(3)]
        assert [a["job"] for a in claimed if a] == [first, third]
        assert claimed[0] is not None
        server.finish(claimed[0]["lease_id"])
        again = server.claim()
        assert again is not None
        assert again["job"] == second


@pytest.mark.slow
def test_writes_are_limited_and_reads_and_workers_are_not(tmp_path: Path) -> None:
    with OrreryServer(tmp_path, writes_per_minute=3) as server:
        admin = server.admin
        answers = [admin.post("/v1/jobs", json={"config": TINY}).status_code for _ in range(4)]
        assert answers == [201, 201, 201, 429]
        job = admin.get("/v1/jobs").json()["data"][0]["id"]
        assert admin.post(f"/v1/jobs/{job}/cancel").status_code == 202
        assert admin.get("/v1/jobs").status_code == 200
        worker = server.register()
        assert [server.claim(worker) is not None for _ in range(4)] == [True, True, False, False]
