"""Files of workers that do not see the server's folder: in pieces, fenced, whole or not there."""

import asyncio
import contextlib
import hashlib
import secrets
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.access.roles import is_upload
from server.errors import StorageFull
from server.web import arrivals as arrivals_module
from server.web.arrivals import Arrivals
from server.wire.workers import PROOFS
from tests.server.conftest import OrreryServer, assert_problem, checkpoint

Json = dict[str, Any]
CONTENT = secrets.token_bytes(700_000)
SHA = hashlib.sha256(CONTENT).hexdigest()


def apart(server: OrreryServer) -> str:
    """The id of a worker with a folder of its own."""
    return server.register(folder=None, proof=secrets.token_hex(16))


def begun(server: OrreryServer, **fields: Any) -> Json:
    """An assignment to such a worker."""
    server.submit(**fields)
    assignment = server.claim(apart(server))
    assert assignment is not None
    return assignment


def put(
    server: OrreryServer, assignment: Json, content: bytes, content_range: str, **query: str
) -> httpx.Response:
    about = {"path": checkpoint(assignment, 1)["path"], "sha256": SHA} | query
    return server.worker.put(
        f"/v1/leases/{assignment['lease_id']}/files",
        params=about,
        content=content,
        headers={"Content-Range": content_range, "Content-Type": "application/octet-stream"},
    )


def send(server: OrreryServer, assignment: Json, start: int, end: int) -> httpx.Response:
    span = f"bytes {start}-{end - 1}/{len(CONTENT)}"
    return put(server, assignment, CONTENT[start:end], span)


def ask(server: OrreryServer, assignment: Json) -> Json:
    answer = put(server, assignment, b"", f"bytes */{len(CONTENT)}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def place(server: OrreryServer, assignment: Json) -> Path:
    return server.settings.data / checkpoint(assignment, 1)["path"]


def report(server: OrreryServer, assignment: Json) -> httpx.Response:
    told = checkpoint(assignment, 1, bytes=len(CONTENT), sha256=SHA)
    url = f"/v1/leases/{assignment['lease_id']}/report"
    return server.worker.post(url, json={"checkpoints": [told]})


def test_a_file_comes_in_pieces_and_is_listed_once_it_is_whole(server: OrreryServer) -> None:
    assignment = begun(server)
    assert ask(server, assignment) == {"bytes": 0, "is_whole": False}
    assert send(server, assignment, 0, 300_000).json() == {"bytes": 300_000, "is_whole": False}
    assert ask(server, assignment)["bytes"] == 300_000
    assert not place(server, assignment).exists()
    assert_problem(report(server, assignment), 409, "report_conflict")
    last = send(server, assignment, 300_000, len(CONTENT)).json()
    assert last == {"bytes": len(CONTENT), "is_whole": True}
    assert place(server, assignment).read_bytes() == CONTENT
    assert report(server, assignment).status_code == 200
    (listed,) = server.admin.get(f"/v1/jobs/{assignment['job']}/checkpoints").json()["data"]
    content = server.admin.get(f"/v1/checkpoints/{listed['id']}/content").content
    assert content == CONTENT
    assert [path.name for path in place(server, assignment).parent.iterdir()] == [
        place(server, assignment).name
    ]


def test_a_file_that_is_whole_is_not_sent_again(server: OrreryServer) -> None:
    assignment = begun(server)
    send(server, assignment, 0, len(CONTENT))
    assert ask(server, assignment) == {"bytes": len(CONTENT), "is_whole": True}


def test_a_piece_goes_on_where_the_last_one_ended(server: OrreryServer) -> None:
    assignment = begun(server)
    send(server, assignment, 0, 1000)
    for start in (0, 999, 1001):
        problem = assert_problem(send(server, assignment, start, 2000), 409, "arrival_conflict")
        assert "1000" in problem["detail"]
    assert send(server, assignment, 1000, 2000).json()["bytes"] == 2000


def test_what_is_not_what_it_was_said_to_be_is_nowhere(server: OrreryServer) -> None:
    assignment = begun(server)
    other = bytes(len(CONTENT))
    answer = put(server, assignment, other, f"bytes 0-{len(other) - 1}/{len(other)}")
    assert_problem(answer, 409, "other_content")
    assert not place(server, assignment).exists()
    assert ask(server, assignment)["bytes"] == 0
    assert send(server, assignment, 0, len(CONTENT)).json()["is_whole"]


@pytest.mark.parametrize("left", [1, 400_000, len(CONTENT)])
def test_a_server_that_was_killed_goes_on_from_what_it_has(server: OrreryServer, left: int) -> None:
    assignment = begun(server)
    target = place(server, assignment)
    target.parent.mkdir(parents=True)
    target.with_name(f".{target.name}.part").write_bytes(CONTENT[:left])
    come = ask(server, assignment)
    assert come == {"bytes": left, "is_whole": left == len(CONTENT)}
    if left < len(CONTENT):
        assert send(server, assignment, left, len(CONTENT)).json()["is_whole"]
    assert target.read_bytes() == CONTENT


def test_a_damaged_rest_is_found_at_the_end(server: OrreryServer) -> None:
    assignment = begun(server)
    target = place(server, assignment)
    target.parent.mkdir(parents=True)
    target.with_name(f".{target.name}.part").write_bytes(bytes(1000))
    rest = send(server, assignment, 1000, len(CONTENT))
    assert_problem(rest, 409, "other_content")
    assert send(server, assignment, 0, len(CONTENT)).json()["is_whole"]


def test_a_lost_lease_brings_and_takes_nothing(server: OrreryServer) -> None:
    assignment = begun(server)
    send(server, assignment, 0, 1000)
    server.lose_leases()
    assert_problem(send(server, assignment, 1000, len(CONTENT)), 409, "lease_lost")
    assert_problem(put(server, assignment, b"", "bytes */9"), 409, "lease_lost")
    url = f"/v1/leases/{assignment['lease_id']}/files"
    assert_problem(server.worker.get(url, params={"path": "x.csv"}), 409, "lease_lost")


def test_the_lease_of_another_worker_token_is_none(server: OrreryServer) -> None:
    assignment = begun(server)
    other = server.new_client("worker")
    url = f"/v1/leases/{assignment['lease_id']}/files"
    about = {"path": checkpoint(assignment, 1)["path"], "sha256": SHA}
    headers = {"Content-Range": "bytes */9"}
    assert_problem(other.put(url, params=about, headers=headers), 409, "lease_lost")


@pytest.mark.parametrize(
    "path",
    [
        "elsewhere/x.pt",
        "{folder}/../x.pt",
        "{folder}/model/../../../../x.pt",
        "{folder}/.hidden/x.pt",
        "../x.pt",
        ".orrery/x.json",
    ],
)
def test_nothing_is_written_outside_of_the_attempt(server: OrreryServer, path: str) -> None:
    assignment = begun(server)
    path = path.format(folder=assignment["output_folder"])
    sent = secrets.token_bytes(16)  # found again wherever it went, whatever else the server writes
    answer = put(server, assignment, sent, f"bytes 0-15/{len(CONTENT)}", path=path)
    assert answer.status_code in {404, 409}
    data = server.settings.data
    assert not [path for path in (*data.rglob("*"), *data.parent.glob("*")) if holds(path, sent)]


def holds(path: Path, content: bytes) -> bool:
    """Whether a file holds the content; one of the server's own may be gone by now."""
    with contextlib.suppress(FileNotFoundError, IsADirectoryError):
        return content in path.read_bytes()
    return False


def test_a_link_in_the_attempts_folder_leads_nowhere(server: OrreryServer, tmp_path: Path) -> None:
    assignment = begun(server)
    folder = server.settings.data / assignment["output_folder"]
    folder.mkdir(parents=True)
    (folder / "model").symlink_to(tmp_path)
    answer = send(server, assignment, 0, len(CONTENT))
    assert_problem(answer, 404)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["x.exe", "a/b.pt\n", "a/\x00.pt", "a.pt" * 100, "", "ö/x.pt"])
