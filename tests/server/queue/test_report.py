"""What a running attempt reports: repeats, overlaps, contradictions."""

from typing import Any

import pytest

from tests.server.conftest import (
    OrreryServer,
    assert_problem,
    checkpoint,
    epoch_metrics,
    everything_of,
    log_bytes,
)

Json = dict[str, Any]


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
    before = everything_of(server, job["id"])
    again = server.report(assignment["lease_id"], **report)
    assert again.status_code == first.status_code == 200
    assert again.json() == first.json()
    after = everything_of(server, job["id"])
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
    before = everything_of(server, job["id"])
    answer = server.report(
        assignment["lease_id"],
        epochs=[epoch_metrics(0, **{name: 0}), epoch_metrics(1)],
        phase="collect",
        checkpoints=[checkpoint(assignment, 1)],
        log=log_bytes(0, b"no"),
    )
    assert_problem(answer, 409, "report_conflict")
    assert everything_of(server, job["id"]) == before


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
