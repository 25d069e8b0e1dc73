"""Jobs that use a trained stepper: simulations, evaluations, and those that follow a training."""

from pathlib import Path

import pytest

from tests.server.conftest import OrreryServer, assert_problem, checkpoint, epoch_metrics


def trained(server: OrreryServer, epochs: tuple[int, ...] = (0, 2), **fields: object) -> dict:
    """A training job that succeeded, and has checkpoints of some epochs."""
    job, assignment = server.start(**fields)
    lease = assignment["lease_id"]
    server.report(lease, epochs=[epoch_metrics(epoch) for epoch in range(3)])
    server.report(lease, checkpoints=[checkpoint(assignment, epoch) for epoch in epochs])
    assert server.finish(lease).status_code == 200
    return server.job(job["id"])


def claim(server: OrreryServer) -> dict | None:
    worker = server.register()
    body = {"claim_id": "now", "kinds": ["train", "simulate", "evaluate"]}
    answer = server.worker.post(f"/v1/workers/{worker}/claim", json=body)
    return answer.json() if answer.status_code == 200 else None


def test_a_simulation_has_the_fields_of_the_training_and_its_last_checkpoint(
    server: OrreryServer,
) -> None:
    source = trained(server, config={"energy_threshold": 1e-5, "resample_each_epoch": True})
    config = {"duration": 3.0, "initial_conditions": "kepler"}
    body = {"kind": "simulate", "config": config, "stepper": {"job": source["id"]}}
    job = server.admin.post("/v1/jobs", json=body).json()
    assert job["kind"] == "simulate"
    assert job["config"]["energy_threshold"] == 1e-5
    assert job["config"]["duration"] == 3.0
    assert job["config"]["integrator_mode"] == "reversible"
    assert job["progress"] == {"epochs_done": 0, "epochs_total": 0, "fraction": 0.0}
    assignment = claim(server)
    assert assignment is not None
    assert assignment["kind"] == "simulate"
    assert [point["epoch"] for point in assignment["resume_from"]] == [2]
    assert job["from_checkpoint"] == source["latest_checkpoint"]["id"]


def test_a_stepper_of_a_certain_epoch_can_be_chosen(server: OrreryServer) -> None:
    source = trained(server)
    stepper = {"job": source["id"], "epoch": 0}
    body = {"kind": "evaluate", "config": {"num_orbits": 9}, "stepper": stepper}
    job = server.admin.post("/v1/jobs", json=body).json()
    assert job["config"]["num_orbits"] == 9
    assert job["config"]["hidden_dims"] == source["config"]["hidden_dims"]
    assignment = claim(server)
    assert assignment is not None
    assert [point["epoch"] for point in assignment["resume_from"]] == [0]


def test_a_stepper_takes_the_steps_that_it_was_trained_for(server: OrreryServer) -> None:
    source = trained(server, config={"integrator": "hermite4"})
    body = {"kind": "simulate", "config": {"duration": 3.0}, "stepper": {"job": source["id"]}}
    config = server.admin.post("/v1/jobs", json=body).json()["config"]
    assert config["integrator"] == "hermite4"
    assert config["integrator_mode"] == "ml"  # it is not symmetric in time
    for kind in ("simulate", "evaluate"):
        other = {**body, "kind": kind, "config": {"integrator": "leapfrog4"}}
        problem = assert_problem(server.admin.post("/v1/jobs", json=other), 422)
        assert problem["errors"][0]["pointer"] == "/config/integrator"
        assert "hermite4" in problem["errors"][0]["detail"]
    given = {"integrator": "hermite4", "integrator_mode": "reversible"}
    refused = server.admin.post("/v1/jobs", json={"kind": "simulate", "config": given})
    assert "leapfrog4" in assert_problem(refused, 422)["errors"][0]["detail"]


def test_another_kind_of_system_begins_with_its_own_defaults(server: OrreryServer) -> None:
    many = {"initial_conditions": "planetary_system", "num_particles": 5, "num_systems": 64}
    source = trained(server, config={**many, "dim": 3, "energy_threshold": 1e-5})
    rows = [[1.0, 0.0, 0.0, 0.0, 0.0], [1e-3, 1.0, 0.0, 0.0, 1.0]]
    given = {"initial_conditions": "inline", "particles": rows, "duration": 3.0}
    for kind in ("simulate", "evaluate"):
        body = {"kind": kind, "config": given, "stepper": {"job": source["id"]}}
        answer = server.admin.post("/v1/jobs", json=body)
        assert answer.status_code == 201, answer.text
        config = answer.json()["config"]
        assert (config["num_systems"], config["num_particles"], config["dim"]) == (1, 2, 2)
        assert config["energy_threshold"] == 1e-5


