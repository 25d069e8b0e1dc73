"""Owners take turns, and nobody is starved."""

from collections import Counter
from pathlib import Path
from random import Random

import pytest

from server.access import tokens
from server.database.engines import write_engine
from server.database.migrate import migrate
from server.database.tables import jobs
from server.queue import claims, workers
from server.queue.submission import submit
from server.wire.jobs import JobSubmission
from server.wire.workers import WorkerRegistration
from tests.server.conftest import TINY, OrreryServer


def _owners_in_turn(server: OrreryServer, number: int) -> list[str]:
    """Whose jobs are claimed, one after the other."""
    worker_id = server.register()
    claimed = (server.claim(worker_id) for _ in range(number))
    return [server.job(found["job"])["name"] for found in claimed if found is not None]


def test_owners_take_turns_inside_a_priority(server: OrreryServer) -> None:
    ann, bob, eve = (server.new_client("user") for _ in range(3))
    for _ in range(5):
        server.submit(ann, name="ann")
    assert _owners_in_turn(server, 2) == ["ann", "ann"]
    for _ in range(3):
        server.submit(bob, name="bob")
    server.submit(eve, name="eve")
    listed = server.admin.get("/v1/queue").json()["data"]
    order = ["ann", "bob", "eve", "ann", "bob", "ann", "bob"]
    assert [job["name"] for job in listed] == order
    place = {job["id"]: server.job(job["id"])["queue_position"] for job in listed}
    assert list(place.values()) == list(range(7))
    page = server.admin.get("/v1/queue", params={"after": listed[2]["id"]}).json()["data"]
    assert [job["id"] for job in page] == [job["id"] for job in listed[3:]]
    assert _owners_in_turn(server, 7) == order


def test_whoever_comes_with_one_job_waits_for_one_other_job_at_most(server: OrreryServer) -> None:
    crowd, late = server.new_client("user"), server.new_client("user")
    for _ in range(20):
        server.submit(crowd, name="crowd")
    for _ in range(3):
        server.submit(late, name="late")
        assert "late" in _owners_in_turn(server, 2)


def test_priority_comes_before_turns_and_its_change_is_a_new_turn(server: OrreryServer) -> None:
    ann, bob = server.new_client("user"), server.new_client("user")
    for name in ("a0", "a1", "a2"):
        server.submit(ann, name=name)
    moved = server.submit(ann, name="a3")["id"]
    server.submit(bob, name="b0", priority=5)
    assert ann.patch(f"/v1/jobs/{moved}", json={"priority": 5}).status_code == 200
    assert _owners_in_turn(server, 5) == ["a3", "b0", "a0", "a1", "a2"]


def test_a_job_that_nobody_can_take_gives_nobody_anothers_turn(server: OrreryServer) -> None:
    ann, bob, eve = (server.new_client("user") for _ in range(3))
    large = {"config": {"device": "cuda"}}
    with_gpu = server.register(gpus=[{"name": "H100", "memory_bytes": 2**36}])
    server.submit(ann, name="large", **large)
    assert server.claim(with_gpu) is not None
    for number in range(6):
        server.submit(ann, name=f"a{number}")
    assert _owners_in_turn(server, 4) == ["a0", "a1", "a2", "a3"]
    server.lose_leases()  # the large one is lost with its worker, the others with theirs
    assert _owners_in_turn(server, 4) == ["a0", "a1", "a2", "a3"]
    server.submit(bob, name="bob")
    served = []
    for _ in range(6):  # one at a time: a new one as soon as the last is taken
        server.submit(eve, name="eve")
        served += _owners_in_turn(server, 1)
    assert served == ["a4", "bob", "eve", "a5", "eve", "eve"]


@pytest.mark.parametrize("seed", range(5))
def test_nobody_who_comes_later_passes_by_more_often_than_one_has_jobs_before(
    tmp_path: Path, seed: int
) -> None:
    random = Random(seed)
    path = tmp_path / "orrery.db"
    migrate(path)
    engine = write_engine(path)
    waiting: dict[str, tuple[str, str, int]] = {}  # id → owner, device, own jobs before it
    passed: dict[str, Counter[str]] = {}  # id → how many of whom were taken before, and came later
    came: list[str] = []
    with engine.begin() as connection:
        owners = [tokens.create_token(connection, name, "user", now=0.0)[0].id for name in "xyz"]
        registration = WorkerRegistration(name="w", host="here")
        worker = workers.register(connection, registration, token_id=owners[0], now=0.0)
        for step in range(400):
            if random.random() < 0.5:
                owner = random.choice(owners)
                for _ in range(random.choice((1, 1, 1, 8))):
                    device = random.choice(("auto", "auto", "cuda"))
                    config = {**TINY, "device": device}
                    submission = JobSubmission.model_validate({"config": config})
                    job = submit(connection, submission, owner_id=owner, now=0.0)
                    before = sum(other[0] == owner for other in waiting.values())
                    waiting[job], passed[job] = (owner, device, before), Counter()
                    came.append(job)
            fits = jobs.c.device != "cuda" if random.random() < 0.9 else None
            claimed = claims.claim(connection, worker, f"c{step}", now=0.0, can_hold=fits)
            if claimed is None:
                continue
            taken = claimed[0].id
            owner, _, _ = waiting.pop(taken)
            for job in came[: came.index(taken)]:
                whose, device, before = waiting.get(job, (owner, "", 0))
                if whose != owner and (fits is None or device != "cuda"):
                    passed[job][owner] += 1
                    assert passed[job][owner] <= before + 1
    engine.dispose()
    assert any(passed.values())


def test_a_job_that_lost_its_worker_is_next_again(server: OrreryServer) -> None:
    ann, bob = server.new_client("user"), server.new_client("user")
    for name in ("a0", "a1"):
        server.submit(ann, name=name)
    assert _owners_in_turn(server, 2) == ["a0", "a1"]  # the queue is empty, and begins anew
    for name in ("a2", "a3"):
        server.submit(ann, name=name)
    server.submit(bob, name="b0")
    server.lose_leases()
    assert _owners_in_turn(server, 5) == ["a0", "a1", "a2", "b0", "a3"]


def test_a_resumed_job_is_the_last_of_its_owner(server: OrreryServer) -> None:
    ann, bob = server.new_client("user"), server.new_client("user")
    paused = [server.submit(ann, name=f"a{n}")["id"] for n in range(3)]
    for job in paused:
        ann.post(f"/v1/jobs/{job}/pause")
    server.submit(ann, name="a3")
    server.submit(bob, name="b0")
    for job in paused:
        ann.post(f"/v1/jobs/{job}/resume")
    assert _owners_in_turn(server, 5) == ["a3", "b0", "a0", "a1", "a2"]
