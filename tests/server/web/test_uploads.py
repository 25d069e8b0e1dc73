"""Checkpoint files that users send."""

import contextlib
import json
import pickle
import socket
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.client import Client
from server.settings import ServerSettings
from tests.nbody.fakes import CONFIG
from tests.server.conftest import OrreryServer, assert_problem

BINARY = {"Content-Type": "application/octet-stream"}


def archive(pickled: Any) -> bytes:
    """A file as torch writes it, around what is no tensor."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        name = zipfile.ZipInfo("archive/data.pkl")  # of one time, whenever it is made
        zipped.writestr(name, pickle.dumps(pickled))
    return file.getvalue()


def content(**fields: Any) -> bytes:
    config = CONFIG.model_dump(mode="json") | {"device": "cuda", "save_name": "mine"} | fields
    return archive({"model_state_dict": {"model.0.weight": 1}, "config": config, "epoch": 7})


def send(client: httpx.Client, body: Any, **options: Any) -> httpx.Response:
    return client.post("/v1/checkpoints", **{"content": body, "headers": BINARY} | options)


def test_an_uploaded_checkpoint_is_what_a_job_works_with(server: OrreryServer) -> None:
    answer = send(server.admin, content(), params={"name": "from the cluster"})
    assert answer.status_code == 201
    checkpoint = answer.json()
    assert answer.headers["location"] == f"/v1/checkpoints/{checkpoint['id']}"
    assert (checkpoint["epoch"], checkpoint["bytes"]) == (7, len(content()))
    assert (server.settings.data / checkpoint["path"]).read_bytes() == content()
    path = f"/v1/checkpoints/{checkpoint['id']}/content"
    assert server.admin.get(path).content == content()
    listed = server.job(checkpoint["job_id"])
    assert (listed["kind"], listed["status"]) == ("upload", "succeeded")
    assert listed["name"] == "from the cluster"
    assert listed["config"]["device"] == "auto"
    body = {"kind": "evaluate", "config": {}, "stepper": {"job": checkpoint["job_id"]}}
    job = server.admin.post("/v1/jobs", json=body).json()
    assert job["from_checkpoint"] == checkpoint["id"]
    assert job["config"]["num_orbits"] == CONFIG.num_orbits
    assert [entry["id"] for entry in server.admin.get("/v1/queue").json()["data"]] == [job["id"]]
    uploads = server.admin.get("/v1/jobs", params={"kind": "upload"}).json()["data"]
    assert [entry["id"] for entry in uploads] == [checkpoint["job_id"]]


def test_the_same_file_again_is_the_same_checkpoint_of_one_owner(server: OrreryServer) -> None:
    mine, others = server.new_client("user"), server.new_client("user")
    first, again, other = (send(client, content()) for client in (mine, mine, others))
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert other.json()["id"] != first.json()["id"]
    assert_problem(others.get(f"/v1/checkpoints/{first.json()['id']}"), 404)


def test_a_file_that_somebody_took_is_there_again_when_it_is_sent_again(
    server: OrreryServer,
) -> None:
    checkpoint = send(server.admin, content()).json()
    path = server.settings.data / checkpoint["path"]
    path.unlink()
    assert send(server.admin, content()).json() == checkpoint
    assert path.read_bytes() == content()


def test_it_is_deleted_with_its_file_and_cannot_be_run(server: OrreryServer) -> None:
    checkpoint = send(server.admin, content()).json()
    job, path = checkpoint["job_id"], server.settings.data / checkpoint["path"]
    assert_problem(server.admin.post(f"/v1/jobs/{job}/retry", json={}), 422)
    assert_problem(server.admin.post(f"/v1/jobs/{job}/cancel", json={}), 409)
    assert path.is_file()
    answer = server.admin.delete(f"/v1/jobs/{job}", params={"files": "true"})
    assert answer.is_success
    assert not path.exists()
    assert not any(server.settings.uploads_folder.iterdir())


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "no checkpoint"),
        (b"no archive at all", "no checkpoint"),
        (archive({"config": {}}), "model_state_dict"),
        (archive({"model_state_dict": {"a": 1}}), "no fully connected network"),
        (content(extra={"a": "x" * 2**20}), "larger than"),
        (content(lr=-1.0), "lr"),
        (content(save_name=".hidden"), "save_name"),
    ],
)
def test_what_cannot_be_used_is_refused_and_not_kept(
    server: OrreryServer, body: bytes, told: str
) -> None:
    before = set(server.settings.data.glob("*/job_*"))
    problem = assert_problem(send(server.admin, body), 422)
    assert told in json.dumps(problem)
    assert server.admin.get("/v1/jobs").json()["data"] == []
    assert not any(server.settings.uploads_folder.iterdir())
    assert set(server.settings.data.glob("*/job_*")) == before


def test_a_file_that_names_code_runs_none(server: OrreryServer, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (tmp_path / "ran").touch, ()

    for place in ("config", "model_state_dict", "epoch"):
        send(server.admin, archive({"model_state_dict": {"model.0.weight": 1}, place: Bomb()}))
    assert not (tmp_path / "ran").exists()


def test_viewers_workers_and_strangers_send_nothing(server: OrreryServer) -> None:
    for client in (server.new_client("viewer"), server.worker):
        assert_problem(send(client, content()), 403)
    assert_problem(send(server.http(None), content()), 401)


def test_what_is_said_to_be_something_else_is_refused(server: OrreryServer) -> None:
    for kind in ("application/json", "multipart/form-data; boundary=x", None):
        headers = {} if kind is None else {"Content-Type": kind}
        assert_problem(send(server.admin, content(), headers=headers), 400)


def pieces(number: int, size: int) -> Iterator[bytes]:
    for _ in range(number):
        yield bytes(size)


def test_a_file_that_is_too_large_is_refused_before_it_is_kept(tmp_path: Path) -> None:
    with OrreryServer(tmp_path, max_upload_bytes=2**20) as server:
        assert_problem(send(server.admin, bytes(2**20 + 1)), 413)
        with contextlib.suppress(httpx.TransportError):  # the connection was closed first
            assert_problem(send(server.admin, pieces(64, 2**16)), 413)
        assert send(server.admin, content()).status_code == 201
        assert not any(server.settings.uploads_folder.iterdir())


def test_what_an_owner_may_store_counts_uploads(tmp_path: Path) -> None:
    with OrreryServer(tmp_path, max_file_bytes=1000) as server:
        assert send(server.admin, content()).status_code == 201
        problem = assert_problem(send(server.admin, content(seed=5)), 429)
        assert "ORRERY_MAX_FILE_BYTES" in problem["detail"]
        assert len(list(server.settings.data.glob("mine/job_*"))) == 1


def test_who_stores_too_much_is_told_before_the_file_is_read(tmp_path: Path) -> None:
    with OrreryServer(tmp_path, max_file_bytes=1000) as server:
        assert send(server.admin, content()).status_code == 201
        read: list[int] = []

        def endless() -> Iterator[bytes]:
            while True:
                read.append(2**16)
                yield bytes(2**16)

        with contextlib.suppress(httpx.TransportError):
            assert_problem(send(server.admin, endless()), 429)
        assert sum(read) < server.settings.max_upload_bytes


def test_a_connection_that_ends_early_leaves_nothing(
    server: OrreryServer, caplog: pytest.LogCaptureFixture
) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    head = f"POST /v1/checkpoints HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5000\r\n"
    head += f"Content-Type: application/octet-stream\r\nAuthorization: Bearer {server.admin_token}"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode() + bytes(100))
        server.until(lambda: any(server.settings.uploads_folder.glob("upload-*")))
    server.until(lambda: not any(server.settings.uploads_folder.iterdir()))
    assert server.admin.get("/v1/jobs").json()["data"] == []
    assert "unexpected error" not in caplog.text


def test_two_at_once_of_one_owner_are_one(server: OrreryServer) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: send(server.admin, content()), range(4)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_what_a_killed_server_left_is_gone(tmp_path: Path) -> None:
    left = ServerSettings(data=tmp_path).uploads_folder
    left.mkdir(parents=True)
    (left / "upload-1").write_bytes(b"half")
    with OrreryServer(tmp_path):
        assert not left.exists()


def test_the_client_sends_a_file(server: OrreryServer, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content())
    with Client(server.url, server.admin_token) as client:
        sent = client.upload(path)
        assert client.checkpoint(sent["id"]) == sent
        assert client.job(sent["job_id"])["name"] == "model.pt"
