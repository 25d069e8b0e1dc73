"""Real workers that end by themselves: after jobs, when idle, before a time, at a batch system's
warning. What they had goes on with the next one.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.client import Client
from tests.end_to_end.conftest import CONFIG
from tests.server.conftest import OrreryServer

pytestmark = pytest.mark.slow
SHORT = {**CONFIG, "epochs": 2, "evaluation_orbits": 0}
LONG = {**CONFIG, "epochs": 10**6}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OrreryServer]:
    with OrreryServer(tmp_path / "data", lease_ttl_s=6, heartbeat_interval_s=0.2) as running:
        yield running


def worker(server: OrreryServer, *options: str, apart: Path | None = None) -> Any:
    command = [sys.executable, "-m", "worker", "--server", server.url, *options]
    command += ["--data", str(apart or server.settings.data)]
    command += ["--token-file", str(server.settings.worker_token_path)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def ended(process: Any) -> str:
    """What it said, once it ended well."""
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return said


def until_epoch(server: OrreryServer, job_id: str, epoch: int) -> None:
    """Return once an epoch is on record."""
    with Client(server.url, server.admin_token) as client:
        job, version = client.job_with_version(job_id)
        while job["progress"]["epochs_done"] <= epoch:
            job, version = client.job_with_version(job_id, wait=5, version=version)


def test_once_is_one_job(server: OrreryServer) -> None:
    jobs = [server.submit(config=SHORT)["id"] for _ in range(2)]
    assert "no more than 1" in ended(worker(server, "--once"))
    assert [server.job(job)["status"] for job in jobs] == ["succeeded", "queued"]


def test_a_worker_that_finds_nothing_ends(server: OrreryServer, tmp_path: Path) -> None:
    job = server.submit(config=SHORT)["id"]
    assert "for 1 s" in ended(worker(server, "--idle-exit", "1", apart=tmp_path / "own"))
    assert server.job(job)["status"] == "succeeded"


@pytest.mark.parametrize("warning", [None, signal.SIGUSR1])
def test_before_its_time_is_over_it_hands_back_what_the_next_one_goes_on_with(
    server: OrreryServer, tmp_path: Path, warning: signal.Signals | None
) -> None:
    job_id = server.submit(config=LONG)["id"]
    first = worker(server, "--until", "80s" if warning is None else "1d", apart=tmp_path / "a")
    until_epoch(server, job_id, 2)
    if warning is not None:
        first.send_signal(warning)
    said = ended(first)
    assert ("nearly over" in said) is (warning is None)
    job = server.job(job_id)
    assert job["status"] == "queued"
    second = worker(server, apart=tmp_path / "b")
    until_epoch(server, job_id, job["progress"]["epochs_done"])
    second.terminate()
    ended(second)
    attempts = server.admin.get(f"/v1/jobs/{job_id}/attempts").json()["data"]
    assert [each["first_epoch"] for each in attempts] == [0, job["progress"]["epochs_done"]]


def test_nothing_of_a_job_stays_on_a_worker_with_a_folder_of_its_own(
    server: OrreryServer, tmp_path: Path
) -> None:
    trained = server.submit(config=SHORT)["id"]
    ended(worker(server, "--once"))
    body = {"kind": "simulate", "stepper": {"job": trained}, "config": {"Nperiod": 1}}
    simulated = server.admin.post("/v1/jobs", json=body).json()["id"]
    ended(worker(server, "--once", "--name", "other", apart=tmp_path / "own"))
    assert server.job(simulated)["status"] == "succeeded"
    own = tmp_path / "own" / ".orrery" / "workers" / "other"
    assert not list((own / "scratch").iterdir())
    assert len(list((own / "cache").iterdir())) == 1  # the stepper, for the next simulation
