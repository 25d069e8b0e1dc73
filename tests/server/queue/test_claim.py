"""Workers claim: who gets which job, and when."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from nbody.config import Config
from nbody.config.field_marks import Mark, fields_with
from tests.server.conftest import TINY, OrreryServer, assert_problem


def test_an_empty_queue_has_nothing_to_claim(server: OrreryServer) -> None:
    worker_id = server.register()
    answer = server.worker.post(f"/v1/workers/{worker_id}/claim", json={"claim_id": "c"})
    assert (answer.status_code, answer.content) == (204, b"")


def test_a_claim_starts_the_job_and_hands_over_its_config(server: OrreryServer) -> None:
    job = server.submit(config={"save_name": "halo"}, max_runtime_s=60)
    assignment = server.claim()
    assert assignment is not None
    assert (assignment["job"], assignment["attempt"]) == (job["id"], 1)
    assert {**fields_with(Mark.LATER, Config), **assignment["config"]} == job["config"]
    assert assignment["output_folder"] == f"halo/{job['id']}/attempt-1"
    assert assignment["resume_from"] == []
    assert 0 < assignment["runtime_left_s"] <= 60
    assert assignment["lease_ttl_s"] == server.settings.lease_ttl_s
    running = server.job(job["id"])
    assert (running["status"], running["attempt"]) == ("running", 1)
    assert server.event_types(job["id"]) == ["submitted", "started"]


def test_jobs_are_claimed_by_priority_and_then_by_age(server: OrreryServer) -> None:
    priorities = [0, -5, 9, 0, 9]
    ids = [server.submit(priority=priority)["id"] for priority in priorities]
    worker_id = server.register()
    claimed = [server.claim(worker_id) for _ in ids]
    assert [c["job"] for c in claimed if c] == [ids[2], ids[4], ids[0], ids[3], ids[1]]
    assert server.claim(worker_id) is None


def test_the_same_claim_id_gets_the_same_answer(server: OrreryServer) -> None:
    server.submit()
    server.submit()
    worker_id = server.register()
    first = server.claim(worker_id, "again")
    assert server.claim(worker_id, "again") == first
    other = server.claim(worker_id, "another")
    assert other is not None
    assert first is not None
    assert other["job"] != first["job"]


def test_a_repeated_claim_does_not_hand_out_a_lost_lease(server: OrreryServer) -> None:
    server.submit()
    worker_id = server.register()
    first = server.claim(worker_id, "again")
    server.lose_leases()
    again = server.claim(worker_id, "again")
    assert first is not None
    assert again is None or again["lease_id"] != first["lease_id"]


def test_claim_ids_of_different_workers_do_not_meet(server: OrreryServer) -> None:
    server.submit()
    assert server.claim(server.register(), "c1") is not None
    assert server.claim(server.register(), "c1") is None


@pytest.mark.parametrize("racers", [2, 6])
def test_of_workers_that_race_for_one_job_exactly_one_wins(
    server: OrreryServer, racers: int
) -> None:
    workers = [server.register() for _ in range(racers)]
    client = server.worker
    with ThreadPoolExecutor(racers) as pool:
        for round_number in range(5):
            job = server.submit()
            barrier = threading.Barrier(racers)

            def race(worker_id: str, start: threading.Barrier, claim_id: str) -> Any:
                start.wait(10)
                return client.post(f"/v1/workers/{worker_id}/claim", json={"claim_id": claim_id})

            running = [pool.submit(race, w, barrier, f"r{round_number}") for w in workers]
            answers = [future.result() for future in running]
            assert sorted(a.status_code for a in answers) == [200] + [204] * (racers - 1)
            [winner] = [a.json() for a in answers if a.status_code == 200]
            assert winner["job"] == job["id"]
            assert server.event_types(job["id"]).count("started") == 1


def test_a_waiting_claim_wakes_when_a_job_is_submitted(server: OrreryServer) -> None:
    worker_id = server.register()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.claim, worker_id, "patient", 20)
        server.until(lambda: server.idle_claims() == 1)
        assert not waiting.done()
        job = server.submit()
        assignment = waiting.result(10)
    assert assignment is not None
    assert assignment["job"] == job["id"]
    assert server.idle_claims() == 0


def test_a_waiting_claim_wakes_when_a_lease_expires(server: OrreryServer) -> None:
    job, _ = server.start()
    worker_id = server.register()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.claim, worker_id, "patient", 20)
        server.until(lambda: server.idle_claims() == 1)
        server.lose_leases()
        assignment = waiting.result(10)
    assert assignment is not None
    assert (assignment["job"], assignment["attempt"]) == (job["id"], 2)


def test_a_waiting_claim_ends_empty_after_its_time(server: OrreryServer) -> None:
    began = time.monotonic()
    assert server.claim(wait_s=0.05) is None
    assert time.monotonic() - began >= 0.05


def test_only_the_token_that_registered_a_worker_claims_for_it(server: OrreryServer) -> None:
    job = server.submit()
    worker_id = server.register()
    stranger = server.new_client("worker")
    answer = stranger.post(f"/v1/workers/{worker_id}/claim", json={"claim_id": "c"})
    assert_problem(answer, 404, "not_found")
    assert server.job(job["id"])["status"] == "queued"


def test_a_job_whose_config_is_refused_by_now_fails_and_stops_no_other(
    server: OrreryServer,
) -> None:
    old, new = server.submit(), server.submit()
    server.write(
        lambda connection: connection.exec_driver_sql(
            "UPDATE jobs SET config = json_set(config, '$.epochs', 0) WHERE id = ?", (old["id"],)
        )
    )
    worker = server.register()
    assignment = server.claim(worker, "one")
    assert assignment is not None
    assert assignment["job"] == new["id"]
    assert server.claim(worker, "one") == assignment
    failed = server.job(old["id"])
    assert (failed["status"], failed["failure"]["code"]) == ("failed", "invalid_config")
    assert "epochs" in failed["failure"]["detail"]
    assert failed["config"]["epochs"] == 0


def test_kinds_that_the_server_does_not_know_are_ignored(server: OrreryServer) -> None:
    job, worker = server.submit(), server.register()
    path = f"/v1/workers/{worker}/claim"
    assert server.worker.post(path, json={"claim_id": "a", "kinds": ["dream"]}).status_code == 204
    body = {"claim_id": "b", "kinds": ["dream", "train"]}
    assert server.worker.post(path, json=body).json()["job"] == job["id"]


# --- whose turn it is ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/sweeps", "PATCH"])
def test_high_priorities_are_the_admins(server: OrreryServer, path: str) -> None:
    user = server.new_client("user")
    job = server.submit(user)
    space = {"lr": {"type": "float", "low": 1e-4, "high": 1e-2}}

    def ask(client: httpx.Client, priority: int) -> httpx.Response:
        if path == "PATCH":
            return client.patch(f"/v1/jobs/{job['id']}", json={"priority": priority})
        body = {"config": TINY, "priority": priority}
        return client.post(path, json=body | ({"space": space} if "sweeps" in path else {}))

    problem = assert_problem(ask(user, 11), 422)
    assert problem["errors"][0]["pointer"] == "/priority"
    assert "ask an admin" in problem["detail"]
    assert ask(user, 10).is_success
    assert ask(server.admin, 100).is_success


def test_a_worker_of_an_earlier_release_is_not_told_what_it_does_anyway(
    server: OrreryServer,
) -> None:
    """It would refuse the field; one that says something else it must refuse."""
    _, assignment = server.start()
    assert "integrator" not in assignment["config"]
    assert assignment["config"]["gate"] == "auto"
    _, assignment = server.start(config={"integrator": "leapfrog4"})
    assert assignment["config"]["integrator"] == "leapfrog4"
