"""Checkpoints: noted, listed, downloaded."""

import hashlib
from typing import Any

import pytest

from tests.server.conftest import OrreryServer, assert_problem, checkpoint, everything_of

Json = dict[str, Any]


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
    before = everything_of(server, job["id"])
    answer = server.report(assignment["lease_id"], checkpoints=[first | changes])
    assert_problem(answer, 409, "report_conflict")
    assert everything_of(server, job["id"]) == before


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
