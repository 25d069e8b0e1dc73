"""A server and workers of which one is of an earlier release: jobs are trained, handed back, taken
up again and simulated, as if both were of one.
"""

import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import httpx
import pytest

from server.cli.local_service import free_port
from server.client import Client
from tests.end_to_end.conftest import CONFIG
from tests.patience import until

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
# Before files travelled over HTTP, jobs asked for workers, or workers had an end.
EARLIER = "e04687a"
ROOMS = ("nbody", "server", "worker", "data")


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an earlier release."""
    command = ["git", "-C", str(ROOT), "archive", EARLIER, *ROOMS]
    packed = subprocess.run(command, capture_output=True, check=False)
    if packed.returncode:
        pytest.skip("the history is not here")
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


@contextmanager
def running(release: Path, log: Path, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
    """`python -m …` of a release runs inside."""
    environment = {**os.environ, "PYTHONPATH": str(release), "ORRERY_HEARTBEAT_INTERVAL_S": "0.2"}
    if release != ROOT:  # of that one nobody wants to know which lines run
        environment = {key: text for key, text in environment.items() if key[:3] != "COV"}
    with log.open("ab") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=release, env=environment, stderr=printed
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("old", ["server", "worker"])
def test_they_understand_each_other(earlier: Path, tmp_path: Path, old: str) -> None:
    of_server, of_worker = (earlier, ROOT) if old == "server" else (ROOT, earlier)
    data, log, port = tmp_path / "data", tmp_path / "log", free_port("127.0.0.1")
    url = f"http://127.0.0.1:{port}"
    serve = ["server", "serve", "--data", str(data), "--port", str(port)]
    work = ["worker", "--data", str(data), "--server", url, "--name", "w"]
    with running(of_server, log, *serve), Client(url) as probe:
        probe.wait_until_ready(60)
        token = (data / ".orrery" / "admin.token").read_text().strip()
        head = {"Authorization": f"Bearer {token}"}
        known = httpx.get(f"{url}/openapi.json", headers=head).json()["paths"]
        assert ("/v1/files" in known) == (old == "worker")
        with Client(url, token) as client:
            job_id = client.submit(CONFIG)["id"]
            with running(of_worker, log, *work):
                until(lambda: client.job(job_id)["progress"]["epochs_done"] > 5)
            until(lambda: client.job(job_id)["status"] == "queued")  # handed back
            with running(of_worker, log, *work):
                job = client.wait(job_id)
                assert job["status"] == "succeeded", log.read_text()
                first, second = client.attempts(job_id)["data"]
                assert (first["status"], second["first_epoch"] > 5) == ("stopped", True)
                assert client.checkpoints(job_id)["data"][-1]["epoch"] == CONFIG["epochs"] - 1
                run = {"kind": "simulate", "stepper": {"job": job_id}}
                simulated = client.wait(client.submit({"duration": 1.0}, **run)["id"])
                assert simulated["status"] == "succeeded", log.read_text()
    assert "Traceback" not in log.read_text()
