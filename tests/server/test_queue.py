"""The worker protocol: claim, report, finish, lose; under one lease at a time."""

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from server.queue import reports as queue
from tests.server.conftest import (
    OrreryServer,
    assert_problem,
    checkpoint,
    epoch_metrics,
    log_bytes,
)

Json = dict[str, Any]


def _set_status(server: OrreryServer, job_id: str, status: str) -> None:
    statement = text("UPDATE jobs SET status = :status WHERE id = :id")
    server.write(lambda c: c.execute(statement, {"status": status, "id": job_id}))


def _everything(server: OrreryServer, job_id: str) -> Json:
    """All that readers can see of a job."""
    path = f"/v1/jobs/{job_id}"
    return {
        "job": server.admin.get(path).json(),
        "etag": server.admin.get(path).headers["etag"],
        "metrics": server.admin.get(f"{path}/metrics").json(),
        "events": server.admin.get(f"{path}/events").json(),
        "checkpoints": server.admin.get(f"{path}/checkpoints").json(),
        "log": server.log(job_id),
    }


# --- workers ------------------------------------------------------------------------------------


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


# --- claim --------------------------------------------------------------------------------------


def test_an_empty_queue_has_nothing_to_claim(server: OrreryServer) -> None:
    worker_id = server.register()
    answer = server.worker.post(f"/v1/workers/{worker_id}/claim", json={"claim_id": "c"})
    assert (answer.status_code, answer.content) == (204, b"")


def test_a_claim_starts_the_job_and_hands_over_its_config(server: OrreryServer) -> None:
    job = server.submit(config={"save_name": "halo"}, max_runtime_s=60)
    assignment = server.claim()
    assert assignment is not None
    assert (assignment["job"], assignment["attempt"]) == (job["id"], 1)
    assert assignment["config"] == job["config"]
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
        server.until(lambda: server.waiters("queue") == 3)  # and two tasks of the server
        assert not waiting.done()
        job = server.submit()
        assignment = waiting.result(10)
    assert assignment is not None
    assert assignment["job"] == job["id"]
    assert server.waiters("queue") == 2


def test_a_waiting_claim_wakes_when_a_lease_expires(server: OrreryServer) -> None:
    job, _ = server.start()
    worker_id = server.register()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.claim, worker_id, "patient", 20)
        server.until(lambda: server.waiters("queue") == 3)  # and two tasks of the server
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


# --- report -------------------------------------------------------------------------------------


def test_a_report_is_seen_by_readers(server: OrreryServer) -> None:
    job, assignment = server.start()
    saved = checkpoint(assignment, 1)
    answer = server.report(
        assignment["lease_id"],
        first_epoch=0,
        phase="collect",
        epochs=[epoch_metrics(0), epoch_metrics(1)],
        checkpoints=[saved],
        log=log_bytes(0, b"hello\n"),
    )
    assert answer.status_code == 200
    assert answer.json() == {"accepted_through": 1, "command": None}
    page = server.metrics(job["id"])
    assert page["data"] == [epoch_metrics(0), epoch_metrics(1)]
    assert (page["object"], page["has_more"], page["last_epoch"]) == ("metrics", False, 1)
    assert server.log(job["id"]) == b"hello\n"
    [listed] = server.admin.get(f"/v1/jobs/{job['id']}/checkpoints").json()["data"]
    assert {name: listed[name] for name in ("epoch", "path", "bytes", "sha256")} == {
        name: saved[name] for name in ("epoch", "path", "bytes", "sha256")
    }
    assert server.job(job["id"])["latest_checkpoint"] == listed


def test_a_heartbeat_is_answered_with_what_is_on_record(server: OrreryServer) -> None:
    _, assignment = server.start()
    lease_id = assignment["lease_id"]
    assert server.report(lease_id).json() == {"accepted_through": None, "command": None}
    server.report(lease_id, epochs=[epoch_metrics(0)])
    assert server.report(lease_id).json() == {"accepted_through": 0, "command": None}


