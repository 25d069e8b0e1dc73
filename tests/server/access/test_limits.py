"""Limits say which one it is, and when to come back."""

from pathlib import Path

import pytest

from server.access.write_rate import WriteRate
from server.errors import LimitReached
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


def test_no_limit_is_no_limit() -> None:
    rate = WriteRate(0)
    for _ in range(1000):
        rate.spend("a")


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
