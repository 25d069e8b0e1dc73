"""Files on their way from a worker to a real server, over connections that end."""

import hashlib
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.patience import until
from tests.server.conftest import OrreryServer, checkpoint
from worker.client import FileRefused, WorkerClient
from worker.files import uploads as module
from worker.files.uploads import Uploads
from worker.spool import Record

Json = dict[str, Any]
PATIENCE_S = 30.0


class Line(httpx.BaseTransport):
    """A way to the server on which pieces are cut off, or their answers are lost.

    Attributes:
        cuts: after how many bytes of a piece the connection ends, for each piece that is cut.
        lost: answers that never come.
        sent: bytes of all pieces.
    """

    def __init__(self) -> None:
        self._wire = httpx.HTTPTransport()
        self.cuts: list[int] = []
        self.lost = 0
        self.sent = 0
        self.pieces: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "PUT" and "*" not in request.headers["Content-Range"]:
            self.pieces.append(request.headers["Content-Range"])
            request.stream = _Cut(self, request.stream, self.cuts.pop(0) if self.cuts else None)
            answer = self._wire.handle_request(request)
            if self.lost:
                self.lost -= 1
                answer.read()
                raise httpx.ReadTimeout("no answer")
            return answer
        return self._wire.handle_request(request)

    def close(self) -> None:
        self._wire.close()


class _Cut(httpx.SyncByteStream):
    def __init__(self, line: Line, stream: Any, after: int | None) -> None:
        self._line, self._stream, self._after = line, stream, after

    def __iter__(self) -> Iterator[bytes]:
        left = self._after
        for part in self._stream:
            whole = part if left is None else part[:left]
            self._line.sent += len(whole)
            yield whole
            if left is not None:
                left -= len(whole)
                if not left:
                    raise httpx.WriteError("cut off")


@pytest.fixture
def assignment(server: OrreryServer) -> Json:
    server.empty()
    server.submit()
    found = server.claim(server.register(folder=None, proof=secrets.token_hex(16)))
    assert found is not None
    return found


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PIECE", 2**18)
    monkeypatch.setattr(module, "LARGEST_PIECE", 2**18)


