"""Submitting, validating, listing and showing jobs."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from nbody.__main__ import main
from nbody.config import Config
from nbody.config.size import estimate
from tests.server.conftest import TINY, OrreryServer, assert_problem, epoch_metrics

Json = dict[str, Any]


def test_a_submitted_job_is_queued_and_can_be_found(shared_server: OrreryServer) -> None:
    answer = shared_server.admin.post("/v1/jobs", json={"config": TINY, "name": "first"})
    assert answer.status_code == 201
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert job["id"].startswith("job_")
    assert (job["status"], job["name"], job["attempt"]) == ("queued", "first", 0)
    assert job["progress"] == {"epochs_done": 0, "epochs_total": 4, "fraction": 0.0}
    assert shared_server.admin.get(answer.headers["location"]).json() == job


def test_defaults_are_filled_in_and_what_was_given_is_kept(shared_server: OrreryServer) -> None:
    config = shared_server.submit(config={"lr": 3e-3, "extra": {"note": "mine"}})["config"]
    assert config == Config(**TINY, lr=3e-3, extra={"note": "mine"}).model_dump(mode="json")


def test_a_job_is_named_after_its_save_name(shared_server: OrreryServer) -> None:
    assert shared_server.submit(config={"save_name": "halo"})["name"] == "halo"
    assert shared_server.submit(name="Η Ζωή", config={"save_name": "halo"})["name"] == "Η Ζωή"
    assert shared_server.submit()["name"] is None


def test_every_field_of_a_submission_comes_back(shared_server: OrreryServer) -> None:
    fields: Json = {
        "priority": -7,
        "max_runtime_s": 12.5,
        "max_attempts": 2,
        "metadata": {"paper": "Kepler 1609", "run.id": "7"},
    }
    job = shared_server.submit(**fields)
    assert {name: job[name] for name in fields} == fields
    assert job["kind"] == "train"


def test_a_job_that_will_skip_part_2_is_submitted_with_a_warning(
    shared_server: OrreryServer,
) -> None:
    job = shared_server.submit(config={"num_orbits": 1, "steps_per_epoch": 1})
    assert any("Part 2" in warning for warning in job["warnings"])
    assert shared_server.submit()["warnings"] == []


# --- idempotency --------------------------------------------------------------------------------


def test_the_same_key_and_body_replays_the_first_answer(shared_server: OrreryServer) -> None:
    headers = {"Idempotency-Key": "once-1"}
    body: Json = {"config": TINY, "name": "only once"}
    first = shared_server.admin.post("/v1/jobs", json=body, headers=headers)
    again = shared_server.admin.post("/v1/jobs", json=body, headers=headers)
    assert first.status_code == again.status_code == 201
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    listed = shared_server.admin.get("/v1/jobs", params={"name": "only once"}).json()
    assert [job["id"] for job in listed["data"]] == [first.json()["id"]]


def test_the_same_key_with_another_body_is_refused(shared_server: OrreryServer) -> None:
    headers = {"Idempotency-Key": "once-2"}
    body: Json = {"config": TINY, "name": "first body"}
    assert shared_server.admin.post("/v1/jobs", json=body, headers=headers).status_code == 201
    other = shared_server.admin.post(
        "/v1/jobs", json=body | {"name": "second body"}, headers=headers
    )
    assert_problem(other, 422, "idempotency_key_reused")
    listed = shared_server.admin.get("/v1/jobs", params={"name": "second body"}).json()
    assert listed["data"] == []


def test_keys_of_different_users_do_not_meet(shared_server: OrreryServer) -> None:
    headers = {"Idempotency-Key": "shared-word"}
    jobs = [
        shared_server.new_client("user").post("/v1/jobs", json={"config": TINY}, headers=headers)
        for _ in range(2)
    ]
    assert [job.status_code for job in jobs] == [201, 201]
    assert jobs[0].json()["id"] != jobs[1].json()["id"]


def test_simultaneous_submissions_with_one_key_make_one_job(shared_server: OrreryServer) -> None:
    client = shared_server.admin
    barrier = threading.Barrier(6)

    def submit() -> Any:
        barrier.wait(10)
        return client.post(
            "/v1/jobs", json={"config": TINY}, headers={"Idempotency-Key": "stampede"}
        )

    with ThreadPoolExecutor(6) as pool:
        answers = [future.result() for future in [pool.submit(submit) for _ in range(6)]]
    assert {answer.status_code for answer in answers} <= {201, 409}
    created = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    assert len(created) == 1


@pytest.mark.parametrize("key", ["", "x" * 201, "two words", "naïve"])
def test_a_key_that_is_not_plain_printable_text_is_refused(
    shared_server: OrreryServer, key: str
) -> None:
    answer = shared_server.admin.post(
        "/v1/jobs", json={"config": TINY}, headers={"Idempotency-Key": key.encode()}
    )
    problem = assert_problem(answer, 422, "invalid_request")
    assert "idempotency" in problem["errors"][0]["pointer"].lower()


def test_a_refused_submission_does_not_use_up_its_key(shared_server: OrreryServer) -> None:
    headers = {"Idempotency-Key": "second-chance"}
    wrong = shared_server.admin.post("/v1/jobs", json={"config": {"lr": -1}}, headers=headers)
    assert_problem(wrong, 422)
    right = shared_server.admin.post("/v1/jobs", json={"config": TINY}, headers=headers)
    assert right.status_code == 201


# --- validate and schema ------------------------------------------------------------------------


def test_validation_answers_what_would_run_and_stores_nothing(server: OrreryServer) -> None:
    body: Json = {"config": {"epochs": 7, "num_orbits": 1}, "name": "dry"}
    answer = server.admin.post("/v1/jobs/validate", json=body)
    assert answer.status_code == 200
    report = answer.json()
    assert report["config"] == Config(epochs=7, num_orbits=1).model_dump(mode="json")
    assert any("Part 2" in warning for warning in report["warnings"])
    assert report["parameter_count"] > 0
    assert report["estimated_memory_bytes"] > 8 * report["parameter_count"]
    assert server.admin.get("/v1/jobs").json()["data"] == []


def test_validation_refuses_what_submission_refuses(shared_server: OrreryServer) -> None:
    for body in ({"config": {"epohcs": 1}}, {"config": {}, "priority": 101}, {}):
        submitted = shared_server.admin.post("/v1/jobs", json=body)
        validated = shared_server.admin.post("/v1/jobs/validate", json=body)
        assert validated.status_code == submitted.status_code == 422
        assert validated.json()["errors"] == submitted.json()["errors"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"hidden_dims": []},
        {"dt_head": "softplus", "history_len": 2},
        {"feature_type": "rich", "num_particles": 4, "initial_conditions": "random"},
        {"feature_type": "delta_mag", "history_len": 3},
        {"feature_type": "basic", "fourier_scale": 2.0, "fourier_dim": 32},
    ],
)
def test_the_estimated_parameters_are_those_of_the_network(fields: Json) -> None:
    from nbody.initial_conditions.from_config import initial_particle
    from nbody.model import build_model
    from nbody.model_adapter import ModelAdapter

    config = Config(**{"hidden_dims": [5, 7], **fields})
    adapter = ModelAdapter(config)
    inputs = adapter.input_dim_from_state(
        initial_particle(config, seed=1), history_buffer=adapter.history_buffer
    )
    network = build_model(config, inputs)
    assert estimate(config).parameters == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("epochs", "every"), [(1, 10), (4, 1), (4, 3), (5, 2)])
def test_the_estimated_checkpoints_are_those_of_the_run(
    tmp_path: Path, epochs: int, every: int
) -> None:
    size = {"hidden_dims": [200, 200], "epochs": epochs, "checkpoint_every": every}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**size, "num_orbits": 2, "replay_steps": 1, "device": "cpu"}))
    assert main([str(path), "--data", str(tmp_path), "--set", "evaluation_orbits=0"]) == 0
    saved = sum(file.stat().st_size for file in tmp_path.rglob("*.pt"))
    assert estimate(Config(**size)).checkpoint_bytes == pytest.approx(saved, rel=0.05)


def test_a_gpu_that_is_named_by_number_is_told_of(shared_server: OrreryServer) -> None:
    def warned(device: str) -> bool:
        body = {"config": {"device": device, "num_orbits": 4}}
        report = shared_server.admin.post("/v1/jobs/validate", json=body).json()
        return any("one GPU of its own" in text for text in report["warnings"])

    assert warned("cuda:1")
    assert not warned("cuda")


def test_the_memory_of_a_gpu_is_told_where_one_may_be_taken(shared_server: OrreryServer) -> None:
    def told(device: str, **fields: Any) -> int:
        body = {"config": {"device": device, "num_orbits": 4, **fields}}
        report = shared_server.admin.post("/v1/jobs/validate", json=body).json()
        return report["estimated_gpu_memory_bytes"]

    assert told("cpu") == 0
    small, wide = told("auto"), told("cuda", replay_batch_size=4096, num_orbits=4096)
    assert 560e6 < small < wide


def test_checkpoints_that_fill_a_disk_are_told_before(shared_server: OrreryServer) -> None:
    wide = {"hidden_dims": [200, 1000, 1000, 200], "dtype": "float64"}
    config = {"epochs": 20_000, "checkpoint_every": 10, **wide}
    report = shared_server.admin.post("/v1/jobs/validate", json={"config": config}).json()
    assert any("2001 checkpoints will take 68 GB" in text for text in report["warnings"])
    config["checkpoint_every"] = 1000
    report = shared_server.admin.post("/v1/jobs/validate", json={"config": config}).json()
    assert not any("checkpoints" in text for text in report["warnings"])


def test_the_config_schema_describes_every_field(shared_server: OrreryServer) -> None:
    answer = shared_server.admin.get("/v1/schemas/config")
    assert answer.status_code == 200
    schema = answer.json()
    assert set(schema["properties"]) == set(Config.model_fields)
    assert schema["additionalProperties"] is False
    for name, field in schema["properties"].items():
        assert field.get("description"), name
        assert "default" in field, name


# --- lists --------------------------------------------------------------------------------------


def test_jobs_are_listed_newest_first_in_pages_without_gaps(server: OrreryServer) -> None:
    ids = [server.submit(name=f"job {number}")["id"] for number in range(5)]
    seen: list[str] = []
    parameters: Json = {"limit": 2}
    while True:
        page = server.admin.get("/v1/jobs", params=parameters).json()
        assert page["object"] == "list"
        seen += [job["id"] for job in page["data"]]
        assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], seen[-1])
        if not page["has_more"]:
            break
        assert len(page["data"]) == 2
        parameters["after"] = page["last_id"]
    assert seen == sorted(ids, reverse=True)


def test_jobs_that_arrive_meanwhile_do_not_shift_the_pages(server: OrreryServer) -> None:
    first, second = server.submit(), server.submit()
    page = server.admin.get("/v1/jobs", params={"limit": 1}).json()
    assert page["data"][0]["id"] == second["id"]
    server.submit()
    rest = server.admin.get("/v1/jobs", params={"after": page["last_id"]}).json()
    assert [job["id"] for job in rest["data"]] == [first["id"]]


def test_an_empty_list_is_a_list(server: OrreryServer) -> None:
    assert server.admin.get("/v1/jobs").json() == {
        "object": "list",
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }


def test_jobs_are_filtered_by_status_and_name(server: OrreryServer) -> None:
    waiting = server.submit(name="a")["id"]
    gone = server.submit(name="a")["id"]
    server.submit(name="b")
    server.admin.post(f"/v1/jobs/{gone}/cancel")

    def listed(**parameters: Any) -> list[str]:
        page = server.admin.get("/v1/jobs", params=parameters).json()
        return [job["id"] for job in page["data"]]

    assert listed(name="a") == [gone, waiting]
    assert listed(status="cancelled") == [gone]
    assert listed(status="queued", name="a") == [waiting]
    assert listed(status=["queued", "cancelled"], name="a") == [gone, waiting]
    assert listed(name="c") == []


def test_lists_show_summaries_and_never_configs_or_series(shared_server: OrreryServer) -> None:
    shared_server.submit(config={"extra": {"large": "x" * 1000}})
    for job in shared_server.admin.get("/v1/jobs").json()["data"]:
        assert not {"config", "result", "metrics", "latest_metrics"} & set(job)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("limit", "0"),
        ("limit", "1001"),
        ("limit", "many"),
        ("status", "sleeping"),
        ("after", "../x"),
        ("name", "x" * 201),
    ],
)
def test_a_wrong_list_parameter_is_named(
    shared_server: OrreryServer, parameter: str, value: str
) -> None:
    answer = shared_server.admin.get("/v1/jobs", params={parameter: value})
    problem = assert_problem(answer, 422, "invalid_request")
    assert parameter in problem["errors"][0]["pointer"]


# --- one job ------------------------------------------------------------------------------------


def test_an_unknown_job_is_not_found(shared_server: OrreryServer) -> None:
    unknown = "job_" + "0" * 26
    assert_problem(shared_server.admin.get(f"/v1/jobs/{unknown}"), 404, "not_found")


def test_an_unknown_address_and_a_wrong_method_are_problems(shared_server: OrreryServer) -> None:
    assert_problem(shared_server.admin.get("/v1/nothing"), 404, "not_found")
    assert_problem(shared_server.admin.put("/v1/jobs"), 405, "method_not_allowed")


def test_the_etag_changes_with_the_job_and_only_then(server: OrreryServer) -> None:
    job, assignment = server.start()
    path = f"/v1/jobs/{job['id']}"

    def etag() -> str:
        return server.admin.get(path).headers["etag"]

    first = etag()
    assert first.startswith('W/"')
    assert etag() == first
    server.report(assignment["lease_id"], epochs=[epoch_metrics(0)])
    second = etag()
    assert second != first
    server.report(assignment["lease_id"], phase="collect")
    assert etag() not in {first, second}


def test_a_heartbeat_does_not_change_the_job(server: OrreryServer) -> None:
    job, assignment = server.start()
    before = server.admin.get(f"/v1/jobs/{job['id']}")
    assert server.report(assignment["lease_id"]).status_code == 200
    after = server.admin.get(f"/v1/jobs/{job['id']}")
    assert after.headers["etag"] == before.headers["etag"]
    assert after.json() == before.json()


def test_unfinished_jobs_say_when_to_ask_again(server: OrreryServer) -> None:
    job = server.submit()
    path = f"/v1/jobs/{job['id']}"
    assert int(server.admin.get(path).headers["retry-after"]) > 0
    server.admin.post(f"{path}/cancel")
    assert "retry-after" not in server.admin.get(path).headers


def _version(server: OrreryServer, job_id: str) -> str:
    return server.admin.get(f"/v1/jobs/{job_id}").headers["etag"].removeprefix("W/").strip('"')


def test_a_long_poll_wakes_on_a_change(server: OrreryServer) -> None:
    job_id = server.submit()["id"]
    parameters = {"wait": 20, "version": _version(server, job_id)}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.admin.get, f"/v1/jobs/{job_id}", params=parameters)
        server.until(lambda: server.waiters(job_id) == 1)
        assert not waiting.done()
        server.admin.post(f"/v1/jobs/{job_id}/cancel")
        answer = waiting.result(10)
    assert answer.json()["status"] == "cancelled"
    assert server.waiters(job_id) == 0


def test_a_long_poll_with_an_old_version_answers_at_once(server: OrreryServer) -> None:
    job_id = server.submit()["id"]
    old = _version(server, job_id)
    server.admin.post(f"/v1/jobs/{job_id}/cancel")
    answer = server.admin.get(f"/v1/jobs/{job_id}", params={"wait": 20, "version": old})
    assert answer.json()["status"] == "cancelled"
    assert answer.elapsed.total_seconds() < 10


def test_a_long_poll_ends_after_its_time(server: OrreryServer) -> None:
    job_id = server.submit()["id"]
    parameters = {"wait": 0.05, "version": _version(server, job_id)}
    answer = server.admin.get(f"/v1/jobs/{job_id}", params=parameters)
    assert answer.status_code == 200
    assert answer.elapsed.total_seconds() >= 0.05


@pytest.mark.parametrize("wait", ["25.1", "-1", "nan", "inf"])
def test_a_wait_out_of_range_is_refused(shared_server: OrreryServer, wait: str) -> None:
    job_id = shared_server.submit()["id"]
    answer = shared_server.admin.get(f"/v1/jobs/{job_id}", params={"wait": wait})
    assert "wait" in assert_problem(answer, 422)["errors"][0]["pointer"]


def test_the_queue_position_counts_the_jobs_ahead(server: OrreryServer) -> None:
    normal = server.submit()["id"]
    later = server.submit()["id"]
    urgent = server.submit(priority=5)["id"]
    positions = {job: server.job(job)["queue_position"] for job in (urgent, normal, later)}
    assert positions == {urgent: 0, normal: 1, later: 2}
    assert server.claim()["job"] == urgent  # pyright: ignore[reportOptionalSubscript]
    assert server.job(urgent)["queue_position"] is None
    assert server.job(later)["queue_position"] == 1


def test_a_running_job_shows_progress_and_the_time_left(server: OrreryServer) -> None:
    job, assignment = server.start()
    assert server.job(job["id"])["eta_s"] is None
    epochs = [epoch_metrics(n, epoch_time=2.0) for n in range(3)]
    server.report(assignment["lease_id"], phase="generalize", epochs=epochs)
    seen = server.job(job["id"])
    assert (seen["status"], seen["phase"], seen["attempt"]) == ("running", "generalize", 1)
    assert seen["progress"] == {"epochs_done": 3, "epochs_total": 4, "fraction": 0.75}
    assert seen["eta_s"] == pytest.approx(2.0)
    assert seen["latest_metrics"] == epochs[-1]
    assert seen["started_at"] is not None
    server.report(assignment["lease_id"], phase="evaluate", epochs=[epoch_metrics(3)])
    assert server.job(job["id"])["eta_s"] is None  # scoring takes what it takes


# --- the service itself -------------------------------------------------------------------------


def test_the_service_says_how_it_is_and_what_it_is(shared_server: OrreryServer) -> None:
    nobody = shared_server.http(None)
    assert nobody.get("/healthz").json() == {"status": "ok"}
    assert nobody.get("/readyz").json() == {"status": "ok"}
    version = shared_server.admin.get("/version").json()
    assert version["name"] == "orrery"
    assert version["protocol"] == 1
    assert version["version"]


def test_an_acknowledged_job_is_in_the_file(server: OrreryServer) -> None:
    job_id = server.submit()["id"]
    query = text("SELECT count(*) FROM jobs WHERE id = :id")
    count: Callable[..., int] = lambda c: c.execute(query, {"id": job_id}).scalar_one()  # noqa: E731
    assert server.read(count) == 1


def test_every_answer_has_a_request_id_of_its_own(shared_server: OrreryServer) -> None:
    ids = {shared_server.admin.get("/version").headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3
