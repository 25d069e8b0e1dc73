"""Metrics, events and log, as they were reported."""

from typing import Any

import pytest

from server.queue import reports
from tests.server.conftest import OrreryServer, assert_problem, epoch_metrics, log_bytes

Json = dict[str, Any]


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
    monkeypatch.setattr(reports, "MAX_LOG_BYTES", 1000)
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


def test_a_note_of_a_worker_is_an_event_once_and_they_have_a_bound(server: OrreryServer) -> None:
    job, assignment = server.start()
    note = {"about": "wandb", "text": "W&B takes nothing"}
    for _ in range(2):
        assert server.report(assignment["lease_id"], notes=[note]).status_code == 200
    events = server.admin.get(f"/v1/jobs/{job['id']}/events").json()["data"]
    assert [event["data"] for event in events if event["type"] == "note"] == [
        {"attempt": 1, **note}
    ]
    for begin in range(0, 200, 50):
        many = [note | {"text": str(number)} for number in range(begin, begin + 50)]
        server.report(assignment["lease_id"], notes=many)
    assert server.event_types(job["id"]).count("note") == 100
