"""Workers register, and are listed with what they do."""

import time
from typing import Any

import pytest
from sqlalchemy import update

from server.database.tables import workers
from server.views import workers as worker_views
from tests.server.conftest import Orrery, OrreryServer, assert_problem, checkpoint

Json = dict[str, Any]


def test_a_registered_worker_learns_its_terms_and_is_listed(server: OrreryServer) -> None:
    body: Json = {
        "name": "gpu-1",
        "host": "node-7",
        "slots": 2,
        "gpus": [{"name": "H200", "memory_bytes": 2**37}],
        "versions": {"torch": "2.13.0"},
    }
    shown = body | {"folder": server.folder_id}
    answer = server.worker.post("/v1/workers", json=shown)
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


@pytest.mark.parametrize(
    ("folder", "told"),
    [({}, "has no file .orrery-folder"), ({"folder": "folder_of-another"}, "is another one")],
)
def test_a_worker_that_does_not_see_the_servers_folder_is_refused(
    server: OrreryServer, orrery: Orrery, folder: Json, told: str
) -> None:
    job = server.submit()
    body = {"name": "stray", "host": "elsewhere", **folder}
    for _ in range(3):  # as its supervisor starts it again
        problem = assert_problem(server.worker.post("/v1/workers", json=body), 409)
    assert problem["code"] == "folder_not_shared"
    assert told in problem["detail"]
    [seen] = server.admin.get("/v1/workers").json()["data"]
    assert seen["refusal"] == problem["detail"]
    answer = server.worker.post(f"/v1/workers/{seen['id']}/claim", json={"claim_id": "c"})
    assert answer.status_code == 404
    assert server.job(job["id"])["status"] == "queued"
    assert "refused" in orrery("workers").out
    done = orrery("doctor")
    assert done.code == 1
    assert told in " ".join(done.out.split())


@pytest.mark.parametrize("change", [{"bytes": 5}, {"epoch": 1}])
def test_a_file_is_listed_only_once_the_server_has_seen_it(
    server: OrreryServer, change: Json
) -> None:
    job, assignment = server.start()
    kept = checkpoint(assignment, 0)
    assert server.report(assignment["lease_id"], checkpoints=[kept]).status_code == 200
    path = f"{assignment['output_folder']}/model/other.pt"
    missing = checkpoint(assignment, 1, path=path)
    spoilt = missing | {"bytes": 5} if "bytes" in change else missing
    if "bytes" in change:
        (server.settings.data / path).write_bytes(b"12")
    report = {"checkpoints": [spoilt]}
    answer = server.worker.post(f"/v1/leases/{assignment['lease_id']}/report", json=report)
    assert "does not see" in assert_problem(answer, 409, "report_conflict")["detail"]
    report = {"checkpoints": [spoilt | {"rolling": True, "path": path}]}  # thinned meanwhile
    answer = server.worker.post(f"/v1/leases/{assignment['lease_id']}/report", json=report)
    assert answer.status_code == 200
    listed = server.admin.get(f"/v1/jobs/{job['id']}/checkpoints").json()["data"]
    assert [file["path"] for file in listed] == [kept["path"]]


def test_a_worker_that_stays_is_listed_whatever_number_came_and_went(
    server: OrreryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_views, "MOST", 2)
    stays = server.register(name="stays")
    gone = [server.register(name=f"pilot-{number}") for number in range(3)]
    heard = update(workers).where(workers.c.id == stays).values(last_seen_at=time.time() + 60)
    server.write(lambda connection: connection.execute(heard))
    listed = [worker["id"] for worker in server.admin.get("/v1/workers").json()["data"]]
    assert listed == [gone[-1], stays]
    drained = server.admin.post(f"/v1/workers/{gone[0]}/drain").json()
    assert (drained["id"], drained["draining"]) == (gone[0], True)
