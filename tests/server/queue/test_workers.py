"""Workers register, and are listed with what they do."""

from typing import Any

from tests.server.conftest import OrreryServer, assert_problem

Json = dict[str, Any]


def test_a_registered_worker_learns_its_terms_and_is_listed(server: OrreryServer) -> None:
    body: Json = {
        "name": "gpu-1",
        "host": "node-7",
        "slots": 2,
        "gpus": [{"name": "H200", "memory_bytes": 2**37}],
        "versions": {"torch": "2.13.0"},
    }
    answer = server.worker.post("/v1/workers", json=body)
    assert answer.status_code == 201
    terms = answer.json()
    assert terms["lease_ttl_s"] == server.settings.lease_ttl_s
    assert terms["heartbeat_interval_s"] < terms["lease_ttl_s"]
    assert terms["stall_timeout_s"] > 0
    [seen] = server.admin.get("/v1/workers").json()["data"]
    assert seen["id"] == terms["id"]
    assert {name: seen[name] for name in body} == body
    assert seen["jobs"] == []


def test_a_worker_is_listed_with_the_jobs_that_it_holds(server: OrreryServer) -> None:
    worker_id = server.register()
    job = server.submit()
    assignment = server.claim(worker_id)
    assert assignment is not None

    def held() -> list[str]:
        return server.admin.get("/v1/workers").json()["data"][0]["jobs"]

    assert held() == [job["id"]]
    server.finish(assignment["lease_id"])
    assert held() == []


def test_a_worker_of_another_protocol_is_refused(server: OrreryServer) -> None:
    answer = server.worker.post("/v1/workers", json={"name": "w", "host": "h", "protocol": 2})
    assert assert_problem(answer, 422)["errors"][0]["pointer"] == "/protocol"
