"""What users do to jobs: pause, resume, retry, change, delete; and what they see of several."""

from pathlib import Path
from typing import Any

import pytest

from nbody.metrics import METRIC_NAMES
from server.client import Client
from server.database.engines import write_engine
from server.database.migrate import migrate
from tests.server.conftest import Orrery, OrreryServer, assert_problem, checkpoint, epoch_metrics

Json = dict[str, Any]


def act(server: OrreryServer, job: Json, action: str, **body: Any) -> Any:
    """Post an action to a job."""
    return server.admin.post(f"/v1/jobs/{job['id']}/{action}", json=body or None)


def finished(server: OrreryServer, **fields: Any) -> tuple[Json, Json]:
    """A job that succeeded after two of four epochs on record, and its checkpoint of epoch 1."""
    job, assignment = server.start(**fields)
    file = checkpoint(assignment, 1)
    server.report(
        assignment["lease_id"], epochs=[epoch_metrics(0), epoch_metrics(1)], checkpoints=[file]
    )
    assert server.finish(assignment["lease_id"]).status_code == 200
    found = server.admin.get(f"/v1/jobs/{job['id']}/checkpoints").json()["data"]
    return server.job(job["id"]), found[0]


def test_a_waiting_job_pauses_at_once_and_is_not_claimed(server: OrreryServer) -> None:
    job = server.submit()
    for _ in range(2):
        answer = act(server, job, "pause")
        assert (answer.status_code, answer.json()["status"]) == (202, "paused")
    assert server.claim() is None
    for _ in range(2):
        assert act(server, job, "resume").json()["status"] == "queued"
    assert server.claim() is not None
    assert act(server, job, "resume").json()["status"] == "running"
    assert server.event_types(job["id"]) == ["submitted", "paused", "queued", "started"]


def test_a_running_job_pauses_when_its_process_is_gone_and_goes_on(server: OrreryServer) -> None:
    job, assignment = server.start()
    lease = assignment["lease_id"]
    file = checkpoint(assignment, 0)
    server.report(lease, epochs=[epoch_metrics(0)], checkpoints=[file])
    assert act(server, job, "pause").json()["status"] == "pausing"
    assert_problem(act(server, job, "resume"), 409, "illegal_move")
    assert server.report(lease).json()["command"]["action"] == "pause"
    server.finish(lease, "stopped", "user")
    assert server.job(job["id"])["status"] == "paused"
    act(server, job, "resume")
    again = server.claim()
    assert again is not None
    assert [point["epoch"] for point in again["resume_from"]] == [0]
    assert (again["attempt"], again["job"]) == (2, job["id"])


def test_a_job_that_is_over_cannot_pause_or_resume(server: OrreryServer) -> None:
    job, _ = finished(server)
    for action in ("pause", "resume"):
        assert_problem(act(server, job, action), 409, "illegal_move")


def test_a_retry_is_a_new_job_with_the_old_ones_settings(server: OrreryServer) -> None:
    job = server.submit(name="first", priority=7, metadata={"paper": "draft"}, max_runtime_s=60.0)
    assert_problem(act(server, job, "retry"), 409, "illegal_move")
    act(server, job, "cancel")
    answer = act(server, job, "retry", config={"epochs": 9})
    assert answer.status_code == 201
    new = answer.json()
    assert answer.headers["Location"] == f"/v1/jobs/{new['id']}"
    assert (new["retry_of"], new["status"], new["priority"]) == (job["id"], "queued", 7)
    assert (new["name"], new["metadata"], new["max_runtime_s"]) == ("first", {"paper": "draft"}, 60)
    assert new["config"] == {**job["config"], "epochs": 9}
    key = {"Idempotency-Key": "again"}
    path = f"/v1/jobs/{job['id']}/retry"
    first, second = (server.admin.post(path, headers=key) for _ in range(2))
    assert first.json()["id"] == second.json()["id"] != new["id"]
    assert second.headers["Idempotent-Replayed"] == "true"
    assert server.event_types(job["id"])[-1] == "retried"