def test_names_that_no_worker_gives_are_refused(server: OrreryServer, path: str) -> None:
    assignment = begun(server)
    assert_problem(put(server, assignment, b"", "bytes */9", path=path), 422)


@pytest.mark.parametrize(
    "content_range",
    ["bytes 0-8", "bytes 0-7/700000", "bytes 8-0/9", "bytes 0-8/5", "0-8/700000", "bytes */x", ""],
)
def test_a_range_that_says_something_else_than_comes_is_refused(
    server: OrreryServer, content_range: str
) -> None:
    assignment = begun(server)
    answer = put(server, assignment, CONTENT[:9], content_range)
    assert answer.status_code in {400, 422}
    assert ask(server, assignment)["bytes"] == 0


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals_module, "LARGEST_PIECE", 2**18)


@pytest.mark.usefixtures("small_pieces")
def test_a_connection_that_ends_leaves_what_came(server: OrreryServer) -> None:
    assignment = begun(server)
    about = f"path={checkpoint(assignment, 1)['path']}&sha256={SHA}"
    head = (
        f"PUT /v1/leases/{assignment['lease_id']}/files?{about} HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {server.worker_token}\r\nContent-Length: {len(CONTENT)}\r\n"
        f"Content-Range: bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode() + CONTENT[:500_000])
        part = place(server, assignment).with_name(f".{place(server, assignment).name}.part")
        server.until(lambda: part.exists() and part.stat().st_size >= 2**18)
    assert ask(server, assignment)["bytes"] >= 2**18

    def goes_on() -> bool:
        return send(server, assignment, ask(server, assignment)["bytes"], len(CONTENT)).is_success

    server.until(goes_on)  # what was under way then may come in between
    assert place(server, assignment).read_bytes() == CONTENT


@pytest.mark.usefixtures("small_pieces")
def test_who_sends_a_file_now_is_not_disturbed_by_who_sent_it_before(tmp_path: Path) -> None:
    async def both() -> None:
        arrivals = Arrivals(patience_s=20)
        target, began, goes_on = tmp_path / "x.pt", asyncio.Event(), asyncio.Event()

        async def stalls() -> Any:
            yield CONTENT[: 2**18]
            began.set()
            await goes_on.wait()
            yield bytes(2**18)

        async def rest() -> Any:
            yield CONTENT[2**18 :]

        first = asyncio.create_task(arrivals.take(target, len(CONTENT), SHA, 0, stalls()))
        await began.wait()
        while await arrivals.came(target, len(CONTENT), SHA) < 2**18:
            pass  # it is still being written
        assert await arrivals.take(target, len(CONTENT), SHA, 2**18, rest()) == len(CONTENT)
        goes_on.set()
        with pytest.raises(Exception, match="Somebody else"):
            await first
        assert target.read_bytes() == CONTENT

    asyncio.run(both())


def test_what_a_full_disk_did_not_take_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = [StorageFull(), StorageFull()]
    write = arrivals_module.write_piece

    def write_or_fail(file: Any, piece: Any) -> None:
        if failing:
            raise failing.pop()
        write(file, piece)

    monkeypatch.setattr(arrivals_module, "write_piece", write_or_fail)

    async def content() -> Any:
        yield CONTENT

    async def again_and_again() -> int:
        arrivals = Arrivals(patience_s=20)
        target = tmp_path / "x.pt"
        for _ in range(2):
            with pytest.raises(StorageFull):
                await arrivals.take(target, len(CONTENT), SHA, 0, content())
            assert await arrivals.came(target, len(CONTENT), SHA) == 0
        return await arrivals.take(target, len(CONTENT), SHA, 0, content())

    assert asyncio.run(again_and_again()) == len(CONTENT)
    assert (tmp_path / "x.pt").read_bytes() == CONTENT


def test_a_job_takes_what_it_begins_with_and_nothing_else(server: OrreryServer) -> None:
    table = server.settings.data / "mine.csv"
    table.write_text("1,0,0,0,0\n1,1,0,0,1\n")
    config = {"initial_conditions": "file", "ic_path": "mine.csv", "num_orbits": 1}
    assignment = begun(server, config=config)
    url = f"/v1/leases/{assignment['lease_id']}/files"
    answer = server.worker.get(url, params={"path": "mine.csv"})
    assert answer.content == table.read_bytes()
    assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
    part = server.worker.get(url, params={"path": "mine.csv"}, headers={"Range": "bytes=10-"})
    assert part.status_code == 206
    assert part.content == table.read_bytes()[10:]
    (server.settings.data / "other.csv").write_text("1,0,0,0,0\n")
    for path in ("other.csv", ".orrery/admin.token", "../x", ".orrery/orrery.db"):
        assert_problem(server.worker.get(url, params={"path": path}), 404)


def test_the_next_attempt_takes_the_checkpoint_of_the_one_before(server: OrreryServer) -> None:
    assignment = begun(server)
    send(server, assignment, 0, len(CONTENT))
    server.worker.post(f"/v1/leases/{assignment['lease_id']}/report", json={"first_epoch": 0})
    assert report(server, assignment).status_code == 200
    server.lose_leases()
    again = server.claim(apart(server))
    assert again is not None
    (point,) = again["resume_from"]
    url = f"/v1/leases/{again['lease_id']}/files"
    assert server.worker.get(url, params={"path": point["path"]}).content == CONTENT
    head = server.worker.head(url, params={"path": point["path"]})
    assert head.headers["etag"] == f'"{point["sha256"]}"'
    assert head.headers["content-length"] == str(len(CONTENT))


def test_a_proof_tells_whether_both_see_one_folder(server: OrreryServer) -> None:
    proofs = server.settings.data / PROOFS
    proofs.mkdir(exist_ok=True)
    seen = secrets.token_hex(16)
    (proofs / seen).touch()
    for proof, files in ((seen, "shared"), (secrets.token_hex(16), "http")):
        body = {"name": "w", "host": "here", "folder": server.folder_id, "proof": proof}
        terms = server.worker.post("/v1/workers", json=body)
        assert terms.status_code == 201, terms.text
        assert terms.json()["files"] == files
        listed = server.admin.get("/v1/workers").json()["data"]
        assert next(w for w in listed if w["id"] == terms.json()["id"])["files"] == files


@pytest.mark.parametrize("proof", ["..", ".", "x", "0" * 31, "../" * 10 + "ab", "G" * 32])
def test_a_proof_is_a_plain_name(server: OrreryServer, proof: str) -> None:
    body = {"name": "w", "host": "here", "folder": None, "proof": proof}
    assert_problem(server.worker.post("/v1/workers", json=body), 422)


def test_only_pieces_and_checkpoints_are_bodies_that_no_layer_reads() -> None:
    assert is_upload("PUT", "/v1/leases/lease_1/files")
    assert is_upload("POST", "/v1/checkpoints")
    assert not is_upload("PUT", "/v1/leases/a/b/files")
    assert not is_upload("POST", "/v1/leases/lease_1/files")