def test_a_repeated_report_changes_nothing(server: OrreryServer) -> None:
    job, assignment = server.start()
    report: Json = {
        "first_epoch": 0,
        "phase": "collect",
        "epochs": [epoch_metrics(0), epoch_metrics(1, **{"part1/mean_energy_error": None})],
        "checkpoints": [checkpoint(assignment, 1)],
        "log": log_bytes(0, b"once\n"),
    }
    first = server.report(assignment["lease_id"], **report)
    before = _everything(server, job["id"])
    again = server.report(assignment["lease_id"], **report)
    assert again.status_code == first.status_code == 200
    assert again.json() == first.json()
    after = _everything(server, job["id"])
    before.pop("etag"), after.pop("etag")
    assert after == before


def test_reports_that_overlap_add_what_is_new(server: OrreryServer) -> None:
    job, assignment = server.start()
    server.report(assignment["lease_id"], epochs=[epoch_metrics(0), epoch_metrics(1)])
    answer = server.report(assignment["lease_id"], epochs=[epoch_metrics(1), epoch_metrics(2)])
    assert answer.json()["accepted_through"] == 2
    assert [row["epoch"] for row in server.metrics(job["id"])["data"]] == [0, 1, 2]


@pytest.mark.parametrize(
    "name",
    ["epoch_time", "part1/trajectory_length", "part2/mean_rel_dE", "part2/converged"],
)
def test_an_epoch_reported_again_with_other_metrics_is_refused_whole(
    server: OrreryServer, name: str
) -> None:
    job, assignment = server.start()
    server.report(assignment["lease_id"], epochs=[epoch_metrics(0)])
    before = _everything(server, job["id"])
    answer = server.report(
        assignment["lease_id"],
        epochs=[epoch_metrics(0, **{name: 0}), epoch_metrics(1)],
        phase="collect",
        checkpoints=[checkpoint(assignment, 1)],
        log=log_bytes(0, b"no"),
    )
    assert_problem(answer, 409, "report_conflict")
    assert _everything(server, job["id"]) == before


def test_a_report_with_one_epoch_twice_is_refused(server: OrreryServer) -> None:
    job, assignment = server.start()
    twice = [epoch_metrics(0), epoch_metrics(0, epoch_time=9.0)]
    assert_problem(server.report(assignment["lease_id"], epochs=twice), 409, "report_conflict")
    assert server.metrics(job["id"])["data"] == []


def test_an_epoch_beyond_the_last_is_refused(server: OrreryServer) -> None:
    job, assignment = server.start()
    answer = server.report(assignment["lease_id"], epochs=[epoch_metrics(4)])
    assert_problem(answer, 409)
    assert server.metrics(job["id"])["data"] == []


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "NaN", "1e999"])
def test_what_is_not_finite_is_no_number_of_json(server: OrreryServer, number: str) -> None:
    job, assignment = server.start()
    epoch = str(epoch_metrics(0)).replace("'", '"').replace("1e-05", number)
    body = f'{{"epochs": [{epoch}]}}'.encode()
    path = f"/v1/leases/{assignment['lease_id']}/report"
    answer = server.worker.post(path, content=body, headers={"content-type": "application/json"})
    assert_problem(answer, 422)
    assert "/epochs/0/part1~1mean_energy_error" in answer.text
    assert server.metrics(job["id"])["data"] == []


@pytest.mark.parametrize("call", ["report", "finish"])
def test_a_lost_lease_writes_nothing(server: OrreryServer, call: str) -> None:
    job, assignment = server.start()
    server.report(assignment["lease_id"], first_epoch=0, epochs=[epoch_metrics(0)])
    server.lose_leases()
    before = _everything(server, job["id"])
    if call == "report":
        answer = server.report(
            assignment["lease_id"],
            epochs=[epoch_metrics(1)],
            checkpoints=[checkpoint(assignment, 1)],
            log=log_bytes(0, b"late"),
            phase="collect",
        )
    else:
        answer = server.finish(assignment["lease_id"])
    assert_problem(answer, 409, "lease_lost")
    assert _everything(server, job["id"]) == before


def test_a_lost_lease_cannot_disturb_the_next_attempt(server: OrreryServer) -> None:
    job, old = server.start()
    server.lose_leases()
    new = server.claim()
    assert new is not None
    server.report(new["lease_id"], first_epoch=0, epochs=[epoch_metrics(0)])
    before = _everything(server, job["id"])
    stale = server.report(old["lease_id"], first_epoch=0, epochs=[epoch_metrics(0)])
    assert_problem(stale, 409, "lease_lost")
    assert_problem(server.finish(old["lease_id"], "failed", "error"), 409, "lease_lost")
    assert _everything(server, job["id"]) == before


