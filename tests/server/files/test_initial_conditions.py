"""Files of initial conditions that users send, and begin jobs with."""

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from server.client import Client
from tests.server.conftest import TINY, Orrery, OrreryServer, assert_problem

Json = dict[str, Any]
BINARY = {"Content-Type": "application/octet-stream"}
ROWS = b"# m x y vx vy\n1.0 0.0 0.0 0.0 0.0\n0.5 1.0 0.0 0.0 1.2\n0.1 -2.0 0.0 0.0 -0.9\n"
FILE = {"initial_conditions": "file"}


def send(
    client: httpx.Client, content: bytes = ROWS, name: str = "my system.txt", **more: Any
) -> httpx.Response:
    return client.post("/v1/files", content=content, params={"name": name}, headers=BINARY, **more)


def sent(client: httpx.Client, content: bytes = ROWS, name: str = "my system.txt") -> Json:
    answer = send(client, content, name)
    assert answer.status_code == 201, answer.text
    return answer.json()


def refused(client: httpx.Client, **config: Any) -> str:
    answer = client.post("/v1/jobs", json={"config": TINY | FILE | config})
    return json.dumps(assert_problem(answer, 422))


def test_a_file_that_was_sent_is_what_a_job_begins_with(server: OrreryServer) -> None:
    file = sent(server.admin)
    assert (file["num_particles"], file["dim"], file["bytes"]) == (3, 2, len(ROWS))
    assert file["sha256"] == hashlib.sha256(ROWS).hexdigest()
    assert file["path"] == f"inputs/{file['id']}/my_system.txt"
    assert (server.settings.data / file["path"]).read_bytes() == ROWS
    assert server.admin.get(f"/v1/files/{file['id']}").json() == file
    assert server.admin.get(f"/v1/files/{file['id']}/content").content == ROWS
    assert file in server.admin.get("/v1/files").json()["data"]
    _, assignment = server.start(config=FILE | {"ic_path": file["path"]})
    path = f"/v1/leases/{assignment['lease_id']}/files"
    assert server.worker.get(path, params={"path": file["path"]}).content == ROWS


def test_the_same_file_again_is_the_same_one_of_one_owner(server: OrreryServer) -> None:
    mine, others = server.new_client("user"), server.new_client("user")
    first, again, other = (send(client) for client in (mine, mine, others))
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert other.json()["id"] != first.json()["id"]
    assert sent(mine, name="as.dat")["id"] != first.json()["id"]  # read in another way
    (server.settings.data / first.json()["path"]).unlink()  # somebody took it
    assert send(mine).json() == first.json()
    assert (server.settings.data / first.json()["path"]).read_bytes() == ROWS


def test_a_file_is_its_owners_alone(server: OrreryServer) -> None:
    mine, others, viewer = (server.new_client(role) for role in ("user", "user", "viewer"))
    file = sent(mine)
    assert others.get("/v1/files").json()["data"] == []
    assert_problem(others.get(f"/v1/files/{file['id']}"), 404)
    assert_problem(others.get(f"/v1/files/{file['id']}/content"), 404)
    assert_problem(others.delete(f"/v1/files/{file['id']}"), 404)
    assert viewer.get(f"/v1/files/{file['id']}").json() == file
    assert_problem(send(viewer), 403)
    for path in (
        file["path"],
        file["path"].replace("/", "//"),
        f"inputs/{file['id']}/other.txt",
        f"x/{file['path']}",
    ):
        assert "there is no such file of yours" in refused(others, ic_path=path)
    body = {"config": TINY | FILE | {"ic_path": file["path"]}}
    assert_problem(others.post("/v1/jobs/validate", json=body), 422)
    assert mine.post("/v1/jobs/validate", json=body).is_success
    simulated = {"config": TINY, "simulate": body["config"]}
    assert "/simulate/ic_path" in others.post("/v1/jobs", json=simulated).text
    space = {"lr": {"values": [0.1, 0.2]}}
    assert_problem(others.post("/v1/sweeps", json={"space": space, **body}), 422)
    mine_now = server.submit(mine, body["config"])
    assert server.submit(server.admin, body["config"])["config"]["ic_path"] == file["path"]
    mine.post(f"/v1/jobs/{mine_now['id']}/cancel", json={})
    assert server.admin.post(f"/v1/jobs/{mine_now['id']}/retry", json={}).status_code == 201


def test_it_is_deleted_when_no_job_needs_it_any_more(server: OrreryServer) -> None:
    mine = server.new_client("user")
    file = sent(mine)
    config = TINY | FILE | {"ic_path": file["path"]}
    jobs = [server.submit(mine, config), server.submit(mine, TINY, simulate=config)]
    for job in jobs:
        problem = assert_problem(mine.delete(f"/v1/files/{file['id']}"), 409)
        assert job["id"] in problem["detail"]
        mine.post(f"/v1/jobs/{job['id']}/cancel", json={})
    assert mine.delete(f"/v1/files/{file['id']}").json()["deleted"] is True
    assert not (server.settings.data / file["path"]).parent.exists()
    assert_problem(mine.get(f"/v1/files/{file['id']}"), 404)
    assert "no such file" in refused(mine, ic_path=file["path"])
    again = mine.post(f"/v1/jobs/{jobs[0]['id']}/retry", json={})
    assert "no such file" in json.dumps(assert_problem(again, 422))


