"""What is one user's does not exist for another: every route is walked as somebody else."""

import threading
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from server.access.roles import allowed_roles
from server.database.tables import jobs
from server.queue.ownership import glance_at_job
from server.settings import ServerSettings
from server.web.app import create_app
from server.web.openapi import describe
from tests.server.conftest import OrreryServer, assert_problem, checkpoint, layer

Json = dict[str, Any]
PATHS = describe(layer(create_app(ServerSettings())))["paths"]
ROUTES = [
    (method.upper(), path)
    for path, methods in PATHS.items()
    for method in methods
    if "user" in allowed_roles(method.upper(), path)
]
OF_ONE_THING = [route for route in ROUTES if "{" in route[1]]
ENDLESS = "/v1/stream"  # has a test of its own
OF_ALL = [
    (method, path)
    for method, path in ROUTES
    if "{" not in path and method == "GET" and path != ENDLESS
]
SPACE: Json = {"lr": {"type": "choice", "values": [1e-3]}}


@dataclass
class Owned:
    """One of each thing that a user can own, and somebody else."""

    ids: dict[str, str]
    owner: httpx.Client
    stranger: httpx.Client


@pytest.fixture
def owned(server: OrreryServer) -> Owned:
    """A job with a checkpoint and a file, a sweep, and initial conditions."""
    owner, stranger = server.new_client("user"), server.new_client("user")
    job, assignment = server.start(client=owner)
    folder = assignment["output_folder"]
    file = {"path": f"{folder}/result.json", "bytes": 2, "sha256": "0" * 64}
    lease_id = assignment["lease_id"]
    told = server.report(lease_id, checkpoints=[checkpoint(assignment, 0)], artifacts=[file])
    assert told.status_code == 200, told.text
    assert server.finish(lease_id).status_code == 200
    sweep = owner.post("/v1/sweeps", json={"space": SPACE, "n_trials": 1})
    assert sweep.status_code == 201, sweep.text
    head = {"Content-Type": "application/octet-stream"}
    rows, named = b"1 0 0 0 0\n1 1 0 0 0\n", {"name": "rows.txt"}
    sent = owner.post("/v1/files", content=rows, params=named, headers=head)
    assert sent.status_code == 201, sent.text
    of_job = f"/v1/jobs/{job['id']}"
    return Owned(
        {
            "job_id": job["id"],
            "sweep_id": sweep.json()["id"],
            "checkpoint_id": owner.get(f"{of_job}/checkpoints").json()["data"][0]["id"],
            "artifact_id": owner.get(f"{of_job}/artifacts").json()["data"][0]["id"],
            "file_id": sent.json()["id"],
        },
        owner,
        stranger,
    )


NEEDED: Json = {
    "/v1/compare": {"ids": "{job_id}", "keys": "epoch"},
    "/v1/jobs/groups": {"by": "id"},
}


def call(client: httpx.Client, method: str, path: str, ids: dict[str, str]) -> httpx.Response:
    """A route with the ids of things; bodies are empty, but where one is needed."""
    query: Json = NEEDED.get(path, {})
    query = {name: value.format(**ids) for name, value in query.items()}
    body = {"json": {}} if method in {"POST", "PATCH"} else {}
    return client.request(method, path.format(**ids), params=query, **body)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), OF_ONE_THING)
def test_what_is_anothers_is_not_there(owned: Owned, method: str, path: str) -> None:
    before = owned.owner.get(f"/v1/jobs/{owned.ids['job_id']}").json()
    assert_problem(call(owned.stranger, method, path, owned.ids), 404, "not_found")
    assert owned.owner.get(f"/v1/jobs/{owned.ids['job_id']}").json() == before
    assert call(owned.owner, "GET", "/v1/sweeps/{sweep_id}", owned.ids).status_code == 200


def test_no_list_shows_what_is_anothers(owned: Owned) -> None:
    assert {path for _, path in OF_ALL} >= {"/v1/jobs", "/v1/sweeps", "/v1/queue", "/v1/workers"}
    for method, path in OF_ALL:
        answer = call(owned.stranger, method, path, owned.ids)
        if path == "/v1/compare":
            assert_problem(answer, 404, "not_found")
            continue
        assert answer.status_code == 200, path
        assert not any(identifier in answer.text for identifier in owned.ids.values()), path


def test_anothers_stepper_cannot_be_used(owned: Owned) -> None:
    body = {"kind": "simulate", "config": {}, "stepper": {"job": owned.ids["job_id"]}}
    problem = assert_problem(owned.stranger.post("/v1/jobs", json=body), 422)
    assert problem["errors"][0]["pointer"] == "/stepper/job"
    assert owned.owner.post("/v1/jobs", json=body).status_code == 201


def test_a_glance_shows_a_job_to_those_who_may_see_it(server: OrreryServer) -> None:
    owner = server.new_client("user")
    job = owner.post("/v1/jobs", json={"config": {}}).json()
    owner.post(f"/v1/jobs/{job['id']}/cancel")
    of_job = select(jobs.c.owner_id, jobs.c.version).where(jobs.c.id == job["id"])
    owner_id, version = server.read(lambda connection: connection.execute(of_job).one())

    def glance(job_id: str, who: str | None) -> Any:
        database = server.service.database
        seen: list[Any] = []
        done = threading.Event()
        server.call_soon(lambda: (seen.append(glance_at_job(database, job_id, who)), done.set()))
        assert done.wait(10)
        return seen[0]

    assert version > 1
    assert glance(job["id"], None) == glance(job["id"], owner_id) == (version, "cancelled")
    assert glance(job["id"], "token_of_somebody_else") is None
    assert glance("job_that_is_not_there", None) is None


def test_what_is_not_there_is_named(server: OrreryServer) -> None:
    job_id = f"job_{'0' * 26}"
    for path in (f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/events"):
        problem = assert_problem(server.admin.get(path), 404)
        assert job_id in problem["detail"]
    answer = server.admin.post(f"/v1/jobs/{job_id}/pause")
    assert job_id in assert_problem(answer, 404)["detail"]