def test_a_lease_that_never_was_is_lost(server: OrreryServer) -> None:
    never = "lease_" + "0" * 26
    assert_problem(server.report(never), 409, "lease_lost")
    assert_problem(server.finish(never), 409, "lease_lost")


def test_another_workers_token_cannot_use_a_lease(server: OrreryServer) -> None:
    job, assignment = server.start()
    before = _everything(server, job["id"])
    stranger = server.new_client("worker")
    path = f"/v1/leases/{assignment['lease_id']}"
    report = stranger.post(f"{path}/report", json={"epochs": [epoch_metrics(0)]})
    assert_problem(report, 409, "lease_lost")
    outcome = {"status": "failed", "stop_reason": "error"}
    assert_problem(stranger.post(f"{path}/finish", json=outcome), 409, "lease_lost")
    assert _everything(server, job["id"]) == before


def test_a_strangers_report_does_not_keep_a_lease_alive(server: OrreryServer) -> None:
    job, assignment = server.start()
    stranger = server.new_client("worker")
    server.clock.advance(server.settings.lease_ttl_s - 1)
    stranger.post(f"/v1/leases/{assignment['lease_id']}/report", json={})
    server.clock.advance(2)
    server.call(server.service.expire_leases())
    assert server.job(job["id"])["status"] == "queued"


# --- attempts -----------------------------------------------------------------------------------


def test_an_expired_lease_puts_the_job_back_in_the_queue(server: OrreryServer) -> None:
    job, assignment = server.start()
    server.lose_leases()
    requeued = server.job(job["id"])
    assert (requeued["status"], requeued["phase"], requeued["attempt"]) == ("queued", None, 1)
    assert server.event_types(job["id"])[-1] == "queued"
    second = server.claim()
    assert second is not None
    assert (second["job"], second["attempt"]) == (job["id"], 2)
    assert second["lease_id"] != assignment["lease_id"]
    assert second["output_folder"] != assignment["output_folder"]


def test_a_job_whose_attempts_are_spent_fails_as_worker_lost(server: OrreryServer) -> None:
    job, _ = server.start(max_attempts=2)
    server.lose_leases()
    assert server.job(job["id"])["status"] == "queued"
    assert server.claim() is not None
    server.lose_leases()
    failed = server.job(job["id"])
    assert (failed["status"], failed["stop_reason"]) == ("failed", "worker_lost")
    assert failed["failure"]["code"] == "worker_lost"
    assert failed["failure"]["detail"]
    assert failed["finished_at"] is not None
    assert server.claim() is None


def test_a_stalled_attempt_is_tried_again(server: OrreryServer) -> None:
    job, assignment = server.start(max_attempts=2)
    answer = server.finish(assignment["lease_id"], "failed", "stalled", detail="no progress")
    assert answer.json() == {"status": "queued"}
    again = server.claim()
    assert again is not None
    answer = server.finish(again["lease_id"], "failed", "stalled", detail="no progress")
    assert answer.json() == {"status": "failed"}
    assert server.job(job["id"])["failure"] == {"code": "stalled", "detail": "no progress"}


@pytest.mark.parametrize("reason", ["oom", "diverged", "disk_full", "invalid_config", "error"])
def test_what_a_retry_cannot_help_fails_at_once(server: OrreryServer, reason: str) -> None:
    job, assignment = server.start()
    server.finish(assignment["lease_id"], "failed", reason, detail="why")
    failed = server.job(job["id"])
    assert (failed["status"], failed["stop_reason"]) == ("failed", reason)
    assert failed["failure"] == {"code": reason, "detail": "why"}
    assert server.event_types(job["id"])[-1] == "failed"


def test_a_new_attempt_hides_the_epochs_that_it_computes_again(server: OrreryServer) -> None:
    job, first = server.start()
    old = [epoch_metrics(n, epoch_time=1.0) for n in range(3)]
    server.report(first["lease_id"], first_epoch=0, epochs=old)
    server.lose_leases()
    second = server.claim()
    assert second is not None
    server.report(second["lease_id"], first_epoch=1)
    assert [row["epoch"] for row in server.metrics(job["id"])["data"]] == [0]
    assert server.job(job["id"])["progress"]["epochs_done"] == 1
    new = [epoch_metrics(n, epoch_time=2.0) for n in (1, 2)]
    answer = server.report(second["lease_id"], first_epoch=1, epochs=new)
    assert answer.json()["accepted_through"] == 2
    times = [row["epoch_time"] for row in server.metrics(job["id"])["data"]]
    assert times == [1.0, 2.0, 2.0]
    assert "resumed" in server.event_types(job["id"])


