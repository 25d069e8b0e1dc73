"""Jobs are cancelled, whatever they are doing."""

from typing import Any

import pytest
from sqlalchemy import text

from tests.server.conftest import OrreryServer, assert_problem, epoch_metrics, everything_of

Json = dict[str, Any]


def _set_status(server: OrreryServer, job_id: str, status: str) -> None:
    statement = text("UPDATE jobs SET status = :status WHERE id = :id")
    server.write(lambda c: c.execute(statement, {"status": status, "id": job_id}))


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
    before = everything_of(server, job["id"])
    assert_problem(_cancel(server, job["id"]), 409, "illegal_move")
    assert everything_of(server, job["id"]) == before


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
