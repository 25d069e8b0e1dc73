"""What a job begins with, taken from a real server, and kept for the next one."""

import hashlib
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.wire.workers import Assignment
from tests.server.conftest import OrreryServer, checkpoint
from worker.client import Unreachable, WorkerClient
from worker.files.inputs import take_inputs
from worker.files.scratch import Cache, clear
from worker.wandb_journal import Journal

Json = dict[str, Any]
AT_ONCE = threading.Event()  # nobody waits
AT_ONCE.set()


class Line(httpx.BaseTransport):
    """Counts what is taken; ends connections, after some of the bytes."""

    def __init__(self) -> None:
        self._wire = httpx.HTTPTransport()
        self.taken: list[str | None] = []
        self.cuts: list[int] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._wire.handle_request(request)
        if request.method != "GET":
            return answer
        self.taken.append(request.headers.get("Range"))
        if not self.cuts:
            return answer
        begin = answer.read()[: self.cuts.pop(0)]
        return httpx.Response(
            answer.status_code, headers={"x": "y"}, stream=_Ends(begin), request=request
        )

    def close(self) -> None:
        self._wire.close()


class _Ends(httpx.SyncByteStream):
    def __init__(self, begin: bytes) -> None:
        self._begin = begin

    def __iter__(self) -> Iterator[bytes]:
        yield self._begin
        raise httpx.ReadError("cut off")


@pytest.fixture
def line() -> Line:
    return Line()