def test_an_attempt_cannot_begin_twice(server: OrreryServer) -> None:
    _, assignment = server.start()
    assert server.report(assignment["lease_id"], first_epoch=2).status_code == 200
    again = server.report(assignment["lease_id"], first_epoch=0)
    assert_problem(again, 409, "report_conflict")


def test_each_epoch_of_a_job_is_on_record_once(server: OrreryServer) -> None:
    job, assignment = server.start()
    for number in range(3):
        server.report(assignment["lease_id"], first_epoch=number, epochs=[epoch_metrics(number)])
        server.lose_leases()
        assignment = server.claim() or assignment
    count = "SELECT count(*), count(DISTINCT epoch) FROM epochs WHERE job_id = :id"
    total, distinct = server.read(
        lambda connection: connection.execute(text(count), {"id": job["id"]}).one()
    )
    assert total == distinct == 3


def test_the_next_attempt_is_offered_checkpoints_newest_first(server: OrreryServer) -> None:
    _, first = server.start()
    saved = [checkpoint(first, 0), checkpoint(first, 2)]
    rolling = checkpoint(first, 3, path=f"{first['output_folder']}/model/r3.pt", rolling=True)
    server.report(first["lease_id"], first_epoch=0, checkpoints=[*saved, rolling])
    server.lose_leases()
    second = server.claim()
    assert second is not None
    assert second["resume_from"] == [
        {name: point[name] for name in ("epoch", "path", "sha256")}
        for point in (rolling, saved[1], saved[0])
    ]


def test_max_runtime_counts_all_attempts(
    server: OrreryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.start(max_runtime_s=100)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 70)
    server.lose_leases()
    second = server.claim()
    assert second is not None
    assert second["runtime_left_s"] == pytest.approx(30, abs=5)


# --- finish -------------------------------------------------------------------------------------


def test_a_finished_job_has_succeeded_with_its_result(server: OrreryServer) -> None:
    job, assignment = server.start()
    answer = server.finish(assignment["lease_id"], result={"efficiency": 0.9})
    assert answer.json() == {"status": "succeeded"}
    done = server.job(job["id"])
    assert (done["status"], done["stop_reason"]) == ("succeeded", "completed")
    assert done["result"] == {"efficiency": 0.9}
    assert done["finished_at"] is not None
    assert done["failure"] is None
    assert server.event_types(job["id"]) == ["submitted", "started", "succeeded"]


@pytest.mark.parametrize(
    ("status", "reason"), [("succeeded", "completed"), ("failed", "oom"), ("failed", "stalled")]
)
def test_finish_after_a_lost_answer_gets_the_same_answer(
    server: OrreryServer, status: str, reason: str
) -> None:
    job, assignment = server.start()
    first = server.finish(assignment["lease_id"], status, reason, detail="d")
    before = _everything(server, job["id"])
    again = server.finish(assignment["lease_id"], status, reason, detail="d")
    assert (again.status_code, again.json()) == (200, first.json())
    assert _everything(server, job["id"]) == before


def test_finish_gets_the_same_answer_after_the_next_attempt_began(server: OrreryServer) -> None:
    _, assignment = server.start()
    first = server.finish(assignment["lease_id"], "failed", "stalled")
    assert server.claim() is not None
    again = server.finish(assignment["lease_id"], "failed", "stalled")
    assert (again.status_code, again.json()) == (200, first.json())


@pytest.mark.parametrize(
    "other",
    [
        {"status": "failed", "stop_reason": "error"},
        {"detail": "other words"},
        {"result": {"efficiency": 0.1}},
    ],
)
def test_finish_with_another_outcome_is_refused(server: OrreryServer, other: Json) -> None:
    job, assignment = server.start()
    server.finish(assignment["lease_id"], result={"efficiency": 0.9})
    before = _everything(server, job["id"])
    outcome: Json = {"result": {"efficiency": 0.9}} | other
    answer = server.finish(assignment["lease_id"], **outcome)
    assert answer.status_code == 409, answer.text
    assert _everything(server, job["id"]) == before