def test_a_retry_from_a_checkpoint_begins_there(server: OrreryServer) -> None:
    job, file = finished(server)
    new = act(server, job, "retry", from_checkpoint=file["id"], config={"epochs": 6}).json()
    assignment = server.claim()
    assert assignment is not None
    assert assignment["job"] == new["id"]
    points = [(point["epoch"], point["sha256"]) for point in assignment["resume_from"]]
    assert points == [(1, file["sha256"])]
    server.report(assignment["lease_id"], first_epoch=2, epochs=[epoch_metrics(2)])
    assert server.job(new["id"])["progress"]["epochs_done"] == 3
    assert [row["epoch"] for row in server.metrics(new["id"])["data"]] == [2]
    # Its start is needed until it is over.
    refused = server.admin.delete(f"/v1/jobs/{job['id']}")
    assert_problem(refused, 409, "conflict")
    server.finish(assignment["lease_id"], "failed", "error", detail="no")
    assert server.admin.delete(f"/v1/jobs/{job['id']}").status_code == 200


def test_a_retry_that_cannot_work_says_why(server: OrreryServer) -> None:
    job, file = finished(server)
    other, _ = finished(server)
    for body, pointer in (
        ({"config": {"epohcs": 3}}, "/config/epohcs"),
        ({"config": {"epochs": 0}}, "/config/epochs"),
        ({"from_checkpoint": file["id"], "config": {"epochs": 2}}, "/config/epochs"),
        ({"from_checkpoint": "ckpt_" + "0" * 26}, "/from_checkpoint"),
        ({"from_checkpoint": file["id"], "config": {"hidden_dims": [9]}}, "/config/hidden_dims"),
        ({"config": {"save_name": ".orrery"}}, "/config/save_name"),
    ):
        problem = assert_problem(act(server, job, "retry", **body), 422, "invalid_request")
        assert problem["errors"][0]["pointer"] == pointer
    foreign = act(server, other, "retry", from_checkpoint=file["id"])
    assert_problem(foreign, 422, "invalid_request")


def test_name_labels_and_priority_change_and_the_rest_stays(server: OrreryServer) -> None:
    done, _ = finished(server)
    first, second = server.submit(name="a"), server.submit(metadata={"k": "v"})
    path = f"/v1/jobs/{second['id']}"
    changed = server.admin.patch(path, json={"priority": 5}).json()
    assert (changed["priority"], changed["metadata"]) == (5, {"k": "v"})
    assert [job["id"] for job in server.admin.get("/v1/queue").json()["data"]] == [
        second["id"],
        first["id"],
    ]
    changed = server.admin.patch(path, json={"name": "b", "metadata": {}}).json()
    assert (changed["name"], changed["metadata"], changed["priority"]) == ("b", {}, 5)
    for body in ({"status": "succeeded"}, {"priority": 101}, {"metadata": {"k": 1}}):
        assert_problem(server.admin.patch(path, json=body), 422, "invalid_request")
    assert_problem(
        server.admin.patch(f"/v1/jobs/{done['id']}", json={"priority": 1}), 409, "illegal_move"
    )
    assert server.admin.patch(f"/v1/jobs/{done['id']}", json={"name": "n"}).status_code == 200


def test_only_jobs_that_are_over_are_deleted_with_files_if_asked(server: OrreryServer) -> None:
    waiting = server.submit()
    assert_problem(server.admin.delete(f"/v1/jobs/{waiting['id']}"), 409, "illegal_move")
    act(server, waiting, "cancel")
    for files in (False, True):
        job, file = finished(server)
        folder = server.settings.data / Path(file["path"]).parents[2]
        (folder / "attempt-1").mkdir(parents=True, exist_ok=True)
        beside = folder.parent / "another"
        beside.mkdir(exist_ok=True)
        answer = server.admin.delete(f"/v1/jobs/{job['id']}", params={"files": files})
        assert (answer.status_code, answer.json()["files"]) == (200, files)
        assert folder.exists() is not files
        assert beside.exists()
        for path in ("", "/metrics", "/events", "/logs", "/checkpoints", "/attempts"):
            assert server.admin.get(f"/v1/jobs/{job['id']}{path}").status_code == 404
        assert server.admin.get(f"/v1/checkpoints/{file['id']}").status_code == 404


