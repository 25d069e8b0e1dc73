"""Leases: fenced, lost, expired, and what the next attempt begins with."""

from typing import Any

import pytest
from sqlalchemy import text

from server.wire.states import OF_A_GPU
from tests.server.conftest import (
    OrreryServer,
    assert_problem,
    checkpoint,
    epoch_metrics,
    everything_of,
    log_bytes,
)

Json = dict[str, Any]


@pytest.mark.parametrize("call", ["report", "finish"])
def test_a_lost_lease_writes_nothing(server: OrreryServer, call: str) -> None:
    job, assignment = server.start()
    server.report(assignment["lease_id"], first_epoch=0, epochs=[epoch_metrics(0)])
    server.lose_leases()
    before = everything_of(server, job["id"])
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
    assert everything_of(server, job["id"]) == before


def test_a_lost_lease_cannot_disturb_the_next_attempt(server: OrreryServer) -> None:
    job, old = server.start()
    server.lose_leases()
    new = server.claim()
    assert new is not None
    server.report(new["lease_id"], first_epoch=0, epochs=[epoch_metrics(0)])
    before = everything_of(server, job["id"])
    stale = server.report(old["lease_id"], first_epoch=0, epochs=[epoch_metrics(0)])
    assert_problem(stale, 409, "lease_lost")
    assert_problem(server.finish(old["lease_id"], "failed", "error"), 409, "lease_lost")
    assert everything_of(server, job["id"]) == before


def test_a_lease_that_never_was_is_lost(server: OrreryServer) -> None:
    never = "lease_" + "0" * 26
    assert_problem(server.report(never), 409, "lease_lost")
    assert_problem(server.finish(never), 409, "lease_lost")


def test_another_workers_token_cannot_use_a_lease(server: OrreryServer) -> None:
    job, assignment = server.start()
    before = everything_of(server, job["id"])
    stranger = server.new_client("worker")
    path = f"/v1/leases/{assignment['lease_id']}"
    report = stranger.post(f"{path}/report", json={"epochs": [epoch_metrics(0)]})
    assert_problem(report, 409, "lease_lost")
    outcome = {"status": "failed", "stop_reason": "error"}
    assert_problem(stranger.post(f"{path}/finish", json=outcome), 409, "lease_lost")
    assert everything_of(server, job["id"]) == before


def test_a_strangers_report_does_not_keep_a_lease_alive(server: OrreryServer) -> None:
    job, assignment = server.start()
    stranger = server.new_client("worker")
    server.clock.advance(server.settings.lease_ttl_s - 1)
    stranger.post(f"/v1/leases/{assignment['lease_id']}/report", json={})
    server.clock.advance(2)
    server.call(server.service.expire_leases())
    assert server.job(job["id"])["status"] == "queued"


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


@pytest.mark.parametrize("reason", ["stalled", *sorted(OF_A_GPU)])
def test_what_is_the_hosts_fault_is_tried_again(server: OrreryServer, reason: str) -> None:
    job, assignment = server.start(max_attempts=2)
    answer = server.finish(assignment["lease_id"], "failed", reason, detail="no progress")
    assert answer.json() == {"status": "queued"}
    again = server.claim()
    assert again is not None
    answer = server.finish(again["lease_id"], "failed", reason, detail="no progress")
    assert answer.json() == {"status": "failed"}
    assert server.job(job["id"])["failure"] == {"code": reason, "detail": "no progress"}


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


def test_a_worker_that_is_lost_in_a_pause_costs_no_attempt(server: OrreryServer) -> None:
    job, _ = server.start(max_attempts=2)
    for action in ("pause", "resume"):
        assert server.admin.post(f"/v1/jobs/{job['id']}/{action}").is_success
        server.lose_leases()
    assert server.claim() is not None
    server.lose_leases()
    assert server.job(job["id"])["status"] == "queued"


def test_max_runtime_counts_all_attempts(server: OrreryServer) -> None:
    server.start(max_runtime_s=100)
    server.write(lambda c: c.execute(text("UPDATE attempts SET clock = clock - 70")))
    server.lose_leases()
    second = server.claim()
    assert second is not None
    assert second["runtime_left_s"] == pytest.approx(30, abs=5)