def test_units_that_do_not_fit_are_doubted_at_submission(server: OrreryServer) -> None:
    rows = [[2e30, 0, 0, 0, 0], [6e24, 1.5e11, 0, 0, 3e4]]
    config = {"initial_conditions": "inline", "particles": rows, "duration": 3.0}
    body = {"kind": "simulate", "config": config}
    for path in ("/v1/jobs", "/v1/jobs/validate"):
        assert "set G=SI" in server.admin.post(path, json=body).json()["warnings"][0]


def test_the_best_checkpoint_is_not_always_the_last(server: OrreryServer) -> None:
    """Epoch 1 has the largest efficiency of those that passed; 2 is better and of a bad epoch."""
    job, assignment = server.start()
    lease = assignment["lease_id"]
    quality = [(1.0, 0.5), (0.95, 0.9), (0.6, 0.99), (1.0, 0.7)]
    rows = [
        epoch_metrics(epoch, **{"part2/final_pass_rate": rate, "part2/efficiency": efficiency})
        for epoch, (rate, efficiency) in enumerate(quality)
    ]
    server.report(lease, epochs=rows)
    server.report(lease, checkpoints=[checkpoint(assignment, epoch) for epoch in range(4)])
    server.finish(lease)
    page = server.admin.get(f"/v1/jobs/{job['id']}/checkpoints").json()
    assert [(row["pass_rate"], row["efficiency"]) for row in page["data"]] == quality
    body = {"kind": "evaluate", "config": {}, "stepper": {"job": job["id"], "epoch": "best"}}
    chosen = server.admin.post("/v1/jobs", json=body).json()["from_checkpoint"]
    assert chosen == page["data"][1]["id"]
    assert server.admin.get(f"/v1/checkpoints/{chosen}").json()["efficiency"] == 0.9
    assert server.job(job["id"])["latest_checkpoint"]["efficiency"] == 0.7


def test_of_bad_epochs_alone_the_one_that_passed_most_is_best(server: OrreryServer) -> None:
    job, assignment = server.start()
    lease = assignment["lease_id"]
    rows = [
        epoch_metrics(epoch, **{"part2/final_pass_rate": rate, "part2/efficiency": None})
        for epoch, rate in enumerate((0.2, 0.6, 0.4))
    ]
    server.report(lease, epochs=rows)
    server.report(lease, checkpoints=[checkpoint(assignment, epoch) for epoch in range(3)])
    body = {"kind": "evaluate", "config": {}, "stepper": {"job": job["id"], "epoch": "best"}}
    chosen = server.admin.post("/v1/jobs", json=body).json()["from_checkpoint"]
    assert server.admin.get(f"/v1/checkpoints/{chosen}").json()["epoch"] == 1
    body["stepper"]["epoch"] = "worst"
    assert_problem(server.admin.post("/v1/jobs", json=body), 422)


def test_a_classical_simulation_needs_no_stepper(server: OrreryServer) -> None:
    job = server.submit(kind="simulate", config={"integrator_mode": "analytic"})
    assert job["from_checkpoint"] is None
    assignment = claim(server)
    assert assignment is not None
    assert assignment["resume_from"] == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"kind": "evaluate", "config": {}}, "/stepper"),
        ({"kind": "simulate", "config": {"integrator_mode": "ml"}}, "/stepper"),
        ({"kind": "train", "config": {}, "stepper": {"job": f"job_{'0' * 26}"}}, "/stepper"),
        ({"kind": "evaluate", "config": {}, "stepper": {"job": f"job_{'0' * 26}"}}, "/stepper/job"),
        ({"kind": "train", "config": {}, "simulate": {"duraton": 1}}, "/simulate/duraton"),
        ({"config": {}, "simulate": {"duration": 0}}, "/simulate/duration"),
        ({"config": {}, "simulate": {"integrator_mode": "fixed"}}, "/simulate/dt"),
        (
            {"kind": "simulate", "config": {"integrator_mode": "analytic"}, "simulate": {}},
            "/simulate",
        ),
        ({"kind": "bake", "config": {}}, "/kind"),
        ({"config": {"energy_threshold": 1e-6}, "simulate": {"dtype": "float32"}}, "/simulate"),
        ({"config": {}, "simulate": {"save_name": ".orrery"}}, "/simulate"),
    ],
)
def test_what_does_not_fit_is_refused_and_says_where(
    shared_server: OrreryServer, body: dict, pointer: str
) -> None:
    for path in ("/v1/jobs", "/v1/jobs/validate"):
        problem = assert_problem(shared_server.admin.post(path, json=body), 422, "invalid_request")
        assert problem["errors"][0]["pointer"] == pointer