def test_users_act_on_their_own_jobs_alone(server: OrreryServer) -> None:
    job, stranger = server.submit(), server.new_client("user")
    path = f"/v1/jobs/{job['id']}"
    for answer in (
        stranger.post(f"{path}/pause"),
        stranger.post(f"{path}/retry"),
        stranger.patch(path, json={"name": "mine"}),
        stranger.delete(path),
        stranger.get(f"{path}/attempts"),
        stranger.get("/v1/compare", params={"ids": job["id"], "keys": "epoch_time"}),
    ):
        assert_problem(answer, 404, "not_found")
    assert stranger.get("/v1/queue").json()["data"] == []


def test_an_unchanged_job_is_answered_without_a_body(server: OrreryServer) -> None:
    job, assignment = server.start()
    path = f"/v1/jobs/{job['id']}"
    tag = server.admin.get(path).headers["ETag"]
    for known in (tag, f'"other", {tag}', tag.removeprefix("W/")):
        answer = server.admin.get(path, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["ETag"] == tag
        assert "Retry-After" in answer.headers
    server.report(assignment["lease_id"], epochs=[epoch_metrics(0)])
    answer = server.admin.get(path, headers={"If-None-Match": tag})
    assert answer.status_code == 200
    assert answer.headers["ETag"] != tag


def test_a_waiting_jobs_place_is_never_answered_from_memory(server: OrreryServer) -> None:
    first, second = server.submit(), server.submit()
    path = f"/v1/jobs/{second['id']}"
    tag = server.admin.get(path).headers["ETag"]
    act(server, first, "cancel")
    answer = server.admin.get(path, headers={"If-None-Match": tag})
    assert (answer.status_code, answer.json()["queue_position"]) == (200, 0)


def test_attempts_say_who_tried_and_how_it_ended(server: OrreryServer) -> None:
    job, assignment = server.start()
    place = {"seed": "7", "host": "here", "device": "cpu", "versions": {"torch": "2.13"}}
    server.report(assignment["lease_id"], first_epoch=0, whereabouts=place)
    server.finish(assignment["lease_id"], "failed", "worker_lost", detail="gone")
    server.claim()
    page = server.admin.get(f"/v1/jobs/{job['id']}/attempts").json()
    first, second = page["data"]
    assert (first["id"], first["first_epoch"], first["stop_reason"]) == (1, 0, "worker_lost")
    assert first["detail"] == "gone"
    assert first["ended_at"] is not None
    assert first["whereabouts"] == {**place, "gpu": None}
    assert (second["id"], second["status"], second["ended_at"]) == (2, None, None)
    assert second["whereabouts"] is None
    rest = server.admin.get(f"/v1/jobs/{job['id']}/attempts", params={"after": 1}).json()
    assert [attempt["id"] for attempt in rest["data"]] == [2]


def test_the_queue_pages_in_the_order_of_claims(server: OrreryServer) -> None:
    jobs = [server.submit(priority=priority)["id"] for priority in (0, 5, 0, 5, -1)]
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = server.admin.get("/v1/queue", params={"limit": 2, **after}).json()
        seen += [job["id"] for job in page["data"]]
        after = {"after": page["last_id"]}
        if not page["has_more"]:
            break
    assert seen == [jobs[k] for k in (1, 3, 0, 2, 4)]
    gone = server.admin.get("/v1/queue", params={"after": "job_" + "0" * 26})
    assert_problem(gone, 404, "not_found")
    claimed = [server.claim() for _ in jobs]
    assert [assignment["job"] for assignment in claimed if assignment] == seen


def test_series_of_several_jobs_side_by_side(server: OrreryServer) -> None:
    (first, _), (second, _) = finished(server), finished(server)
    with Client(server.url, server.admin_token) as client:
        found = client.compare([first["id"], second["id"]], ["epoch_time"], limit=1)
    assert list(found["data"]) == [first["id"], second["id"]]
    assert found["data"][first["id"]] == [{"epoch": 3, "epoch_time": 3.5}]
    ids = {"ids": first["id"]}
    keys = [name for name in METRIC_NAMES if name != "epoch"]
    several = ["job_" + str(number).zfill(26) for number in range(10)]
    too_much = {"ids": [first["id"], *several, several[0]], "keys": keys, "limit": 10000}
    refused = assert_problem(server.admin.get("/v1/compare", params=too_much), 422)
    most = 340_000 // (11 * len(keys))
    assert refused["errors"][0]["detail"].endswith(f"at most {most} epochs at a time")
    by_default = {"ids": [*several, *(f"job_{n:026}" for n in range(90, 100))]}
    assert_problem(server.admin.get("/v1/compare", params=by_default | {"keys": METRIC_NAMES}), 404)
    most = {"ids": [first["id"], second["id"]], "keys": keys, "limit": 10000}
    assert server.admin.get("/v1/compare", params=most).status_code == 200
    wrong = server.admin.get("/v1/compare", params={**ids, "keys": "epoch_tmie"})
    assert "did you mean 'epoch_time'?" in assert_problem(wrong, 422, "invalid_request")["detail"]
    assert_problem(server.admin.get("/v1/compare", params=ids), 422, "invalid_request")


@pytest.mark.parametrize("table", ["jobs", "epochs", "checkpoints", "attempts"])
def test_a_database_of_the_first_release_is_upgraded(tmp_path: Path, table: str) -> None:
    path = tmp_path / "orrery.db"
    migrate(path, "0001")
    engine = write_engine(path)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs (id, version, kind, status, owner_id, queue_rank, max_attempts, "
            "failures, attempt, config, labels, warnings, epochs_total, epochs_done, log_bytes, "
            "created_at) VALUES ('job_1', 1, 'train', 'queued', 'token_1', 0, 5, 0, 0, '{}', "
            "'{}', '[]', 4, 0, 0, 1.0)"
        )
    engine.dispose()
    migrate(path)
    engine = write_engine(path)
    with engine.begin() as connection:
        rows = connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
        job = connection.exec_driver_sql("SELECT retry_of, status FROM jobs").one()
    engine.dispose()
    assert rows == (1 if table == "jobs" else 0)
    assert tuple(job) == (None, "queued")


def test_the_command_line_pauses_resumes_retries_changes_and_deletes(
    server: OrreryServer, orrery: Orrery
) -> None:
    job = server.submit()["id"]
    assert orrery("pause", job, "--wait").out.strip() == f"{job}: paused"
    assert orrery("resume", job).out.strip() == f"{job}: queued"
    assert job in orrery("queue").out
    changed = orrery("change", job, "--name", "n", "--priority", "3", "--label", "a=b=c", "--json")
    assert '"a": "b=c"' in changed.out
    assert orrery("change", job, "--label", "a").code == 2
    orrery("cancel", job)
    new = orrery("retry", job, "--set", "epochs=7").out.strip()
    assert server.job(new)["config"] == {**server.job(job)["config"], "epochs": 7}
    assert orrery("delete", job, "--files").out.strip() == f"{job}: deleted"
    assert orrery("show", job).code == 4
    orrery("cancel", new)
    done, _ = finished(server)
    assert "succeeded completed" in orrery("attempts", done["id"]).out
    compared = orrery("compare", done["id"], "--key", "epoch_time").out
    assert ["1", "1.5"] in [line.split() for line in compared.splitlines()]


def test_jobs_are_found_by_label_and_age(server: OrreryServer) -> None:
    first = server.submit(metadata={"paper": "draft", "group": "a.b"})
    second = server.submit(metadata={"paper": "draft", "note": 'a "quoted" = text'})
    server.submit()

    def found(**query: Any) -> list[str]:
        answer = server.admin.get("/v1/jobs", params=query)
        assert answer.status_code == 200, answer.text
        return [job["id"] for job in answer.json()["data"]]

    assert found(metadata="paper=draft") == [second["id"], first["id"]]
    assert found(metadata=["paper=draft", "group=a.b"]) == [first["id"]]
    assert found(metadata='note=a "quoted" = text') == [second["id"]]
    assert found(metadata="paper=dra") == []
    assert len(found(created_after="2020-01-01T00:00:00Z")) == 3
    assert found(created_after="2100-01-01T00:00:00Z") == []
    for query in ({"metadata": "paper"}, {"metadata": 'a"b=c'}, {"created_after": "yesterday"}):
        assert_problem(server.admin.get("/v1/jobs", params=query), 422, "invalid_request")
    wrong = server.admin.get("/v1/jobs", params={"metadata": "paper"}).json()
    assert "KEY=TEXT" in wrong["detail"]


def test_a_thinned_series_keeps_its_peaks(server: OrreryServer) -> None:
    job, assignment = server.start(config={"epochs": 1000})
    peaks = {137: 0.9, 500: -3.0, 998: 7.0}
    for begin in range(0, 1000, 250):
        rows = [
            epoch_metrics(k, epoch_time=1.0) | {"part2/mean_rel_dE": peaks.get(k, 0.1 + k * 1e-6)}
            for k in range(begin, begin + 250)
        ]
        assert server.report(assignment["lease_id"], epochs=rows).status_code == 200
    key = "part2/mean_rel_dE"
    page = server.metrics(job["id"], keys=key, max_points=40)
    assert 20 <= len(page["data"]) <= 40
    assert page["last_epoch"] == 999
    kept = {row["epoch"]: row[key] for row in page["data"]}
    assert {k: kept.get(k) for k in peaks} == peaks
    assert list(kept) == sorted(kept)
    assert len(server.metrics(job["id"], keys=key, max_points=5000)["data"]) == 1000
    several = server.metrics(job["id"], keys=[key, "epoch_time"], max_points=40)["data"]
    assert len(several) <= 40
    assert any(row["epoch"] == 998 for row in several)
    stretch = server.metrics(job["id"], keys=key, max_points=40, after=99, until=600)["data"]
    assert {137, 500} <= {row["epoch"] for row in stretch}
    assert 99 < stretch[0]["epoch"] < stretch[-1]["epoch"] <= 600
    whole = server.metrics(job["id"], keys=key, max_points=40, after=990)["data"]
    assert [row["epoch"] for row in whole] == list(range(991, 1000))
    path = f"/v1/jobs/{job['id']}/metrics"
    for query in (
        {"max_points": 9},
        {"max_points": 3, "keys": [key, "epoch_time"]},
    ):
        assert_problem(server.admin.get(path, params=query), 422, "invalid_request")


def test_the_command_line_makes_lists_and_revokes_tokens(
    server: OrreryServer, orrery: Orrery
) -> None:
    secret = orrery("token", "create", "board", "--role", "viewer", "--expires-in-days", "1")
    client = server.http(secret.out.strip())
    assert client.get("/v1/jobs").status_code == 200
    listed = orrery("token", "list")
    line = next(line for line in listed.out.splitlines() if " board " in line)
    assert "viewer" in line
    assert secret.out.strip() not in listed.out
    revoked = orrery("token", "revoke", line.split()[0])
    assert revoked.out.strip() == f"{line.split()[0]}: revoked"
    assert client.get("/v1/jobs").status_code == 401
    assert orrery("token", "create", "x", "--role", "king").code == 4
    assert orrery("token", "revoke", "token_" + "0" * 26).code == 4
