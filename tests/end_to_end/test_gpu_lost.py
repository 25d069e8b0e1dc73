"""A GPU that goes away under a job: the job waits for one, and never runs on the CPU instead."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.client import Client
from tests.end_to_end.conftest import CONFIG
from tests.server.conftest import OrreryServer

pytestmark = pytest.mark.slow
FINE = "fine"
# The real agent and its processes, on a host whose driver tells of a GPU as long as a file says so.
AGENT = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
import pynvml
from nbody.training.run import TrainingRun
from worker import agent
from worker.__main__ import main
from worker.child import gpu
from worker.child.watcher import ChildWatcher

def is_there(whole=("fine", "broken")):
    return Path(os.environ["GPU_FILE"]).read_text() in whole

def unanswered(*_):
    raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

for name in dir(pynvml):
    if name.startswith("nvmlDeviceGet"):
        setattr(pynvml, name, unanswered)
pynvml.nvmlInit = lambda: None
pynvml.nvmlDeviceGetCount = lambda: int(is_there())
pynvml.nvmlDeviceGetHandleByIndex = lambda number: number
pynvml.nvmlDeviceGetUUID = lambda _: "GPU-1"
pynvml.nvmlDeviceGetName = lambda _: "NVIDIA H200"
pynvml.nvmlDeviceGetMemoryInfo = lambda _: SimpleNamespace(total=2**36, used=0)
works = lambda: is_there(("fine",))
gpu.why_unusable = lambda _: None if works() else "CUDA error: uncorrectable ECC error"

def tick(self):
    if not works():
        raise RuntimeError("CUDA error: unspecified launch failure")
    whole(self)

whole, ChildWatcher.tick = ChildWatcher.tick, tick
agent.UNFIT_S = agent.VITALS_INTERVAL_S = 0.2
if __name__ == "__main__":
    sys.exit(main())
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OrreryServer]:
    with OrreryServer(tmp_path / "data", lease_ttl_s=10, heartbeat_interval_s=0.2) as running:
        yield running


@pytest.fixture
def client(server: OrreryServer) -> Iterator[Client]:
    with Client(server.url, server.admin_token) as made:
        yield made


@pytest.fixture
def gpu(tmp_path: Path) -> Path:
    file = tmp_path / "gpu"
    file.write_text(FINE)
    return file


def start(server: OrreryServer, gpu: Path, *options: str) -> "subprocess.Popen[bytes]":
    script = gpu.with_name("agent.py")  # a file: the fork server imports it again
    script.write_text(AGENT)
    command = [sys.executable, str(script), "--server", server.url, "--name", "gpu"]
    command += ["--data", str(server.settings.data), *options]
    environment = {**os.environ, "GPU_FILE": str(gpu), "PYTHONPATH": str(Path.cwd())}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)


def until(client: Client, job_id: str, status: str, epoch: int = -1) -> None:
    """Return once a job is in a state, with an epoch on record."""
    job, version = client.job_with_version(job_id)
    while job["status"] != status or job["progress"]["epochs_done"] <= epoch:
        job, version = client.job_with_version(job_id, wait=5, version=version)


def test_a_job_whose_gpu_vanishes_waits_for_a_gpu(
    server: OrreryServer, client: Client, gpu: Path
) -> None:
    agent = start(server, gpu)
    try:
        job_id = server.submit(config={**CONFIG, "epochs": 10**6, "checkpoint_every": 1})["id"]
        until(client, job_id, "running", epoch=1)
        gpu.write_text("gone")
        until(client, job_id, "queued")
        (lost,) = client.attempts(job_id)["data"]
        assert (lost["status"], lost["stop_reason"]) == ("failed", "gpu_lost")
        assert "nvidia-smi" in lost["detail"]
        while "gpu_lost: GPU-1 (NVIDIA H200)" not in (client.job(job_id)["waits_for"] or ""):
            pass
        (worker,) = client.workers()["data"]
        assert worker["trouble"].startswith("gpu_lost")
        assert len(client.attempts(job_id)["data"]) == 1  # nothing was tried on the CPU

        gpu.write_text(FINE)
        until(client, job_id, "running", epoch=lost_epoch(client, job_id) + 1)
        assert client.attempts(job_id)["data"][1]["first_epoch"] > 0
        assert client.workers()["data"][0]["trouble"] is None
        client.cancel(job_id)
        until(client, job_id, "cancelled")
    finally:
        agent.send_signal(signal.SIGTERM)
        _, said = agent.communicate(timeout=60)
    assert b"no jobs are taken for GPU-1" in said
    assert b"GPU-1 can be used again" in said


def lost_epoch(client: Client, job_id: str) -> int:
    return client.job(job_id)["progress"]["epochs_done"]


def test_a_worker_that_comes_again_without_its_gpu_does_not_work(
    server: OrreryServer, gpu: Path
) -> None:
    agent = start(server, gpu)
    assert agent.stderr is not None
    while b"registered as" not in agent.stderr.readline():
        pass
    agent.kill()
    agent.communicate()
    gpu.write_text("gone")
    again = start(server, gpu)
    _, said = again.communicate(timeout=60)
    assert again.returncode == 1
    assert b"gpu_lost: this worker had NVIDIA H200 here" in said


def test_a_worker_for_a_while_ends_though_its_gpu_is_unfit(server: OrreryServer, gpu: Path) -> None:
    job = server.submit(config=CONFIG)
    gpu.write_text("broken")
    agent = start(server, gpu, "--idle-exit", "1")
    _, said = agent.communicate(timeout=60)
    assert agent.returncode == 0
    assert b"for 1 s" in said
    assert server.job(job["id"])["status"] == "queued"