def test_a_worker_that_hands_back_its_job_requeues_it(server: OrreryServer) -> None:
    job, assignment = server.start(max_attempts=1)
    answer = server.finish(assignment["lease_id"], "stopped", "user")
    assert answer.json() == {"status": "queued"}
    assert server.job(job["id"])["status"] == "queued"


# --- cancel -------------------------------------------------------------------------------------


def _cancel(server: OrreryServer, job_id: str, **options: Any) -> Any:
    return server.admin.post(f"/v1/jobs/{job_id}/cancel", json=options)


def test_a_queued_job_is_cancelled_at_once(server: OrreryServer) -> None:
    job = server.submit()
    answer = server.admin.post(f"/v1/jobs/{job['id']}/cancel")
    assert answer.status_code == 202
    assert answer.json()["status"] == "cancelled"
    assert answer.json()["stop_reason"] == "user"
    assert answer.json()["finished_at"] is not None
    assert server.claim() is None
    assert server.event_types(job["id"]) == ["submitted", "cancelled"]


def test_a_running_job_is_cancelled_once_its_process_is_gone(server: OrreryServer) -> None:
    job, assignment = server.start()
    assert _cancel(server, job["id"], grace_s=3.5).json()["status"] == "cancelling"
    answer = server.report(assignment["lease_id"], epochs=[epoch_metrics(0)])
    assert answer.json() == {
        "accepted_through": 0,
        "command": {"action": "cancel", "grace_s": 3.5},
    }
    assert server.finish(assignment["lease_id"], "stopped", "user").json() == {
        "status": "cancelled"
    }
    gone = server.job(job["id"])
    assert (gone["status"], gone["stop_reason"]) == ("cancelled", "user")
    assert server.event_types(job["id"])[-2:] == ["cancelling", "cancelled"]


def test_a_forced_cancel_leaves_no_grace(server: OrreryServer) -> None:
    job, assignment = server.start()
    _cancel(server, job["id"], grace_s=30)
    _cancel(server, job["id"], force=True)
    command = server.report(assignment["lease_id"]).json()["command"]
    assert command == {"action": "cancel", "grace_s": 0.0}


def test_a_paused_job_can_be_cancelled(server: OrreryServer) -> None:
    job = server.submit()
    _set_status(server, job["id"], "paused")
    assert _cancel(server, job["id"]).json()["status"] == "cancelled"


def test_a_pausing_job_can_be_cancelled(server: OrreryServer) -> None:
    job, assignment = server.start()
    _set_status(server, job["id"], "pausing")
    assert server.report(assignment["lease_id"]).json()["command"]["action"] == "pause"
    assert _cancel(server, job["id"]).json()["status"] == "cancelling"
    assert server.report(assignment["lease_id"]).json()["command"]["action"] == "cancel"


def test_a_cancel_can_be_repeated(server: OrreryServer) -> None:
    waiting, (running, _) = server.submit(priority=-1), server.start()
    for job_id, status in ((waiting["id"], "cancelled"), (running["id"], "cancelling")):
        for _ in range(2):
            answer = _cancel(server, job_id)
            assert (answer.status_code, answer.json()["status"]) == (202, status)
        assert server.event_types(job_id).count(status) == 1


@pytest.mark.parametrize(("status", "reason"), [("succeeded", "completed"), ("failed", "oom")])
def test_a_job_that_is_over_cannot_be_cancelled(
    server: OrreryServer, status: str, reason: str
) -> None:
    job, assignment = server.start()
    server.finish(assignment["lease_id"], status, reason)
    before = _everything(server, job["id"])
    assert_problem(_cancel(server, job["id"]), 409, "illegal_move")
    assert _everything(server, job["id"]) == before


def test_a_job_that_really_finished_while_cancelling_is_succeeded(server: OrreryServer) -> None:
    job, assignment = server.start()
    _cancel(server, job["id"])
    assert server.finish(assignment["lease_id"]).json() == {"status": "succeeded"}
    assert server.job(job["id"])["stop_reason"] == "completed"


def test_a_job_that_really_failed_while_cancelling_is_failed(server: OrreryServer) -> None:
    job, assignment = server.start()
    _cancel(server, job["id"])
    server.finish(assignment["lease_id"], "failed", "diverged")
    assert server.job(job["id"])["status"] == "failed"