def test_a_job_without_checkpoints_and_one_of_another_user_have_no_stepper(
    server: OrreryServer,
) -> None:
    whole, bare = trained(server), server.submit()
    for client, job, epoch in (
        (server.admin, bare, None),
        (server.admin, whole, 1),
        (server.new_client("user"), whole, None),
    ):
        stepper = {"job": job["id"], "epoch": epoch}
        body = {"kind": "evaluate", "config": {}, "stepper": stepper}
        assert_problem(client.post("/v1/jobs", json=body), 422, "invalid_request")


def test_a_worker_that_does_not_say_so_gets_no_simulation(server: OrreryServer) -> None:
    server.submit(kind="simulate", config={"integrator_mode": "analytic"})
    assert server.claim() is None
    later = server.submit()
    assignment = server.claim()
    assert assignment is not None
    assert assignment["job"] == later["id"]


def test_a_training_is_followed_by_the_simulation_that_it_asked_for(server: OrreryServer) -> None:
    source = trained(server, simulate={"duration": 2.0}, metadata={"paper": "draft"})
    follower = server.admin.get("/v1/queue").json()["data"][0]
    assert follower["kind"] == "simulate"
    assert follower["parent"] == source["id"]
    assert follower["metadata"] == {"paper": "draft"}
    whole = server.job(follower["id"])
    assert whole["config"]["duration"] == 2.0
    assert whole["from_checkpoint"] == source["latest_checkpoint"]["id"]
    assert "simulates" in server.event_types(source["id"])


def test_a_training_that_failed_or_left_no_checkpoint_is_followed_by_none(
    server: OrreryServer,
) -> None:
    job, assignment = server.start(simulate={})
    server.finish(assignment["lease_id"], "failed", "diverged")
    assert server.job(job["id"])["status"] == "failed"
    job, assignment = server.start(simulate={})
    server.finish(assignment["lease_id"])
    assert server.admin.get("/v1/queue").json()["data"] == []