def _zipped(size: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.npy", bytes(size))
    return file.getvalue()


def _of_numpy(rows: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, rows, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "name", "told"),
    [
        (b"", "a.txt", "has 0 bytes"),
        (b"no numbers", "a.txt", "a.txt, line 1: neither numbers nor"),
        (b"1 2 3\n4 5 6\n", "a.csv", "m x y vx vy"),
        (b"1 0 0 0 nan\n1 1 0 0 0\n", "a.txt", "not finite"),
        (b"-1 0 0 0 0\n1 1 0 0 0\n", "a.txt", "negative mass"),
        (b"\xff\xfe\x00", "a.txt", "no text in UTF-8"),
        (ROWS, "a.pt", "ends with none of"),
        (ROWS, "a", "ends with none of"),
        (ROWS, "a.h5", "a.h5"),
        (ROWS, "a.bin", "a.bin"),
        (_zipped(2**29), "a.npz", "a.npz unpacks to over"),
        (_of_numpy(np.array([print, print], dtype=object)), "a.npy", "not a table of numbers"),
    ],
)
def test_what_cannot_be_used_is_refused_and_not_kept(
    server: OrreryServer, content: bytes, name: str, told: str
) -> None:
    mine = server.new_client("user")
    before = set(server.settings.data.glob("inputs/*"))
    problem = json.dumps(assert_problem(send(mine, content, name), 422))
    assert told in problem
    assert "upload-" not in problem  # it is told of by its own name
    assert mine.get("/v1/files").json()["data"] == []
    assert set(server.settings.data.glob("inputs/*")) == before
    assert not any(server.settings.uploads_folder.iterdir())


@pytest.mark.parametrize("name", ["../../x.txt", ".hidden.txt", "🪐.txt", "/etc/x.dat"])
def test_a_name_is_only_for_people(server: OrreryServer, name: str) -> None:
    file = sent(server.new_client("user"), name=name)
    assert file["name"] == name
    assert Path(file["path"]).parent == Path("inputs", file["id"])
    assert server.submit(config=FILE | {"ic_path": file["path"]})["id"]


def test_an_owner_has_a_share_of_the_disk(tmp_path: Path) -> None:
    with OrreryServer(tmp_path, max_input_bytes=20_000) as server:
        mine, others = server.new_client("user"), server.new_client("user")
        files = [sent(mine, ROWS + b"#" * n) for n in range(4)]  # each takes a block at least
        refusal = send(mine, ROWS + b"#####")
        assert "ORRERY_MAX_INPUT_BYTES" in assert_problem(refusal, 429)["detail"]
        assert send(mine, ROWS).status_code == 201  # which is there already
        assert send(others, ROWS).status_code == 201
        assert mine.delete(f"/v1/files/{files[0]['id']}").is_success
        with ThreadPoolExecutor() as at_once:
            answers = at_once.map(lambda n: send(mine, ROWS + b"!" * n), range(10, 14))
            codes = sorted(answer.status_code for answer in answers)
        assert codes.count(201) <= 1
        assert len(mine.get("/v1/files").json()["data"]) <= 4


@pytest.mark.parametrize("name", ["\x1b[31m.csv", "a\n.csv", "\u202egpj.csv", "\x9b1m.csv"])
def test_a_name_that_a_terminal_would_obey_is_refused(server: OrreryServer, name: str) -> None:
    assert_problem(send(server.admin, ROWS, name=name), 422)


def test_a_command_sends_and_submits(server: OrreryServer, orrery: Orrery, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("m,x,y,vx,vy\n1,0,0,0,0\n1,1,0,0,1\n")
    config = tmp_path / "config.json"
    config.write_text(json.dumps(TINY | {"initial_conditions": "kepler", "num_orbits": 7}))
    given = [str(config), "--ic", str(tmp_path / "mine.csv"), "--set", "epochs=3"]
    said = orrery("validate", *given, "--json")
    assert json.loads(said.out)["config"]["initial_conditions"] == "file"
    assert not server.admin.get("/v1/jobs").json()["data"]
    assert "warning" not in said.err
    in_kg_and_m = "1.989e30 0 0 0 0\n5.97e24 1.496e11 0 0 29780\n"
    (tmp_path / "si.txt").write_text(in_kg_and_m)
    units = orrery("validate", str(config), "--ic", str(tmp_path / "si.txt"))
    assert "kinetic over potential energy" in units.err
    done = orrery("submit", *given)
    job = server.job(done.out.strip())
    assert (job["config"]["initial_conditions"], job["config"]["epochs"]) == ("file", 3)
    path = orrery("upload", str(tmp_path / "mine.csv")).out.strip()
    assert path == job["config"]["ic_path"]  # the same file
    changed = ["--set", "initial_conditions=file", "--set", f"ic_path={path}"]
    simulated = orrery("simulate", *changed, "--set", "integrator_mode=fixed", "--set", "dt=0.01")
    assert server.job(simulated.out.strip())["config"]["ic_path"] == path
    assert "mine.csv" in orrery("files").out
    file_id = path.split("/")[1]
    assert "cancel it first" in orrery("files", "--delete", file_id).err
    assert orrery("submit", str(config), "--ic", str(tmp_path / "none.csv")).code == 2


def test_a_worker_with_a_folder_of_its_own_trains_on_it(
    server: OrreryServer, tmp_path: Path
) -> None:
    """Through a real agent and its process."""
    with Client(server.url, server.admin_token) as client:
        (tmp_path / "mine.txt").write_bytes(ROWS)
        path = client.send_initial_conditions(tmp_path / "mine.txt")["path"]
        job = client.submit({**TINY, **FILE, "ic_path": path, "epochs": 1})
        (tmp_path / "token").write_text(server.worker_token)
        where = ["--server", server.url, "--token-file", str(tmp_path / "token")]
        command = [sys.executable, "-m", "worker", "--once", "--data", str(tmp_path / "own")]
        ran = subprocess.run([*command, *where], capture_output=True, check=False)
        assert ran.returncode == 0, ran.stderr
        done = client.job(job["id"])
        assert done["status"] == "succeeded", done["failure"]