@pytest.mark.parametrize("max_attempts", [1, 5])
def test_a_cancelling_job_whose_worker_is_lost_is_cancelled(
    server: OrreryServer, max_attempts: int
) -> None:
    job, _ = server.start(max_attempts=max_attempts)
    _cancel(server, job["id"])
    server.lose_leases()
    assert server.job(job["id"])["status"] == "cancelled"
    assert server.claim() is None


@pytest.mark.parametrize("grace_s", [-1, 61, "soon"])
def test_a_grace_out_of_range_is_refused(server: OrreryServer, grace_s: Any) -> None:
    job = server.submit()
    problem = assert_problem(_cancel(server, job["id"], grace_s=grace_s), 422)
    assert problem["errors"][0]["pointer"] == "/grace_s"
    assert server.job(job["id"])["status"] == "queued"


# --- metrics and events -------------------------------------------------------------------------


def test_metrics_are_read_by_cursor_in_order(server: OrreryServer) -> None:
    job, assignment = server.start(config={"epochs": 20})
    server.report(assignment["lease_id"], epochs=[epoch_metrics(n) for n in range(7)])
    seen: list[int] = []
    page: Json = {"has_more": True, "last_epoch": -1}
    while page["has_more"]:
        page = server.metrics(job["id"], after=page["last_epoch"], limit=3)
        seen += [row["epoch"] for row in page["data"]]
        assert page["last_epoch"] == seen[-1]
    assert seen == list(range(7))
    end = server.metrics(job["id"], after=6)
    assert (end["data"], end["has_more"], end["last_epoch"]) == ([], False, None)


def test_metrics_can_be_limited_to_some_keys(server: OrreryServer) -> None:
    job, assignment = server.start()
    server.report(assignment["lease_id"], epochs=[epoch_metrics(0)])
    page = server.metrics(job["id"], keys=["part2/final_pass_rate", "epoch_time"])
    assert page["data"] == [{"epoch": 0, "epoch_time": 0.5, "part2/final_pass_rate": 1.0}]


def test_events_are_read_by_cursor_in_order(server: OrreryServer) -> None:
    job, _ = server.start()
    server.lose_leases()
    path = f"/v1/jobs/{job['id']}/events"
    first = server.admin.get(path, params={"limit": 2}).json()
    assert [event["type"] for event in first["data"]] == ["submitted", "started"]
    assert first["has_more"]
    rest = server.admin.get(path, params={"after": first["last_id"]}).json()
    assert [event["type"] for event in rest["data"]] == ["queued"]
    assert not rest["has_more"]
    ids = [event["id"] for event in first["data"] + rest["data"]]
    assert ids == sorted(ids)


# --- logs ---------------------------------------------------------------------------------------


def test_log_bytes_are_appended_and_read_from_an_offset(server: OrreryServer) -> None:
    job, assignment = server.start()
    lease_id = assignment["lease_id"]
    server.report(lease_id, log=log_bytes(0, b"abc"))
    server.report(lease_id, log=log_bytes(3, b"\xff\x00de"))
    answer = server.admin.get(f"/v1/jobs/{job['id']}/logs")
    assert answer.content == b"abc\xff\x00de"
    assert answer.headers["x-log-bytes"] == "7"
    for offset in range(8):
        assert server.log(job["id"], offset) == b"abc\xff\x00de"[offset:]
    assert server.log(job["id"], 1000) == b""


def test_log_bytes_that_came_before_are_not_doubled(server: OrreryServer) -> None:
    job, assignment = server.start()
    for offset, data in ((0, b"abc"), (0, b"abc"), (1, b"bcde"), (2, b"c"), (0, b"abcdef")):
        answer = server.report(assignment["lease_id"], log=log_bytes(offset, data))
        assert answer.status_code == 200
    assert server.log(job["id"]) == b"abcdef"


def test_a_gap_in_the_log_is_refused(server: OrreryServer) -> None:
    job, assignment = server.start()
    server.report(assignment["lease_id"], log=log_bytes(0, b"abc"))
    answer = server.report(assignment["lease_id"], log=log_bytes(4, b"e"))
    assert_problem(answer, 409, "report_conflict")
    assert server.log(job["id"]) == b"abc"