def made(folder: Path, assignment: Json, epoch: int, size: int, **more: Any) -> Record:
    """The record of a file that is there."""
    content = secrets.token_bytes(size)
    told = checkpoint(
        assignment, epoch, bytes=size, sha256=hashlib.sha256(content).hexdigest(), **more
    )
    path = folder / told["path"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {"kind": "checkpoint", "data": told}


def ignore(_path: Path, _sha256: str) -> None:
    """Keep nothing."""


def until_done(files: Uploads) -> list[str]:
    """The names of what arrived, once all did."""
    told: list[str] = []
    while not files.wait(PATIENCE_S):
        arrived = files.arrived()
        assert arrived, "nothing arrives"
        told += [Path(record["data"]["path"]).name for record in arrived]
        files.confirm(len(arrived))
    return told


def same(server: OrreryServer, folder: Path, record: Record) -> bool:
    path = record["data"]["path"]
    return (server.settings.data / path).read_bytes() == (folder / path).read_bytes()


def test_files_arrive_whole_and_in_order_over_a_line_that_breaks(
    server: OrreryServer, client: WorkerClient, line: Line, assignment: Json, tmp_path: Path
) -> None:
    records = [made(tmp_path, assignment, n, 900_000 + n) for n in range(3)]
    line.cuts, line.lost = [1, 200_000, 2**18], 2
    files = Uploads(client, assignment["lease_id"], tmp_path, ignore)
    for record in (*records, records[0]):
        files.offer(record)
    assert until_done(files) == [f"model_epoch_{n:04d}.pt" for n in range(3)]
    files.close()
    assert all(same(server, tmp_path, record) for record in records)
    whole = sum(record["data"]["bytes"] for record in records)
    assert whole <= line.sent <= whole + 3 * 2**18  # of each that was cut no more than itself


def test_what_arrived_is_not_sent_again_by_the_next_agent(
    client: WorkerClient, line: Line, assignment: Json, tmp_path: Path
) -> None:
    record = made(tmp_path, assignment, 0, 900_000)
    for _ in range(2):
        files = Uploads(client, assignment["lease_id"], tmp_path, ignore)
        files.offer(record)
        assert until_done(files) == ["model_epoch_0000.pt"]
        files.close()
    assert line.sent == 900_000


def test_a_checkpoint_that_arrived_is_kept_for_whoever_goes_on(
    client: WorkerClient, assignment: Json, tmp_path: Path
) -> None:
    record = made(tmp_path, assignment, 0, 9)
    kept: list[tuple[Path, str]] = []
    is_kept = threading.Event()

    def keep(path: Path, sha256: str) -> None:
        kept.append((path, sha256))
        is_kept.set()

    files = Uploads(client, assignment["lease_id"], tmp_path, keep)
    files.offer(record)
    assert is_kept.wait(PATIENCE_S)
    files.close()
    assert kept == [(tmp_path / record["data"]["path"], record["data"]["sha256"])]


def test_of_rolling_checkpoints_that_wait_the_newest_is_sent(
    client: WorkerClient, assignment: Json, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, begun = threading.Event(), threading.Event()
    bring = WorkerClient.bring

    def slowly(*arguments: Any) -> Any:
        begun.set()
        assert goes_on.wait(PATIENCE_S)
        return bring(*arguments)

    monkeypatch.setattr(WorkerClient, "bring", slowly)
    files = Uploads(client, assignment["lease_id"], tmp_path, ignore)
    files.offer(made(tmp_path, assignment, 0, 9))
    assert begun.wait(PATIENCE_S)
    for epoch in (1, 2, 3):
        files.offer(made(tmp_path, assignment, epoch, 9, rolling=True))
    files.offer(made(tmp_path, assignment, 4, 9))
    goes_on.set()
    assert until_done(files) == [f"model_epoch_{n:04d}.pt" for n in (0, 3, 4)]
    files.close()


def test_a_rolling_checkpoint_that_is_gone_is_not_waited_for(
    client: WorkerClient, assignment: Json, tmp_path: Path
) -> None:
    gone = made(tmp_path, assignment, 0, 9, rolling=True)
    (tmp_path / gone["data"]["path"]).unlink()
    files = Uploads(client, assignment["lease_id"], tmp_path, ignore)
    files.offer(gone)
    assert until_done(files) == []
    files.close()


def test_a_file_that_changed_while_it_waited_is_refused_and_told(
    client: WorkerClient, assignment: Json, tmp_path: Path
) -> None:
    record = made(tmp_path, assignment, 0, 9)
    (tmp_path / record["data"]["path"]).write_bytes(b"123456789")
    files = Uploads(client, assignment["lease_id"], tmp_path, ignore)
    files.offer(record)
    files.wait(PATIENCE_S)
    with pytest.raises(FileRefused, match="sha256"):
        files.arrived()
    files.close()


def test_a_file_that_became_shorter_is_told(
    client: WorkerClient, assignment: Json, tmp_path: Path
) -> None:
    record = made(tmp_path, assignment, 0, 9)
    (tmp_path / record["data"]["path"]).write_bytes(b"1234")
    files = Uploads(client, assignment["lease_id"], tmp_path, ignore)
    files.offer(record)
    files.wait(PATIENCE_S)
    with pytest.raises(OSError, match="shorter"):
        files.arrived()
    files.close()


def test_a_lease_that_is_lost_ends_it(
    server: OrreryServer, client: WorkerClient, line: Line, assignment: Json, tmp_path: Path
) -> None:
    server.move_leases_to_test_clock()
    server.service.leases.renew(assignment["lease_id"])
    server.lose_leases()
    files = Uploads(client, assignment["lease_id"], tmp_path, ignore)
    files.offer(made(tmp_path, assignment, 0, 9))
    files.offer(made(tmp_path, assignment, 1, 9))
    while not files.wait(PATIENCE_S):
        pass
    assert files.arrived() == []
    assert line.sent == 0
    files.close()


def test_closing_does_not_wait_for_a_server_that_is_away(
    server: OrreryServer, assignment: Json, tmp_path: Path
) -> None:
    with WorkerClient("http://127.0.0.1:9", server.worker_token) as nowhere:
        files = Uploads(nowhere, assignment["lease_id"], tmp_path, ignore)
        files.offer(made(tmp_path, assignment, 0, 9))
        assert not files.wait(0)
        files.close()
        assert files.arrived() == []


def test_who_waits_for_a_file_learns_of_the_end_however_close_it_comes(tmp_path: Path) -> None:
    """It is there before whoever waits is woken: who looks too early would wait for ever."""

    class Late(threading.Event):
        """Comes when all who were woken wait again."""

        def set(self) -> None:
            until(lambda: bool(files._news._waiters))
            super().set()

    with WorkerClient("http://127.0.0.1:9", "x") as nowhere:
        files = Uploads(nowhere, "lease", tmp_path, ignore)
        until(lambda: bool(files._news._waiters))
        files._over = Late()
        files.drop()
        files._thread.join(10)
        assert not files._thread.is_alive()
