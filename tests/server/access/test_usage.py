"""What a token's jobs store is counted, and bounded; deleted space comes back."""

import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, func, select, text

from server.database.migrate import migrate
from server.database.space import can_shrink, give_back
from server.database.tables import artifacts, checkpoints, jobs, usage
from tests.server.conftest import TINY, OrreryServer, assert_problem, checkpoint, epoch_metrics

Json = dict[str, Any]


def _counted(connection: Connection) -> dict[str, tuple[int, int]]:
    rows = connection.execute(select(usage))
    return {row.owner_id: (row.row_bytes, row.file_bytes) for row in rows}


def _summed(connection: Connection) -> dict[str, tuple[int, int]]:
    """The same, from the rows themselves."""
    found: dict[str, tuple[int, int]] = {}
    for job in connection.execute(select(jobs)):
        files = sum(
            connection.execute(
                select(func.coalesce(func.sum(table.c.bytes), 0)).where(table.c.job_id == job.id)
            ).scalar_one()
            for table in (checkpoints, artifacts)
        )
        rows = job.base_bytes + job.log_bytes + 250 * job.epochs_done
        before = found.get(job.owner_id, (0, 0))
        found[job.owner_id] = before[0] + rows, before[1] + files
    return found


def test_the_count_is_the_sum_of_the_rows_whatever_happens(server: OrreryServer) -> None:
    user = server.new_client("user")

    def holds() -> None:
        counted = {k: v for k, v in server.read(_counted).items() if v != (0, 0)}
        assert counted == server.read(_summed)

    job, assignment = server.start(client=user)
    lease = assignment["lease_id"]
    server.report(lease, epochs=[epoch_metrics(n) for n in range(3)])
    server.report(lease, checkpoints=[checkpoint(assignment, n) for n in range(3)])
    for number in range(4):  # of which two are kept
        path = f"{assignment['output_folder']}/resume/r{number}.pt"
        rolling = checkpoint(assignment, number, rolling=True, path=path)
        server.report(lease, checkpoints=[rolling])
    holds()
    assert sum(files for _, files in server.read(_counted).values()) > 0
    server.submit(user)
    server.finish(lease, result={"efficiency": 0.9})
    holds()
    user.delete(f"/v1/jobs/{job['id']}")
    holds()


def test_whoever_stores_too_much_submits_no_more_until_some_is_deleted(tmp_path: Path) -> None:
    with OrreryServer(tmp_path, max_row_bytes=50_000, max_file_bytes=1000) as server:
        user, other = server.new_client("user"), server.new_client("user")
        big = {"extra": {"note": "x" * 60_000}}

        def ask(client: httpx.Client, config: Json) -> httpx.Response:
            return client.post("/v1/jobs", json={"config": TINY | config})

        job = ask(user, big).json()
        problem = assert_problem(ask(user, {}), 429, "limit_reached")
        assert "ORRERY_MAX_ROW_BYTES" in problem["detail"]
        space = {"lr": {"type": "float", "low": 1e-4, "high": 1e-2}}
        assert_problem(user.post("/v1/sweeps", json={"space": space}), 429, "limit_reached")
        assert ask(other, {}).status_code == 201
        user.post(f"/v1/jobs/{job['id']}/cancel")
        user.delete(f"/v1/jobs/{job['id']}")
        for waiting in server.admin.get("/v1/queue").json()["data"]:
            server.admin.post(f"/v1/jobs/{waiting['id']}/cancel")
        job, assignment = server.start(client=user)
        server.report(assignment["lease_id"], checkpoints=[checkpoint(assignment, 0, bytes=2000)])
        assert "ORRERY_MAX_FILE_BYTES" in assert_problem(ask(user, {}), 429)["detail"]


@pytest.mark.slow
def test_deleted_space_comes_back(tmp_path: Path) -> None:
    path = tmp_path / ".orrery" / "orrery.db"
    migrate(path, "0005")  # of a release whose files never shrank
    can_shrink(path)
    with OrreryServer(tmp_path) as server:
        server.write(lambda c: c.execute(text("CREATE TABLE much (data BLOB)")))
        server.write(lambda c: c.execute(text("INSERT INTO much VALUES (zeroblob(20000000))")))
        server.write(lambda c: c.execute(text("DROP TABLE much")))
        while server.write(give_back):
            pass
    assert path.stat().st_size < 2_000_000
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