def test_the_log_of_the_next_attempt_follows(server: OrreryServer) -> None:
    job, first = server.start()
    server.report(first["lease_id"], log=log_bytes(0, b"one "))
    server.lose_leases()
    second = server.claim()
    assert second is not None
    server.report(second["lease_id"], log=log_bytes(0, b"two"))
    assert server.log(job["id"]) == b"one two"


@pytest.mark.parametrize("already", [0, 190, 950, 990, 1000])
@pytest.mark.parametrize("more", [5, 60, 2000])
def test_a_log_never_grows_beyond_its_limit(
    server: OrreryServer, monkeypatch: pytest.MonkeyPatch, already: int, more: int
) -> None:
    monkeypatch.setattr(queue, "MAX_LOG_BYTES", 1000)
    job, assignment = server.start()
    if already:
        server.report(assignment["lease_id"], log=log_bytes(0, b"a" * already))
    flood = server.report(assignment["lease_id"], log=log_bytes(already, b"b" * more))
    assert flood.status_code == 200
    later = server.report(assignment["lease_id"], log=log_bytes(already + more, b"c"))
    assert later.status_code == 200
    kept = server.log(job["id"])
    assert len(kept) <= 1000
    if already + more > 1000:
        assert b"log limit reached" in kept
        assert b"c" not in kept.split(b"[")[0]


# --- checkpoints --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "../outside.pt",
        "/etc/passwd",
        "{folder}/../attempt-2/model.pt",
        "{folder}/model/../../../../x.pt",
        "{folder}0/model.pt",
        "{folder}",
        "{folder}/",
        "{folder}/.",
        "{folder}/a\u0000b.pt",
        ".orrery/admin.token",
        "run_nbody/{job}/attempt-2/model.pt",
    ],
)
def test_a_checkpoint_outside_the_attempts_folder_is_refused(
    server: OrreryServer, path: str
) -> None:
    job, assignment = server.start()
    named = path.format(folder=assignment["output_folder"], job=job["id"])
    answer = server.report(
        assignment["lease_id"], checkpoints=[checkpoint(assignment, 0, path=named)]
    )
    assert answer.status_code in {409, 422}, answer.text
    assert server.admin.get(f"/v1/jobs/{job['id']}/checkpoints").json()["data"] == []


@pytest.mark.parametrize("changes", [{"sha256": "f" * 64}, {"bytes": 99}, {"epoch": 2}])
def test_a_checkpoint_reported_again_with_other_content_is_refused(
    server: OrreryServer, changes: Json
) -> None:
    job, assignment = server.start()
    first = checkpoint(assignment, 1)
    server.report(assignment["lease_id"], checkpoints=[first])
    before = _everything(server, job["id"])
    answer = server.report(assignment["lease_id"], checkpoints=[first | changes])
    assert_problem(answer, 409, "report_conflict")
    assert _everything(server, job["id"]) == before


def test_rolling_checkpoints_are_not_listed(server: OrreryServer) -> None:
    job, assignment = server.start()
    folder = assignment["output_folder"]
    for epoch in range(3):
        rolling = checkpoint(assignment, epoch, path=f"{folder}/model/r{epoch}.pt", rolling=True)
        server.report(assignment["lease_id"], checkpoints=[rolling])
    assert server.admin.get(f"/v1/jobs/{job['id']}/checkpoints").json()["data"] == []
    assert server.job(job["id"])["latest_checkpoint"] is None
    server.lose_leases()
    second = server.claim()
    assert second is not None
    assert [point["epoch"] for point in second["resume_from"]] == [2, 1]


def test_checkpoints_are_listed_by_epoch_in_pages(server: OrreryServer) -> None:
    job, assignment = server.start()
    found = [checkpoint(assignment, epoch) for epoch in range(3)]
    server.report(assignment["lease_id"], checkpoints=found)
    path = f"/v1/jobs/{job['id']}/checkpoints"
    first = server.admin.get(path, params={"limit": 2}).json()
    rest = server.admin.get(path, params={"after": first["last_id"]}).json()
    assert (first["has_more"], rest["has_more"]) == (True, False)
    listed = first["data"] + rest["data"]
    assert [(c["epoch"], c["path"], c["sha256"]) for c in listed] == [
        (c["epoch"], c["path"], c["sha256"]) for c in found
    ]
    shown = server.admin.get(f"/v1/checkpoints/{listed[1]['id']}")
    assert (shown.status_code, shown.json()) == (200, listed[1])


