"""Files of jobs in a bucket: brought there, taken from there by whoever may, and deleted."""

import hashlib
import logging
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from moto.server import ThreadedMotoServer

from server.client import Client, ClientError, DownloadFailed
from server.database import archive
from server.store.kept_files import KeptFiles
from server.store.mover import Mover
from server.store.s3 import S3Store, StoreUnavailable
from tests.patience import until
from tests.server.conftest import TINY, Orrery, OrreryServer, assert_problem, checkpoint

pytestmark = pytest.mark.slow
Json = dict[str, Any]
PLACE = "s3://runs/orrery"


class Bucket:
    """What is in it, past the server."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url)
        assert self._http.post("/moto-api/reset").is_success  # it has one memory a process
        assert self._http.put("/runs").is_success

    def holds(self) -> set[str]:
        """Of all that is there."""
        listed = self._http.get("/runs?list-type=2").text
        return {part.partition("</Key>")[0] for part in listed.split("<Key>")[1:]}

    def close(self) -> None:
        """End."""
        self._http.close()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    for name, text in {
        "ENDPOINT_URL": url,
        "ACCESS_KEY_ID": "orrery",
        "SECRET_ACCESS_KEY": "secret",
        "REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", text)
    made = Bucket(url)
    yield made
    made.close()
    server.stop()


@pytest.fixture
def stored(bucket: Bucket, tmp_path: Path) -> Iterator[OrreryServer]:
    del bucket
    with OrreryServer(tmp_path / "data", store=PLACE) as server:
        yield server


def move(server: OrreryServer) -> int:
    store = server.service.files.store
    assert store is not None
    return server.call(Mover(server.settings.data, server.service.database, store).move())


def trained(server: OrreryServer, *, over: bool = True) -> tuple[Json, Json]:
    """A job with a checkpoint and an artifact, whose bytes are in the server's folder."""
    job = server.submit()
    assignment = server.claim(server.register(folder=None, proof="a" * 32))
    assert assignment is not None
    content = b"weights of a stepper"
    known = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    saved = checkpoint(assignment, 0) | known
    made = {"path": f"{assignment['output_folder']}/simulation.npz", **known}
    for file in (saved, made):
        place = server.settings.data / str(file["path"])
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    lease = assignment["lease_id"]
    told = server.worker.post(
        f"/v1/leases/{lease}/report", json={"checkpoints": [saved], "artifacts": [made]}
    )
    assert told.status_code == 200, told.text
    if over:
        server.finish(lease)
    return job, saved


def test_files_are_brought_and_who_has_a_token_is_sent_there(
    bucket: Bucket, stored: OrreryServer, tmp_path: Path
) -> None:
    job, saved = trained(stored)
    until(lambda: len(bucket.holds()) == 2, seconds=30)  # by itself
    until(lambda: not (stored.settings.data / str(saved["path"])).exists())
    assert f"orrery/{saved['path']}" in bucket.holds()
    (listed,) = stored.admin.get(f"/v1/jobs/{job['id']}/checkpoints").json()["data"]
    place = f"/v1/checkpoints/{listed['id']}/content"
    answer = stored.admin.get(place)
    assert answer.status_code == 307
    assert not answer.content
    with httpx.Client() as anybody:
        link = answer.headers["location"]
        assert anybody.get(link).content == b"weights of a stepper"
        assert anybody.get(link, headers={"Range": "bytes=8-9"}).content == b"of"
        assert anybody.get(link.partition("?")[0] + "x").status_code != 200
    head = stored.admin.head(place)
    assert (head.status_code, head.headers["content-length"]) == (200, "20")
    assert head.headers["etag"] == f'"{saved["sha256"]}"'
    with Client(stored.url, stored.admin_token) as client:
        copy = client.download(listed["id"], tmp_path / "copy.pt")
    assert copy.read_bytes() == b"weights of a stepper"
    store = stored.service.files.store
    assert store is not None
    (tmp_path / "other").write_bytes(b"weights of another..")  # as many bytes
    store.put(tmp_path / "other", str(saved["path"]))
    with (
        Client(stored.url, stored.admin_token) as client,
        pytest.raises(DownloadFailed, match="is not that file"),
    ):
        client.download(listed["id"], tmp_path / "damaged.pt")
    assert not (tmp_path / "damaged.pt").exists()
    store.put(copy, str(saved["path"]))
    assert_problem(stored.admin.get(place, headers={"Range": "bytes=99-"}), 416)
    # A page may load nothing from elsewhere: it gets the bytes.
    browser = httpx.Client(base_url=stored.url)
    browser.post("/v1/session", json={"token": stored.admin_token}).raise_for_status()
    assert browser.get(place).content == b"weights of a stepper"
    browser.close()


