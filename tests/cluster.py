"""A server, hosts of workers and a user's, each with a network and folders of its own."""

import sys

from tests.hosts import Host

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

    def __init__(self, made: list[Host], leases: dict[str, str] = LEASES) -> None:
        self._leases = leases
        self.server, self.user, *self.workers = made
        self.url = f"http://{self.server.address}:8080"
        self.serve()
        self.token = self.secret("admin")

    def serve(self) -> None:
        """Start the server; it answers."""
        serve = (*ORRERY[1:], "serve", "--host", "0.0.0.0", "--port", "8080")
        self.server.python(
            "log", *serve, "--data", str(self.server.folder / "data"), **self._leases
        )
        self.user.run(sys.executable, "-c", AWAIT, "", "", ORRERY_URL=self.url, ORRERY_TOKEN="x")

    def secret(self, role: str) -> str:
        """The token that the server has made for a role."""
        return self.server.run("cat", str(self.server.folder / f"data/.orrery/{role}.token"))

    def orrery(self, *arguments: str) -> str:
        """What a command of the user prints."""
        return self._ask(*ORRERY, *arguments)

    def wait_for_epoch(self, job_id: str, epoch: int) -> None:
        """Return once an epoch is on record."""
        self._ask(sys.executable, "-c", AWAIT, job_id, str(epoch))

    def _ask(self, *command: str) -> str:
        return self.user.run(*command, ORRERY_URL=self.url, ORRERY_TOKEN=self.token.strip())

    def work(self, host: Host, *more: str) -> None:
        """Start a worker, with a folder of its own.

        Args:
            more: options.
        """
        host.run(
            "sh", "-c", f'printf %s "$TOKEN" > {host.folder}/token', TOKEN=self.secret("worker")
        )
        options = (
            "--data",
            str(host.folder / "scratch"),
            "--token-file",
            str(host.folder / "token"),
        )
        host.python("log", "-m", "worker", "--server", self.url, *options, *more)