def _saved(server: OrreryServer, content: bytes) -> str:
    """The id of a checkpoint whose file is there."""
    job, assignment = server.start()
    reported = checkpoint(
        assignment, 0, bytes=len(content), sha256=hashlib.sha256(content).hexdigest()
    )
    file = server.settings.data / reported["path"]
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    assert server.report(assignment["lease_id"], checkpoints=[reported]).status_code == 200
    [listed] = server.admin.get(f"/v1/jobs/{job['id']}/checkpoints").json()["data"]
    return listed["id"]


def test_the_head_of_a_file_says_how_large_it_is_and_reads_nothing(
    server: OrreryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/v1/checkpoints/{_saved(server, b'0123456789')}/content"
    monkeypatch.setattr("starlette.responses.anyio.open_file", None)
    answer = server.admin.head(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == "10"
    assert answer.headers["accept-ranges"] == "bytes"


def test_a_checkpoint_is_downloaded_whole_or_in_part(server: OrreryServer) -> None:
    content = bytes(range(256)) * 8
    path = f"/v1/checkpoints/{_saved(server, content)}/content"
    whole = server.admin.get(path)
    assert (whole.status_code, whole.content) == (200, content)
    assert whole.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    assert whole.headers["accept-ranges"] == "bytes"
    part = server.admin.get(path, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, content[100:200])
    assert part.headers["content-range"] == "bytes 100-199/2048"
    assert part.headers["etag"] == whole.headers["etag"]
    tail = server.admin.get(path, headers={"Range": "bytes=-10"})
    assert (tail.status_code, tail.content) == (206, content[-10:])
    same = {"Range": "bytes=2000-", "If-Range": whole.headers["etag"]}
    assert server.admin.get(path, headers=same).status_code == 206
    other = {"Range": "bytes=2000-", "If-Range": '"another"'}
    assert server.admin.get(path, headers=other).status_code == 200


@pytest.mark.parametrize(
    ("value", "status"), [("bytes=5000-", 416), ("bytes=9-1", 400), ("lines=1-2", 400)]
)
def test_a_range_that_cannot_be_served_is_a_problem(
    server: OrreryServer, value: str, status: int
) -> None:
    path = f"/v1/checkpoints/{_saved(server, b'x' * 100)}/content"
    assert_problem(server.admin.get(path, headers={"Range": value}), status)


def test_a_header_of_many_ranges_costs_no_more_than_the_file(server: OrreryServer) -> None:
    content = b"x" * 10000
    path = f"/v1/checkpoints/{_saved(server, content)}/content"
    ranges = ",".join(f"{2 * n}-{2 * n}" for n in range(4000))
    answer = server.admin.get(path, headers={"Range": f"bytes={ranges}"})
    assert answer.status_code < 500
    assert answer.elapsed.total_seconds() < 2
    overlapping = "bytes=" + ",".join(["0-"] * 500)
    answer = server.admin.get(path, headers={"Range": overlapping})
    assert answer.status_code < 500
    assert len(answer.content) <= 2 * len(content)


def test_a_checkpoint_whose_file_is_gone_or_leads_outside_is_not_found(
    server: OrreryServer,
) -> None:
    checkpoint_id = _saved(server, b"content")
    path = f"/v1/checkpoints/{checkpoint_id}/content"
    shown = server.admin.get(f"/v1/checkpoints/{checkpoint_id}").json()
    file = server.settings.data / shown["path"]
    file.unlink()
    assert_problem(server.admin.get(path), 404, "not_found")
    file.symlink_to("/etc/hostname")
    assert_problem(server.admin.get(path), 404, "not_found")


def test_the_log_and_checkpoints_of_an_unknown_job_are_not_found(server: OrreryServer) -> None:
    for resource in ("", "/metrics", "/events", "/logs", "/checkpoints"):
        answer = server.admin.get(f"/v1/jobs/job_{'0' * 26}{resource}")
        assert_problem(answer, 404, "not_found")
    for resource in ("", "/content"):
        answer = server.admin.get(f"/v1/checkpoints/ckpt_{'0' * 26}{resource}")
        assert_problem(answer, 404, "not_found")


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
