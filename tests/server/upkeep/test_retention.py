"""Which files are deleted by policy, and which never are."""

from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import OrreryServer, assert_problem, checkpoint, epoch_metrics

Json = dict[str, Any]


def set_policy(server: OrreryServer, monkeypatch: pytest.MonkeyPatch, **policy: Any) -> None:
    for name, value in policy.items():
        monkeypatch.setattr(server.settings, name, value)


def collect(server: OrreryServer) -> None:
    server.call(server.service.chores.collect())


def job_with_files(
    server: OrreryServer, epochs: range = range(8), *, over: bool = True, best: int = 5
) -> Json:
    """A job with a checkpoint of each epoch, whose best is that of `best`."""
    job, assignment = server.start(config={"epochs": epochs[-1] + 1})
    lease = assignment["lease_id"]
    for epoch in epochs:
        rate = {"part2/final_pass_rate": 0.9 if epoch == best else 0.5}
        server.report(lease, epochs=[epoch_metrics(epoch, **rate)])
        described = checkpoint(assignment, epoch)
        file = server.settings.data / described["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * described["bytes"])
        server.report(lease, checkpoints=[described])
    if over:
        server.finish(lease)
    return server.job(job["id"])


def listed(server: OrreryServer, job: Json) -> list[int]:
    page = server.admin.get(f"/v1/jobs/{job['id']}/checkpoints").json()
    for found in page["data"]:  # what is listed is there
        assert (server.settings.data / found["path"]).is_file()
    return [found["epoch"] for found in page["data"]]


def files(server: OrreryServer, job: Json) -> list[Path]:
    return sorted(server.settings.data.glob(f"*/{job['id']}/**/*.pt"))


def test_without_a_policy_everything_is_kept(server: OrreryServer) -> None:
    job = job_with_files(server)
    collect(server)
    assert listed(server, job) == list(range(8))


def test_first_last_best_and_every_third_checkpoint_are_kept(
    server: OrreryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, running = job_with_files(server, range(1, 9)), job_with_files(server, over=False)
    set_policy(server, monkeypatch, keep_every=3)
    for _ in range(2):
        collect(server)
        assert listed(server, job) == [1, 3, 5, 6, 8]
        assert len(files(server, job)) == 5
    assert listed(server, running) == list(range(8))
    assert "checkpoints_thinned" in server.event_types(job["id"])
    set_policy(server, monkeypatch, keep_every=100)
    collect(server)
    assert listed(server, job) == [1, 5, 8]


def test_checkpoints_that_only_serve_to_resume_are_not_taken_for_the_last(
    server: OrreryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, assignment = server.start(config={"epochs": 100})
    lease = assignment["lease_id"]
    for epoch in (0, 10, 20, 23):
        server.report(lease, epochs=[epoch_metrics(epoch)])
        described = checkpoint(assignment, epoch, rolling=epoch == 23)
        file = server.settings.data / described["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * described["bytes"])
        server.report(lease, checkpoints=[described])
    server.finish(lease, "failed", "diverged")
    set_policy(server, monkeypatch, keep_every=100)
    collect(server)
    assert 20 in listed(server, job)


def test_files_of_old_jobs_go_and_what_is_known_of_them_stays(
    server: OrreryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_with_files(server)
    set_policy(server, monkeypatch, keep_days=1.0)
    collect(server)
    assert listed(server, job) == list(range(8))
    set_policy(server, monkeypatch, keep_days=1e-9)
    collect(server)
    assert listed(server, job) == []
    assert files(server, job) == []
    after = server.job(job["id"])
    assert after["files_deleted_at"] is not None
    assert len(server.metrics(job["id"])["data"]) == 8
    assert "files_deleted" in server.event_types(job["id"])


def test_what_could_not_be_deleted_is_tried_again(
    server: OrreryServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job = job_with_files(server)
    set_policy(server, monkeypatch, keep_days=1e-9)
    with monkeypatch.context() as broken:
        broken.setattr("server.data_folder.shutil.rmtree", lambda *_, **__: None)
        collect(server)
    assert len(files(server, job)) == 8
    assert "could not delete" in caplog.text
    collect(server)
    assert files(server, job) == []


def test_beyond_the_quota_the_oldest_go_first(
    server: OrreryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    oldest, middle, newest = (job_with_files(server, range(3)) for _ in range(3))
    size = sum(range(10, 13))
    set_policy(server, monkeypatch, disk_quota_bytes=2 * size)
    collect(server)
    assert [len(listed(server, job)) for job in (oldest, middle, newest)] == [0, 3, 3]
    set_policy(server, monkeypatch, disk_quota_bytes=size - 1)
    collect(server)
    assert [len(listed(server, job)) for job in (oldest, middle, newest)] == [0, 0, 0]


def test_what_an_unfinished_job_needs_is_never_touched(
    server: OrreryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, paused = job_with_files(server), job_with_files(server, over=False)
    server.admin.post(f"/v1/jobs/{paused['id']}/pause")
    needed = server.admin.get(f"/v1/jobs/{parent['id']}/checkpoints").json()["data"][4]
    retry = {"from_checkpoint": needed["id"]}
    heir = server.admin.post(f"/v1/jobs/{parent['id']}/retry", json=retry).json()
    set_policy(server, monkeypatch, keep_every=7, keep_days=1e-9, disk_quota_bytes=1)
    collect(server)
    assert listed(server, parent) == list(range(8))
    assert listed(server, paused) == list(range(8))
    server.admin.post(f"/v1/jobs/{heir['id']}/cancel")
    collect(server)
    assert listed(server, parent) == []
    assert_problem(server.admin.get(f"/v1/checkpoints/{needed['id']}/content"), 404)


def test_nothing_outside_the_data_folder_is_deleted(server: OrreryServer, tmp_path: Path) -> None:
    from server.data_folder import remove_file

    outside = tmp_path / "precious"
    outside.write_text("x")
    (server.settings.data / "link").symlink_to(outside)
    for path in ("../precious", str(outside), "link", "."):
        remove_file(server.settings.data, path)
    assert outside.exists()
    (server.settings.data / "link").unlink()
