"""How an attempt ends, and its job."""

from typing import Any

import pytest
from sqlalchemy import update

from server.database.tables import attempts
from server.errors import LeaseLost
from server.queue import ending
from server.wire.states import StopReason
from server.wire.workers import Outcome
from tests.server.conftest import OrreryServer, assert_problem, epoch_metrics, everything_of

Json = dict[str, Any]


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
    before = everything_of(server, job["id"])
    again = server.finish(assignment["lease_id"], status, reason, detail="d")
    assert (again.status_code, again.json()) == (200, first.json())
    assert everything_of(server, job["id"]) == before


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
    before = everything_of(server, job["id"])
    outcome: Json = {"result": {"efficiency": 0.9}} | other
    answer = server.finish(assignment["lease_id"], **outcome)
    assert answer.status_code == 409, answer.text
    assert everything_of(server, job["id"]) == before


def test_a_worker_that_hands_back_its_job_requeues_it(server: OrreryServer) -> None:
    job, assignment = server.start(max_attempts=1)
    answer = server.finish(assignment["lease_id"], "stopped", "user")
    assert answer.json() == {"status": "queued"}
    assert server.job(job["id"])["status"] == "queued"


OUTCOME = Outcome(status="succeeded", stop_reason=StopReason.COMPLETED)


def test_an_attempt_that_never_was_cannot_be_ended(server: OrreryServer) -> None:
    with pytest.raises(LeaseLost):
        server.write(lambda connection: ending.finish(connection, "lease_x", OUTCOME, now=1.0))


def test_an_attempt_whose_outcome_is_not_on_record_cannot_be_ended_again(
    server: OrreryServer,
) -> None:
    _, assignment = server.start()
    lease_id = assignment["lease_id"]
    assert server.finish(lease_id).status_code == 200
    server.write(lambda connection: connection.execute(update(attempts).values(outcome=None)))
    with pytest.raises(LeaseLost):
        server.write(lambda connection: ending.finish(connection, lease_id, OUTCOME, now=1.0))


def test_a_training_that_lacks_epochs_is_not_done(server: OrreryServer) -> None:
    """As after a restore of a backup that was made while the job ran."""
    job, assignment = server.start(max_attempts=2)
    lease = assignment["lease_id"]
    server.report(lease, epochs=[epoch_metrics(n) for n in (0, 1, 3)])
    done = {"status": "succeeded", "stop_reason": "completed"}
    answers = [server.worker.post(f"/v1/leases/{lease}/finish", json=done) for _ in range(2)]
    assert [answer.json()["status"] for answer in answers] == ["queued", "queued"]
    again = server.claim()
    assert again is not None
    server.report(again["lease_id"], first_epoch=0, epochs=[epoch_metrics(n) for n in range(4)])
    assert server.finish(again["lease_id"]).json()["status"] == "succeeded"
    assert server.job(job["id"])["progress"]["epochs_done"] == 4


def test_an_attempt_begins_inside_its_job(server: OrreryServer) -> None:
    _, assignment = server.start()
    answer = server.report(assignment["lease_id"], first_epoch=10**9)
    assert_problem(answer, 409, "report_conflict")