def test_what_is_not_over_keeps_its_files(bucket: Bucket, stored: OrreryServer) -> None:
    _, saved = trained(stored, over=False)
    attempt = Path(*Path(str(saved["path"])).parts[:3])
    rolling = stored.settings.data / attempt / "resume" / "resume_1.pt"
    rolling.parent.mkdir()
    rolling.write_bytes(b"x")
    assert move(stored) == 0
    assert rolling.exists()
    assert (stored.settings.data / str(saved["path"])).exists()  # it may be reported again
    assert bucket.holds() == set()


def test_an_empty_folder_of_what_is_over_is_taken_away(stored: OrreryServer) -> None:
    job, saved = trained(stored)
    folder = stored.settings.data / Path(*Path(str(saved["path"])).parts[:2])
    rolling = folder / "attempt-1" / "resume" / "resume_1.pt"
    rolling.parent.mkdir()
    rolling.write_bytes(b"x")
    kept = folder / "notes.txt"
    kept.write_text("of somebody")
    until(lambda: not rolling.exists(), seconds=30)
    move(stored)
    assert kept.exists()  # not ours
    kept.unlink()
    move(stored)
    assert not folder.exists()
    assert stored.job(job["id"])["latest_checkpoint"] is not None


def test_a_job_that_is_deleted_leaves_nothing(bucket: Bucket, stored: OrreryServer) -> None:
    job, _ = trained(stored)
    other, _ = trained(stored)
    move(stored)
    assert stored.admin.delete(f"/v1/jobs/{job['id']}?files=true").json()["files"] is True
    assert {key.split("/")[2] for key in bucket.holds()} == {other["id"]}
    rows = b"1 0 0 0 0\n1 1 0 0 0\n"
    head = {"Content-Type": "application/octet-stream"}
    ask = {"params": {"name": "rows.txt"}, "content": rows, "headers": head}
    sent = stored.admin.post("/v1/files", **ask).json()
    move(stored)
    assert f"orrery/{sent['path']}" in bucket.holds()
    assert stored.admin.post("/v1/files", **ask).json() == sent
    assert not (stored.settings.data / sent["path"]).exists()  # it was not needed again
    assert stored.admin.delete(f"/v1/files/{sent['id']}").is_success
    assert f"orrery/{sent['path']}" not in bucket.holds()