def second_attempt(server: OrreryServer, epochs: tuple[int, ...], **fields: Any) -> Assignment:
    """Of a job with checkpoints of some epochs."""
    server.empty()
    server.move_leases_to_test_clock()
    first = server.start(**fields)[1]
    server.report(first["lease_id"], first_epoch=0)
    for epoch in epochs:
        told = checkpoint(first, epoch)
        content = secrets.token_bytes(3 * 2**20)
        path = server.settings.data / told["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        told |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        assert server.report(first["lease_id"], checkpoints=[told]).status_code == 200
    server.lose_leases()
    again = server.claim()
    assert again is not None
    return Assignment.model_validate(again)


def nothing() -> None:
    """No sign of life is needed."""


def is_there(server: OrreryServer, data: Path, path: str) -> bool:
    mine = data / path
    return mine.exists() and mine.read_bytes() == (server.settings.data / path).read_bytes()


def test_the_newest_checkpoint_is_taken_once(
    server: OrreryServer, client: WorkerClient, line: Line, tmp_path: Path
) -> None:
    assignment = second_attempt(server, (0, 1))
    cache = Cache(tmp_path / "cache", 2**30)
    for name in ("a", "b"):  # the next job that begins with it
        take_inputs(client, assignment, tmp_path / name, cache, nothing, AT_ONCE)
        assert is_there(server, tmp_path / name, assignment.resume_from[0].path)
        assert not (tmp_path / name / assignment.resume_from[1].path).exists()
    assert line.taken == [None]


def test_what_came_before_a_connection_ended_is_kept(
    server: OrreryServer, client: WorkerClient, line: Line, tmp_path: Path
) -> None:
    assignment = second_attempt(server, (0,))
    line.cuts = [2**20, 2**20]
    take_inputs(client, assignment, tmp_path, Cache(tmp_path / "cache", 2**30), nothing, AT_ONCE)
    assert is_there(server, tmp_path, assignment.resume_from[0].path)
    assert line.taken == [None, f"bytes={2**20}-", f"bytes={2**21}-"]


def test_a_checkpoint_that_is_gone_is_passed_over(
    server: OrreryServer, client: WorkerClient, tmp_path: Path
) -> None:
    assignment = second_attempt(server, (0, 1))
    newest, older = assignment.resume_from
    (server.settings.data / newest.path).unlink()
    take_inputs(client, assignment, tmp_path, Cache(tmp_path / "cache", 2**30), nothing, AT_ONCE)
    assert not (tmp_path / newest.path).exists()
    assert is_there(server, tmp_path, older.path)


def test_a_checkpoint_that_is_another_one_by_now_is_passed_over(
    server: OrreryServer, client: WorkerClient, tmp_path: Path
) -> None:
    assignment = second_attempt(server, (0, 1))
    newest, older = assignment.resume_from
    path = server.settings.data / newest.path
    path.write_bytes(bytes(path.stat().st_size))
    take_inputs(client, assignment, tmp_path, Cache(tmp_path / "cache", 2**30), nothing, AT_ONCE)
    assert not (tmp_path / newest.path).exists()
    assert is_there(server, tmp_path, older.path)


def test_what_is_kept_and_damaged_is_taken_again(
    server: OrreryServer, client: WorkerClient, line: Line, tmp_path: Path
) -> None:
    assignment = second_attempt(server, (0,))
    cache = Cache(tmp_path / "cache", 2**30)
    take_inputs(client, assignment, tmp_path / "a", cache, nothing, AT_ONCE)
    (tmp_path / "cache" / assignment.resume_from[0].sha256).write_bytes(b"damaged")
    take_inputs(client, assignment, tmp_path / "b", cache, nothing, AT_ONCE)
    assert is_there(server, tmp_path / "b", assignment.resume_from[0].path)
    assert len(line.taken) == 2


def test_initial_conditions_come_along_and_are_what_they_are_now(
    server: OrreryServer, client: WorkerClient, line: Line, tmp_path: Path
) -> None:
    table = server.settings.data / "mine.csv"
    cache = Cache(tmp_path / "cache", 2**30)
    config = {"initial_conditions": "file", "ic_path": "mine.csv", "num_orbits": 1}
    table.write_text("1,0,0,0,0\n1,1,0,0,1\n")
    assignment = second_attempt(server, (), config=config)
    for text in (table.read_text(), "2,0,0,0,0\n1,1,0,0,1\n", "1,0,0,0,0\n1,1,0,0,1\n"):
        table.write_text(text)
        take_inputs(client, assignment, tmp_path / "a", cache, nothing, AT_ONCE)
        assert (tmp_path / "a" / "mine.csv").read_text() == text
    assert len(line.taken) == 2


def test_a_server_that_stays_away_is_told(tmp_path: Path, server: OrreryServer) -> None:
    assignment = second_attempt(server, (0,))
    signs: list[None] = []
    cache = Cache(tmp_path / "cache", 2**30)
    with WorkerClient("http://127.0.0.1:9", "token") as nowhere, pytest.raises(Unreachable):
        take_inputs(nowhere, assignment, tmp_path, cache, lambda: signs.append(None), AT_ONCE)
    assert signs


def test_the_cache_keeps_what_was_used_last(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 250)
    names: list[str] = []
    for number in range(3):
        content = bytes([number]) * 100
        names.append(hashlib.sha256(content).hexdigest())
        partial = cache.partial(names[-1])
        partial.write_bytes(content)
        assert cache.keep(partial, names[-1]) is not None
        if number == 1:
            assert cache.find(names[0]) is not None
    assert cache.find(names[1]) is None
    assert cache.find(names[0]) is not None
    assert cache.find(names[2]) is not None


def test_a_file_larger_than_the_cache_is_kept_while_it_is_needed(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 10)
    name = hashlib.sha256(bytes(100)).hexdigest()
    cache.partial(name).write_bytes(bytes(100))
    assert cache.keep(cache.partial(name), name) is not None


def test_folders_of_jobs_are_cleared_but_what_wandb_is_still_to_be_told(tmp_path: Path) -> None:
    folders = [tmp_path / "run" / f"job_{n}" for n in range(2)]
    for folder in folders:
        (folder / "attempt-1").mkdir(parents=True)
    Journal.of(tmp_path, "job_1").folder.mkdir(parents=True)
    clear(tmp_path, folders)
    assert [folder.exists() for folder in folders] == [False, True]
