"""Jobs go to workers that can hold them; what none can hold says what it waits for."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from nbody.config import Config
from nbody.config.size import estimate
from server.database.tables import workers
from server.queue.workers import REMEMBERED_S, note_seen
from tests.server.conftest import Orrery, OrreryServer, assert_problem, checkpoint

LARGE = {"hidden_dims": [8192, 8192]}
NEEDS = estimate(Config.model_validate(LARGE)).memory_bytes
GIB = 2**30


def gpu(gib: float) -> dict[str, Any]:
    return {"name": "H200", "memory_bytes": int(gib * GIB)}


def waits_for(server: OrreryServer, job: dict[str, Any]) -> str | None:
    return server.job(job["id"])["waits_for"]


@pytest.mark.parametrize(
    ("config", "worker", "is_taken"),
    [
        (LARGE, {"memory_bytes": NEEDS}, True),
        (LARGE, {"memory_bytes": NEEDS // 2}, False),
        (LARGE, {}, True),  # it does not say what it has
        (LARGE, {"memory_bytes": 2**40, "gpus": [gpu(1)]}, False),  # auto means its GPU
        (LARGE | {"device": "cpu"}, {"memory_bytes": 2**40, "gpus": [gpu(1)]}, True),
        ({"device": "cuda"}, {"memory_bytes": 2**40}, False),
        ({"device": "cuda:0"}, {"gpus": [gpu(80)]}, True),
        ({"device": "cuda"}, {"gpus": [gpu(0)]}, True),  # shared memory: the driver tells no size
        (LARGE | {"device": "cuda"}, {"gpus": [gpu(80), gpu(1)]}, False),  # it may get either
        (LARGE | {"device": "cuda"}, {"gpus": [gpu(NEEDS / GIB)]}, True),
        (LARGE | {"device": "cuda"}, {"gpus": [gpu(NEEDS / GIB)], "slots": 2}, False),  # shared
    ],
)
def test_a_worker_gets_only_what_it_can_hold(
    server: OrreryServer, config: dict[str, Any], worker: dict[str, Any], is_taken: bool
) -> None:
    job = server.submit(config=config)
    worker_id = server.register(**worker)
    if not is_taken:
        assert waits_for(server, job)
    claimed = server.claim(worker_id)
    assert (claimed is not None) == is_taken
    if is_taken:
        assert waits_for(server, job) is None


def test_a_job_that_a_worker_cannot_hold_does_not_hold_up_the_next(server: OrreryServer) -> None:
    server.submit(config={"device": "cuda"}, priority=5)
    small = server.submit()
    claimed = server.claim(server.register())
    assert claimed is not None
    assert claimed["job"] == small["id"]


def test_a_waiting_job_says_what_no_worker_has(server: OrreryServer, orrery: Orrery) -> None:
    on_gpu = server.submit(config={"device": "cuda"})
    assert "none is there" in (waits_for(server, on_gpu) or "")
    server.register(memory_bytes=GIB)
    plain, large = server.submit(), server.submit(config=LARGE)
    assert waits_for(server, plain) is None
    assert "a worker with a GPU: none of 1" in (waits_for(server, on_gpu) or "")
    assert f"it needs about {NEEDS / GIB:,.1f} GiB, the largest has 1.0" in (
        waits_for(server, large) or ""
    )
    would = server.admin.post("/v1/jobs/validate", json={"config": LARGE}).json()
    assert would["waits_for"] == waits_for(server, large)
    entries = server.admin.get("/v1/queue").json()["data"]
    assert [bool(entry["waits_for"]) for entry in entries] == [True, False, True]
    assert "waits for" in orrery("queue").out
    server.register(gpus=[gpu(80)], memory_bytes=2**40)
    assert waits_for(server, on_gpu) is None
    assert waits_for(server, large) is None


def test_a_drained_or_silent_worker_is_nobody_to_wait_for(server: OrreryServer) -> None:
    job = server.submit()
    worker_id = server.register()
    assert waits_for(server, job) is None
    server.admin.post(f"/v1/workers/{worker_id}/drain")
    assert "none is there" in (waits_for(server, job) or "")
    server.admin.post(f"/v1/workers/{worker_id}/drain", json={"draining": False})
    silent = update(workers).values(last_seen_at=time.time() - 3600)
    server.write(lambda connection: connection.execute(silent))
    assert "none is there" in (waits_for(server, job) or "")


@pytest.mark.parametrize(
    ("requires", "worker", "why"),
    [
        ({"gpus": 1}, {}, "a worker with a GPU: none of 1 has one"),
        ({"gpus": 1}, {"gpus": [gpu(8)]}, None),
        ({"gpu_memory": 40 * GIB}, {"gpus": [gpu(80)]}, None),
        (
            {"gpu_memory": 40 * GIB},
            {"gpus": [gpu(80)], "slots": 4},
            "a worker with more memory on its GPU: 40.0 GiB is asked for, the most is 20.0 GiB",
        ),
        ({"gpus": 1}, {"gpus": [gpu(0)]}, None),  # the driver tells no size
        ({"gpu_memory": 40 * GIB}, {"gpus": [gpu(0)]}, "40.0 GiB is asked for, the most is 0.0"),
        ({"labels": {"site": "leiden"}}, {"labels": {"site": "leiden", "net": "fast"}}, None),
        (
            {"labels": {"site": "leiden", "net": "fast"}},
            {"labels": {"site": "leiden"}},
            "a worker with the labels net=fast, site=leiden: none of 1 has all of them",
        ),
        ({"labels": {"site": "it's \""}}, {"labels": {"site": "it's \""}}, None),
        ({}, {"labels": {"site": "leiden"}}, None),
    ],
)
def test_a_worker_gets_only_jobs_whose_requirements_it_meets(
    server: OrreryServer, requires: dict[str, Any], worker: dict[str, Any], why: str | None
) -> None:
    job = server.submit(requires=requires)
    worker_id = server.register(memory_bytes=2**40, **worker)
    assert (server.claim(worker_id) is None) == (why is not None)
    said = waits_for(server, job) or ""
    assert why is None or why in said
    assert "set device" not in said  # it is by `requires` that it asks


def test_requirements_are_kept_by_whatever_comes_of_a_job(
    server: OrreryServer, orrery: Orrery, tmp_path: Path
) -> None:
    asked = {"gpus": 1, "gpu_memory": 8 * GIB, "labels": {"site": "leiden"}}
    (tmp_path / "c.json").write_text("{}")
    options = ("--gpu-memory", "8", "--require", "site=leiden", "--json")
    job_id = json.loads(orrery("submit", str(tmp_path / "c.json"), *options).out)["id"]
    assert server.job(job_id)["requires"] == asked
    assert "a GPU of 8 GiB or more, site=leiden" in orrery("show", job_id).out
    server.admin.post(f"/v1/jobs/{job_id}/cancel")
    again = server.admin.post(f"/v1/jobs/{job_id}/retry", json={}).json()
    assert server.job(again["id"])["requires"] == asked


@pytest.mark.parametrize(
    ("requires", "config", "pointer"),
    [
        ({"gpus": 2}, {}, "/requires/gpus"),
        ({"gpu_memory": -1}, {}, "/requires/gpu_memory"),
        ({"labels": {"a b": "x"}}, {}, "/requires/labels"),
        ({"cpus": 4}, {}, "/requires/cpus"),
        ({"gpus": 1}, {"device": "cpu"}, "/requires"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(
    server: OrreryServer, requires: dict[str, Any], config: dict[str, Any], pointer: str
) -> None:
    answer = server.admin.post("/v1/jobs", json={"config": config, "requires": requires})
    assert pointer in str(assert_problem(answer, 422)["errors"])


def test_a_gpu_that_is_asked_for_and_a_cpu_that_is_simulated_on_are_no_job(
    server: OrreryServer,
) -> None:
    body = {"config": {}, "requires": {"gpus": 1}, "simulate": {"device": "cpu"}}
    assert_problem(server.admin.post("/v1/jobs", json=body), 422)
    job, assignment = server.start()
    server.report(assignment["lease_id"], first_epoch=0, checkpoints=[checkpoint(assignment, 0)])
    stepper = {"job": job["id"]}
    body = {"kind": "simulate", "config": {"device": "cpu"}, "stepper": stepper}
    assert server.admin.post("/v1/jobs", json=body).status_code == 201
    assert_problem(server.admin.post("/v1/jobs", json={**body, "requires": {"gpus": 1}}), 422)


def test_a_job_behind_busy_workers_says_so(server: OrreryServer) -> None:
    worker_id = server.register(slots=2)
    jobs = [server.submit() for _ in range(3)]
    server.claim(worker_id)
    assert waits_for(server, jobs[2]) is None  # it is the second's turn
    server.claim(worker_id)
    assert "a free slot: the workers that can take it are busy (2 in all)" in (
        waits_for(server, jobs[2]) or ""
    )
    server.register()
    assert waits_for(server, jobs[2]) is None


def test_a_worker_in_trouble_is_nobody_to_wait_for(server: OrreryServer, orrery: Orrery) -> None:
    job = server.submit(config={"device": "cuda"})
    worker_id = server.register(name="node-7", gpus=[gpu(80)])
    vitals = f"/v1/workers/{worker_id}/vitals"
    body = {"gpus": [{"memory_used_bytes": 0}], "trouble": "gpu_lost: it is gone; restart it"}
    assert server.worker.post(vitals, json=body).status_code == 204
    assert waits_for(server, job) == (
        "a worker that is fit: node-7 on here has gpu_lost: it is gone; restart it"
    )
    assert "node-7 (gpu_lost: `orrery doctor` says more)" in orrery("workers").out
    assert "node-7 on here takes no jobs: gpu_lost: it is gone; restart it" in orrery("doctor").out
    assert server.worker.post(vitals, json={**body, "trouble": None}).status_code == 204
    assert waits_for(server, job) is None


def test_an_owner_with_enough_running_jobs_is_told(server: OrreryServer) -> None:
    server.service.settings.max_running_jobs = 1
    try:
        server.start()
        waiting = server.submit()
        assert "ORRERY_MAX_RUNNING_JOBS" in (waits_for(server, waiting) or "")
    finally:
        server.service.settings.max_running_jobs = 0


def test_workers_that_no_attempt_names_are_forgotten_after_a_day(server: OrreryServer) -> None:
    idle, busy, here = server.register(), server.register(), server.register()
    server.submit()
    assert server.claim(busy)
    later = time.time() + REMEMBERED_S + 60

    def note(connection: Connection) -> list[str]:
        note_seen(connection, {here: later}, now=later)
        return list(connection.execute(select(workers.c.id)).scalars())

    left = server.write(note)
    assert idle not in left
    assert {busy, here} <= set(left)
