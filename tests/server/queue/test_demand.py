"""What who starts workers asks: how many jobs wait for such, and what those there are do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import OrreryServer, assert_problem

pytestmark = pytest.mark.slow
GIB = 2**30


def demand(server: OrreryServer, **asked: Any) -> dict[str, Any]:
    answer = server.worker.get("/v1/queue/demand", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_jobs_count_that_such_a_worker_can_take(server: OrreryServer) -> None:
    server.submit()
    server.submit(config={"device": "cuda"})
    server.submit(requires={"gpus": 1, "gpu_memory": 40 * GIB})
    server.submit(requires={"labels": {"site": "leiden"}})
    server.submit(requires={"gpus": 1, "labels": {"site": "leiden"}})
    assert demand(server)["waiting"] == 1
    assert demand(server, gpu_memory=2**50)["waiting"] == 3
    assert demand(server, gpu_memory=24 * GIB)["waiting"] == 2
    assert demand(server, labels=["site=leiden"])["waiting"] == 2
    assert demand(server, labels=["site=leiden", "rack=7"], gpu_memory=80 * GIB)["waiting"] == 5
    assert demand(server, memory=1000)["waiting"] == 0


def test_a_worker_that_is_there_takes_what_was_counted_for_it(server: OrreryServer) -> None:
    server.submit(requires={"labels": {"site": "leiden"}})
    server.submit()
    worker_id = server.register(name="pool-1", slots=3, labels={"site": "leiden"})
    server.register(name="other-1")
    server.register(name="pool_1")  # no pattern
    asked = {"names": "pool-", "labels": ["site=leiden"]}
    idle = {"name": "pool-1", "slots": 3, "jobs": 0, "attempts": 0}
    assert demand(server, **asked) == {"waiting": 2, "workers": [idle]}
    server.claim(worker_id)
    assignment = server.claim(worker_id)
    assert demand(server, **asked) == {"waiting": 0, "workers": [idle | {"jobs": 2, "attempts": 2}]}
    server.finish(assignment["lease_id"])
    assert demand(server, **asked)["workers"] == [idle | {"jobs": 1, "attempts": 2}]
    assert server.admin.get("/v1/queue/demand", params=asked).json() == demand(server, **asked)
    others = server.new_client("worker")
    assert others.get("/v1/queue/demand", params=asked).json()["workers"] == []


@pytest.fixture
def thrifty(tmp_path: Path) -> Iterator[OrreryServer]:
    with OrreryServer(tmp_path, max_running_jobs=2) as server:
        yield server


def test_no_worker_is_wanted_for_jobs_that_may_not_run(thrifty: OrreryServer) -> None:
    for _ in range(5):
        thrifty.submit()
    assert demand(thrifty)["waiting"] == 2
    thrifty.claim(thrifty.register())
    assert demand(thrifty)["waiting"] == 1
    other = thrifty.new_client("user")
    for _ in range(3):
        thrifty.submit(other)
    assert demand(thrifty)["waiting"] == 3


@pytest.mark.parametrize(
    "wrong", [{"names": "a%"}, {"gpu_memory": -1}, {"left_s": "soon"}, {"labels": "x" * 400}]
)
def test_what_makes_no_sense_is_refused(server: OrreryServer, wrong: dict[str, Any]) -> None:
    assert_problem(server.worker.get("/v1/queue/demand", params=wrong), 422)