def test_whoever_is_away_costs_nothing(
    stored: OrreryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files stay where they are, and are served from there."""
    store = stored.service.files.store
    assert store is not None

    def away(*_: object) -> None:
        raise StoreUnavailable("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(store, "put", away)
        job, saved = trained(stored)
        assert move(stored) == 0
        (listed,) = stored.admin.get(f"/v1/jobs/{job['id']}/checkpoints").json()["data"]
        assert stored.admin.get(f"/v1/checkpoints/{listed['id']}/content").status_code == 200
    # One that was brought in part, or is another one, is brought again.
    store.put(stored.settings.data / ".orrery-folder", str(saved["path"]))
    move(stored)
    assert store.size(str(saved["path"])) == saved["bytes"]
    content = f"/v1/checkpoints/{listed['id']}/content"
    assert stored.admin.get(content).status_code == 307
    store.failed()
    assert_problem(stored.admin.get(content), 503)  # not as if it were gone
    assert stored.admin.get("/readyz").is_success


def test_doctor_and_backup_know_the_store(
    stored: OrreryServer, tmp_path: Path, orrery: Orrery, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, saved = trained(stored)
    move(stored)
    target = tmp_path / "all.tar"
    made = archive.archive(stored.settings.data, target, KeptFiles.of(stored.settings).has)
    assert made.missing == []
    with tarfile.open(target) as tar:
        assert saved["path"] not in tar.getnames()
    assert archive.archive(stored.settings.data, tmp_path / "two.tar").missing != []
    monkeypatch.setenv("ORRERY_URL", stored.url)
    examine = "doctor", "--data", str(stored.settings.data)
    for variable, told in ((PLACE, "all 2 that are listed"), ("s3://runs/other", "2 of 2 are")):
        monkeypatch.setenv("ORRERY_STORE", variable)
        assert told in orrery(*examine).out
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "2 files that are not here was not seen" in " ".join(orrery(*examine).out.split())
    backup = "backup", str(tmp_path / "three.tar"), "--files", "--data", str(stored.settings.data)
    assert orrery(*backup).code != 0
    assert not (tmp_path / "three.tar").exists()


def test_a_worker_takes_what_it_begins_with_from_the_store(
    bucket: Bucket, stored: OrreryServer, tmp_path: Path
) -> None:
    """Real agents: one trains, another one simulates; neither has the other's files."""
    (tmp_path / "token").write_text(stored.worker_token)
    (tmp_path / "mine.txt").write_text("1 0 0 0 0\n0.5 1 0 0 1.2\n")

    def work(folder: str) -> None:
        where = ["--server", stored.url, "--token-file", str(tmp_path / "token")]
        command = [sys.executable, "-m", "worker", "--once", "--data", str(tmp_path / folder)]
        ran = subprocess.run([*command, *where], capture_output=True, check=False)
        assert ran.returncode == 0, ran.stderr

    with Client(stored.url, stored.admin_token) as client:
        path = client.send_initial_conditions(tmp_path / "mine.txt")["path"]
        move(stored)
        own = {"initial_conditions": "file", "ic_path": path}
        job = client.submit({**TINY, **own, "evaluation_orbits": 0})
        work("one")
        assert client.job(job["id"])["failure"] is None
        move(stored)
        assert not list(stored.settings.data.glob("*/job_*/attempt-1/*.pt"))
        run = {"kind": "simulate", "stepper": {"job": job["id"]}}
        simulated = client.submit({"duration": 0.5}, **run)
        work("two")
        done = client.job(simulated["id"])
        assert done["status"] == "succeeded", done["failure"]
    assert any(key.endswith(".npz") for key in bucket.holds()) or move(stored)


def test_one_file_that_cannot_be_brought_holds_up_no_other(
    bucket: Bucket, stored: OrreryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first = trained(stored)
    _, second = trained(stored)
    (stored.settings.data / "lost+found").mkdir(mode=0)
    store = stored.service.files.store
    assert store is not None
    put = store.put

    def picky(file: Path, key: str) -> None:
        if key == first["path"]:
            raise PermissionError(13, "not yours", key)
        put(file, key)

    monkeypatch.setattr(store, "put", picky)
    move(stored)
    assert f"orrery/{second['path']}" in bucket.holds()
    assert (stored.settings.data / str(first["path"])).exists()


def test_a_worker_that_shared_the_folder_before_has_to_register_anew(
    tmp_path: Path, bucket: Bucket
) -> None:
    del bucket
    data = tmp_path / "data"
    with OrreryServer(data) as before:
        worker_id, token = before.register(), before.worker_token
    with OrreryServer(data, store=PLACE) as stored, stored.http(token) as worker:
        answer = worker.post(f"/v1/workers/{worker_id}/claim", json={"claim_id": "c"})
        assert_problem(answer, 404)


def test_what_comes_from_a_link_is_no_page(stored: OrreryServer, tmp_path: Path) -> None:
    """A proxy that asks for a password answers with a redirect, too: that is no file."""

    def proxy(request: httpx.Request) -> httpx.Response:
        del request
        return httpx.Response(302, headers={"Location": f"{stored.url}/"})

    with (
        Client(stored.url, "x", httpx.MockTransport(proxy)) as client,
        pytest.raises(ClientError),
    ):
        client.download("ckpt_x", tmp_path / "model.pt")
    assert not (tmp_path / "model.pt").exists()


def test_a_worker_of_the_same_folder_sends_its_files_all_the_same(stored: OrreryServer) -> None:
    proof = "a" * 32
    place = stored.settings.data / ".orrery" / "proofs" / proof
    place.parent.mkdir(exist_ok=True)
    place.touch()
    body = {"name": "here", "host": "here", "proof": proof}
    assert stored.worker.post("/v1/workers", json=body).json()["files"] == "http"


@pytest.mark.parametrize(("url", "told"), [("s3://", "store"), ("gs://runs", "store")])
def test_what_is_no_place_is_refused(tmp_path: Path, url: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        OrreryServer(tmp_path, store=url)


def test_without_its_package_the_advice_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StoreUnavailable, match=r"pip install 'orrery\[s3\]'"):
        S3Store(PLACE)
