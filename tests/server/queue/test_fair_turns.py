"""Owners take turns, and nobody is starved."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import Connection

from server.access import tokens
from server.database.engines import write_engine
from server.database.migrate import migrate
from server.queue import claims, ending, job_rows, workers
from server.queue.submission import submit
from server.queue.workers import Capacity
from server.views import queue_order
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
    assert _owners_in_turn(server, 2) == ["ann", "ann"]  # so that the others come before her
    for _ in range(3):
        server.submit(bob, name="bob")
    server.submit(eve, name="eve")
    listed = server.admin.get("/v1/queue").json()["data"]
    order = ["bob", "eve", "ann", "bob", "ann", "bob", "ann"]
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
    assert served == ["bob", "eve", "a4", "eve", "a5", "eve"]


GPU = {"config": {"device": "cuda"}}


def test_what_others_get_without_a_gpu_costs_nobody_a_turn_at_one(server: OrreryServer) -> None:
    crowd, small, late = (server.new_client("user") for _ in range(3))
    with_gpu = server.register(gpus=[{"name": "H100", "memory_bytes": 2**36}])
    for _ in range(20):
        server.submit(crowd, name="crowd", **GPU)
        server.submit(small, name="small")
    assert _owners_in_turn(server, 15) == ["small"] * 15
    server.submit(late, name="late", **GPU)
    claimed = [server.claim(with_gpu) for _ in range(3)]
    names = [server.job(found["job"])["name"] for found in claimed if found is not None]
    assert set(names) == {"crowd", "small", "late"}


def test_ones_own_jobs_without_a_gpu_do_not_starve_those_that_need_one(
    server: OrreryServer,
) -> None:
    both, rival = server.new_client("user"), server.new_client("user")
    with_gpu = server.register(gpus=[{"name": "H100", "memory_bytes": 2**36}])
    for name in ("b0", "b1"):
        server.submit(both, name=name, **GPU)
    names: list[str] = []
    for number in range(4):
        server.submit(rival, name=f"r{number}", **GPU)
        server.submit(both, name="small")
        assert _owners_in_turn(server, 1) == ["small"]
        claimed = server.claim(with_gpu)
        assert claimed is not None
        names.append(server.job(claimed["job"])["name"])
    assert names == ["b0", "r0", "b1", "r1"]


POOLS = {
    "host": Capacity(("train",), {"cpu": 2**40, "cuda": 0, "auto": 2**40}),
    "gpu": Capacity(("train",), {"cpu": 2**40, "cuda": 2**36, "auto": 2**36}),
}


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[tuple[Connection, str, list[str]]]:
    """A queue without a server: its database, a worker, and three owners."""
    path = tmp_path / "orrery.db"
    migrate(path)
    engine = write_engine(path)
    with engine.begin() as connection:
        owners = [tokens.create_token(connection, name, "user", now=0.0)[0].id for name in "xyz"]
        registration = WorkerRegistration(name="w", host="here")
        worker = workers.register(connection, registration, token_id=owners[0], now=0.0)
        yield connection, worker, owners
    engine.dispose()


def _submit(connection: Connection, owner_id: str, device: str = "auto", priority: int = 0) -> str:
    message = {"config": {**TINY, "device": device}, "priority": priority}
    submission = JobSubmission.model_validate(message)
    return submit(connection, submission, owner_id=owner_id, now=0.0)


@pytest.mark.parametrize("seed", range(5))
def test_nobody_passes_by_more_often_than_one_has_jobs_before(
    queue: tuple[Connection, str, list[str]], seed: int
) -> None:
    connection, worker, owners = queue
    random = Random(seed)
    waiting: dict[str, tuple[str, str, int]] = {}  # id → owner, device, own jobs before it
    passed: dict[str, Counter[tuple[str, str]]] = {}  # id → how many of whom went to which pool
    for step in range(400):
        if random.random() < 0.5:
            owner = random.choice(owners)
            for _ in range(random.choice((1, 1, 1, 8))):
                device = random.choice(("auto", "auto", "cuda"))
                before = sum(other[0] == owner for other in waiting.values())
                job = _submit(connection, owner, device)
                waiting[job], passed[job] = (owner, device, before), Counter()
        pool = random.choice(("host", "host", "host", "gpu"))
        claimed = claims.claim(connection, worker, f"c{step}", now=0.0, capacity=POOLS[pool])
        if claimed is None:
            assert not any(pool == "gpu" or of[1] != "cuda" for of in waiting.values())
            continue
        owner, _, _ = waiting.pop(claimed[0].id)
        for job, (whose, device, before) in waiting.items():
            if whose != owner and (pool == "gpu" or device != "cuda"):
                passed[job][owner, pool] += 1
                assert passed[job][owner, pool] <= before + 1
    assert any(passed.values())


@pytest.mark.parametrize("seed", range(5))
def test_jobs_are_taken_in_the_order_that_was_told(
    queue: tuple[Connection, str, list[str]], seed: int
) -> None:
    connection, worker, owners = queue
    random = Random(seed)
    for step in range(150):
        _submit(connection, random.choice(owners), priority=random.choice((0, 0, 1)))
        if random.random() < 0.4:
            claimed = claims.claim(connection, worker, f"c{step}", now=0.0)
            if claimed is not None and random.random() < 0.5:
                ending.lose(connection, claimed[1].lease_id, now=0.0)
    told = queue_order.part(connection, 1000, None, None)
    rows = [job_rows.get(connection, job_id) for job_id in told]
    assert [queue_order.position(connection, row) for row in rows] == list(range(len(told)))
    for begins in (0, 1, len(told) // 2, len(told) - 1):
        page = queue_order.part(connection, 10, rows[begins], None)
        assert page == told[begins + 1 : begins + 11]
    own = queue_order.part(connection, 1000, None, owners[0])
    assert own == [row.id for row in rows if row.owner_id == owners[0]]
    for place, job_id in enumerate(told):
        claimed = claims.claim(connection, worker, f"d{place}", now=0.0)
        assert claimed is not None
        assert claimed[0].id == job_id


def test_a_page_of_the_queue_goes_on_after_a_job_that_was_taken_meanwhile(
    server: OrreryServer,
) -> None:
    ann, bob = server.new_client("user"), server.new_client("user")
    for number in range(4):
        server.submit(ann, name=f"a{number}")
        server.submit(bob, name=f"b{number}")
    first = server.admin.get("/v1/queue", params={"limit": 3}).json()
    assert [job["name"] for job in first["data"]] == ["a0", "b0", "a1"]
    assert _owners_in_turn(server, 3) == ["a0", "b0", "a1"]
    rest = server.admin.get("/v1/queue", params={"after": first["last_id"]}).json()
    assert [job["name"] for job in rest["data"]] == ["b1", "a2", "b2", "a3", "b3"]


def test_a_job_that_lost_its_worker_is_next_again(server: OrreryServer) -> None:
    ann, bob = server.new_client("user"), server.new_client("user")
    for name in ("a0", "a1"):
        server.submit(ann, name=name)
    assert _owners_in_turn(server, 2) == ["a0", "a1"]
    for name in ("a2", "a3"):
        server.submit(ann, name=name)
    server.submit(bob, name="b0")
    server.lose_leases()
    assert _owners_in_turn(server, 5) == ["a0", "a1", "b0", "a2", "a3"]


def test_a_job_that_is_next_again_costs_its_owner_no_other_turn(server: OrreryServer) -> None:
    ann, bob = server.new_client("user"), server.new_client("user")
    server.submit(ann, name="a0")
    assert _owners_in_turn(server, 1) == ["a0"]
    server.lose_leases()
    server.submit(bob, name="b0", priority=1)
    server.submit(ann, name="a1", priority=1)
    assert _owners_in_turn(server, 2) == ["b0", "a1"]
    for name, client in (("b1", bob), ("a2", ann)):
        server.submit(client, name=name)
    server.submit(bob, name="b2")
    assert _owners_in_turn(server, 2) == ["a0", "b1"]
    assert _owners_in_turn(server, 2) == ["a2", "b2"]


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