def test_results_and_files_are_listed_and_downloaded(server: OrreryServer) -> None:
    job = server.submit(kind="simulate", config={"integrator_mode": "analytic"})
    path = f"/v1/jobs/{job['id']}"
    assert_problem(server.admin.get(f"{path}/result"), 404, "not_found")
    assignment = claim(server)
    assert assignment is not None
    folder = assignment["output_folder"]
    file = Path(server.settings.data) / folder / "simulation.npz"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"0123456789")
    artifact = {"path": f"{folder}/simulation.npz", "bytes": 10, "sha256": "a" * 64}
    lease = assignment["lease_id"]
    for _ in range(2):  # a repeat changes nothing
        assert server.report(lease, first_epoch=0, artifacts=[artifact]).status_code == 200
    assert_problem(server.report(lease, artifacts=[artifact | {"bytes": 11}]), 409)
    stray = artifact | {"path": "elsewhere/simulation.npz"}
    assert_problem(server.report(lease, artifacts=[stray]), 409)
    server.finish(lease, result={"steps": 7})
    assert server.admin.get(f"{path}/result").json()["data"] == {"steps": 7}
    assert server.job(job["id"])["progress"]["fraction"] == 1.0
    listed = server.admin.get(f"{path}/artifacts").json()
    assert [found["name"] for found in listed["data"]] == ["simulation.npz"]
    found = listed["data"][0]
    assert server.admin.get(f"/v1/artifacts/{found['id']}").json() == found
    content = f"/v1/artifacts/{found['id']}/content"
    assert server.admin.get(content).content == b"0123456789"
    part = server.admin.get(content, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    other = server.new_client("user")
    for hidden in (f"{path}/result", f"{path}/artifacts", content, content[:-8]):
        assert_problem(other.get(hidden), 404, "not_found")


def test_files_of_an_attempt_that_was_lost_are_listed_no_more(server: OrreryServer) -> None:
    job = server.submit(kind="simulate", config={"integrator_mode": "analytic"})
    for _ in range(2):
        assignment = claim(server)
        assert assignment is not None
        path = f"{assignment['output_folder']}/simulation.npz"
        artifact = {"path": path, "bytes": 1, "sha256": "a" * 64}
        server.report(assignment["lease_id"], first_epoch=0, artifacts=[artifact])
        server.lose_leases()
    listed = server.admin.get(f"/v1/jobs/{job['id']}/artifacts").json()["data"]
    assert [found["attempt"] for found in listed] == [2]


def test_a_simulation_is_retried_with_its_stepper(server: OrreryServer) -> None:
    source = trained(server)
    body = {"kind": "simulate", "config": {}, "stepper": {"job": source["id"]}}
    job = server.admin.post("/v1/jobs", json=body).json()
    server.admin.post(f"/v1/jobs/{job['id']}/cancel")
    retry = {"config": {"dt_scale": 0.5}}
    again = server.admin.post(f"/v1/jobs/{job['id']}/retry", json=retry).json()
    assert again["kind"] == "simulate"
    assert again["from_checkpoint"] == job["from_checkpoint"]
    assert again["config"]["dt_scale"] == 0.5
    wrong = {"from_checkpoint": job["from_checkpoint"]}
    answer = server.admin.post(f"/v1/jobs/{job['id']}/retry", json=wrong)
    assert_problem(answer, 422, "invalid_request")


def test_a_training_that_a_simulation_waits_for_is_not_deleted(server: OrreryServer) -> None:
    source = trained(server)
    body = {"kind": "simulate", "config": {}, "stepper": {"job": source["id"]}}
    job = server.admin.post("/v1/jobs", json=body).json()
    assert_problem(server.admin.delete(f"/v1/jobs/{source['id']}"), 409, "conflict")
    server.admin.post(f"/v1/jobs/{job['id']}/cancel")
    assert server.admin.delete(f"/v1/jobs/{source['id']}").status_code == 200


def test_a_chain_that_fits_no_more_does_not_stop_the_training_from_ending(
    server: OrreryServer,
) -> None:
    job, assignment = server.start(simulate={})
    spoiled = '{"no_such_field": 1}'
    server.write(
        lambda connection: connection.exec_driver_sql(
            "UPDATE jobs SET simulate = ? WHERE id = ?", (spoiled, job["id"])
        )
    )
    server.report(assignment["lease_id"], first_epoch=0, checkpoints=[checkpoint(assignment, 0)])
    answer = server.finish(assignment["lease_id"])
    assert answer.json()["status"] == "succeeded"
    assert "simulates_not" in server.event_types(job["id"])


def test_a_simulation_is_not_retried_without_the_stepper_that_it_had(server: OrreryServer) -> None:
    source = trained(server)
    body = {"kind": "simulate", "config": {}, "stepper": {"job": source["id"]}}
    job = server.admin.post("/v1/jobs", json=body).json()
    server.admin.post(f"/v1/jobs/{job['id']}/cancel")
    server.admin.delete(f"/v1/jobs/{source['id']}")
    answer = server.admin.post(f"/v1/jobs/{job['id']}/retry")
    assert_problem(answer, 422, "invalid_request")


def test_a_repeat_is_answered_also_when_the_stepper_is_gone(server: OrreryServer) -> None:
    source = trained(server)
    body = {"kind": "evaluate", "config": {}, "stepper": {"job": source["id"]}}
    headers = {"Idempotency-Key": "one"}
    job = server.admin.post("/v1/jobs", json=body, headers=headers).json()
    server.admin.post(f"/v1/jobs/{job['id']}/cancel")
    server.admin.delete(f"/v1/jobs/{source['id']}")
    again = server.admin.post("/v1/jobs", json=body, headers=headers)
    assert (again.status_code, again.json()["id"]) == (201, job["id"])


def test_advice_needs_a_duration_and_no_stepper_and_goes_to_workers_that_know_it(
    server: OrreryServer,
) -> None:
    body = {"kind": "advise", "config": {"initial_conditions": "kepler"}}
    refused = server.admin.post("/v1/jobs", json=body)
    assert_problem(refused, 422, "invalid_request")
    assert refused.json()["errors"][0]["pointer"] == "/config/duration"
    config = {"initial_conditions": "kepler", "duration": 6.0, "energy_threshold": 1e-7}
    job = server.admin.post("/v1/jobs", json=body | {"config": config}).json()
    assert job["kind"] == "advise"
    assert claim(server) is None
    worker = server.register()
    asked = {"claim_id": "new", "kinds": ["train", "advise"]}
    assignment = server.worker.post(f"/v1/workers/{worker}/claim", json=asked).json()
    assert assignment["kind"] == "advise"
    assert assignment["config"]["duration"] == 6.0


def test_an_export_has_the_checkpoint_that_was_chosen(server: OrreryServer) -> None:
    source = trained(server)
    body = {"kind": "export", "config": {}}
    assert server.admin.post("/v1/jobs", json=body).status_code == 422
    stepper = {"job": source["id"], "epoch": 0}
    job = server.admin.post("/v1/jobs", json=body | {"stepper": stepper}).json()
    assert job["kind"] == "export"
    assert job["config"]["hidden_dims"] == source["config"]["hidden_dims"]
