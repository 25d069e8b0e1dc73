"""The real service: `orrery up` with its server, worker agents and training processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from server.cli.local_service import free_port
from server.client import Client
from server.wire.states import TERMINAL
from tests.process_tree import command_line, descendants, leads_session

EPOCHS = 30
CONFIG: dict[str, Any] = {
    "save_name": "end_to_end",
    "num_orbits": 32,
    "resample_each_epoch": True,
    "steps_per_epoch": 8,
    "epochs": EPOCHS,
    "replay_steps": 30,
    "replay_batch_size": 64,
    "hidden_dims": [32, 32],
    "dropout": 0.1,
    "lr": 1e-3,
    "min_efficiency": 1.0,
    "checkpoint_every": 7,
    "evaluation_orbits": 4,
    "seed": 11,
}


@dataclass
class Running:
    """A service that was started for one test."""

    process: "subprocess.Popen[bytes]"
    data: Path
    client: Client

    def pid_of(self, *words: str) -> int:
        """The process under `up` whose command line holds these words."""
        for pid in descendants(self.process.pid):
            if all(word in command_line(pid) for word in words):
                return pid
        raise AssertionError(f"no process {words} runs")

    def agent(self, number: int = 0) -> int:
        """The process id of a worker agent."""
        return self.pid_of("worker", "--name", f"up-{number}")

    def training(self, number: int = 0) -> int:
        """The process id of an agent's training process: it leads a session of its own."""
        leaders = [pid for pid in descendants(self.agent(number)) if leads_session(pid)]
        assert len(leaders) == 1, leaders
        return leaders[0]

    def wait_for_epoch(self, job_id: str, epoch: int) -> None:
        """Return once an epoch is on record, and the job is not over."""
        self.wait_until(job_id, lambda job: job["progress"]["epochs_done"] > epoch)

    def wait_until(self, job_id: str, met: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The job, as soon as a condition is met."""
        job, version = self.client.job_with_version(job_id)
        while not met(job):
            assert job["status"] not in TERMINAL, job
            job, version = self.client.job_with_version(job_id, wait=5, version=version)
        return job

    def series(self, job_id: str) -> list[dict[str, Any]]:
        """Every epoch's metrics, without wall times."""
        rows = list(self.client.all_metrics(job_id))
        for row in rows:
            del row["epoch_time"]
        return rows


@contextmanager
def running(data: Path, workers: int = 1, **settings: str) -> Iterator[Running]:
    """`orrery up` on a free port, ended at the end."""
    port = free_port("127.0.0.1")
    environment = {
        **os.environ,
        "ORRERY_LEASE_TTL_S": "3",
        "ORRERY_HEARTBEAT_INTERVAL_S": "0.2",
        **settings,
    }
    command = [sys.executable, "-m", "server", "up", "--data", str(data), "--port", str(port)]
    with (data.parent / "service.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--workers", str(workers)],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        with Client(url) as probe:
            probe.wait_until_ready(60)
        token = (data / ".orrery" / "admin.token").read_text().strip()
        with Client(url, token) as client:
            yield Running(process, data, client)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    assert code == 0, (data.parent / "service.log").read_text()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Running]:
    """A service with one worker."""
    with running(tmp_path / "data") as started:
        yield started


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The metric series of CONFIG when nothing happens."""
    data = tmp_path_factory.mktemp("undisturbed") / "data"
    with running(data) as started:
        job = started.client.wait(started.client.submit(CONFIG)["id"])
        assert job["status"] == "succeeded", job
        return started.series(job["id"])
