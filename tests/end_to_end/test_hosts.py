"""Several hosts, none of which sees a folder of another: trained on one, lost, gone on with on the
next, simulated on a third, and all of it at home by one command.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import hosts
from tests.end_to_end.conftest import CONFIG, EPOCHS
from tests.hosts import Host

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(hosts.why_not() is not None, reason=str(hosts.why_not())),
]
Series = list[dict[str, Any]]
ORRERY = (sys.executable, "-m", "server")
# Ends once a job has come so far; `epoch` or a status.
AWAIT = """
import os, sys
from server.client import Client
from server.wire.states import TERMINAL
job_id, wanted = sys.argv[1:]
with Client(os.environ["ORRERY_URL"], os.environ["ORRERY_TOKEN"]) as client:
    client.wait_until_ready(60)
    job, version = client.job_with_version(job_id) if job_id else (None, None)
    while job and job["progress"]["epochs_done"] <= int(wanted):
        assert job["status"] not in TERMINAL, job
        job, version = client.job_with_version(job_id, wait=5, version=version)
"""
LEASES = {"ORRERY_LEASE_TTL_S": "3", "ORRERY_HEARTBEAT_INTERVAL_S": "0.2"}


class Cluster:
    """A server, hosts for workers, and a user's, each for itself."""

    def __init__(self, made: list[Host]) -> None:
        self.server, self.user, *self.workers = made
        self.url = f"http://{self.server.address}:8080"
        serve = (*ORRERY[1:], "serve", "--host", "0.0.0.0", "--port", "8080")
        self.server.python("log", *serve, "--data", str(self.server.folder / "data"), **LEASES)
        self.user.run(sys.executable, "-c", AWAIT, "", "", ORRERY_URL=self.url, ORRERY_TOKEN="x")
        self.token = self._secret("admin")

    def _secret(self, role: str) -> str:
        return self.server.run("cat", str(self.server.folder / f"data/.orrery/{role}.token"))

    def orrery(self, *arguments: str) -> str:
        """What a command of the user prints."""
        return self._ask(*ORRERY, *arguments)

    def wait_for_epoch(self, job_id: str, epoch: int) -> None:
        """Return once an epoch is on record."""
        self._ask(sys.executable, "-c", AWAIT, job_id, str(epoch))

    def _ask(self, *command: str) -> str:
        return self.user.run(*command, ORRERY_URL=self.url, ORRERY_TOKEN=self.token.strip())

    def work(self, host: Host) -> None:
        """Start a worker, with a folder of its own."""
        host.run(
            "sh", "-c", f'printf %s "$TOKEN" > {host.folder}/token', TOKEN=self._secret("worker")
        )
        options = (
            "--data",
            str(host.folder / "scratch"),
            "--token-file",
            str(host.folder / "token"),
        )
        host.python("log", "-m", "worker", "--server", self.url, *options)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with hosts.hosts(5, tmp_path) as made:
        yield Cluster(made)


def listing(host: Host) -> str:
    return host.run("find", str(host.folder))


def test_a_job_outlives_its_host_and_everything_comes_home(
    cluster: Cluster, undisturbed: Series, tmp_path: Path
) -> None:
    first, second, third = cluster.workers
    config = cluster.user.folder / "config.json"
    cluster.user.run("sh", "-c", f"cat > {config} <<'END'\n{json.dumps(CONFIG)}\nEND")
    cluster.work(first)
    job_id = json.loads(cluster.orrery("submit", str(config), "--name", "far", "--json"))["id"]
    cluster.wait_for_epoch(job_id, 9)
    first.lose()
    cluster.work(second)
    assert "succeeded" in cluster.orrery("watch", job_id)
    attempts = json.loads(cluster.orrery("attempts", job_id, "--json"))["data"]
    assert [each["first_epoch"] > 0 for each in attempts] == [False, True]
    cluster.work(third)
    second.lose()
    simulated = json.loads(cluster.orrery("simulate", job_id, "--set", "Nperiod=1", "--json"))["id"]
    assert "succeeded" in cluster.orrery("watch", simulated)

    home = cluster.user.folder / "home"
    cluster.orrery("download", job_id, simulated, "--to", str(home))
    found = cluster.user.run("find", str(home), "-type", "f", "-printf", "%P\n").split()
    names = {name.split("/", 1)[1] for name in found}
    assert {f"model_epoch_{n:04d}.pt" for n in (0, 7, 14, 21, 28, 29)} <= names
    assert {"simulation.npz", "orbit.json", "held_out.json", "metrics.jsonl", "log.txt"} <= names
    text = cluster.user.run("sh", "-c", f"cat {home}/far-{job_id}/metrics.jsonl")
    series = [json.loads(line) for line in text.splitlines()]
    for row in series:
        del row["epoch_time"]
    assert len(series) == EPOCHS
    assert series == undisturbed
    assert not list(tmp_path.iterdir())  # this side sees nothing of all that
    assert "data" not in listing(third)
    assert "scratch" not in listing(cluster.server)
