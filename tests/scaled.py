"""A server, and `orrery autoscale` beside it, on hosts of a cluster that somebody else runs."""

import json
import signal
from collections.abc import Mapping
from typing import Any

from tests.cluster import Cluster
from tests.hosts import Host
from tests.patience import until


class Scaled:
    """Workers' hosts have a folder `pilots` and the worker's token.

    Args:
        engine: words of `orrery autoscale` that say where workers run.
        environment: that it needs.
    """

    def __init__(self, cluster: Cluster, engine: list[str], environment: Mapping[str, str]) -> None:
        self.cluster, self.head = cluster, cluster.server
        self._engine, self._environment = engine, environment
        for host in (cluster.server, *cluster.workers):
            script = 'mkdir "$0/pilots" && printf %s "$TOKEN" > "$0/token"'
            host.run("sh", "-c", script, str(host.folder), TOKEN=cluster.secret("worker"))

    def autoscale(self, *more: str, log: str = "autoscale.log") -> "Autoscale":
        """Start it."""
        folder = self.head.folder
        words = ["autoscale", *self._engine, "--server", self.cluster.url, "--interval", "0.5"]
        words += ["--data", f"{folder}/scratch", "--token-file", f"{folder}/token", *more]
        process = self.head.python(log, "-m", "server", *words, **self._environment)
        return Autoscale(self.head, process, str(folder / log))

    def submit(self, config: dict[str, Any]) -> str:
        """A job's id."""
        path = self.cluster.user.folder / "config.json"
        self.cluster.user.run("sh", "-c", 'printf %s "$0" > "$1"', json.dumps(config), str(path))
        return json.loads(self.cluster.orrery("submit", str(path), "--json"))["id"]

    def job(self, job_id: str) -> dict[str, Any]:
        """As the user sees it."""
        return json.loads(self.cluster.orrery("show", job_id, "--json"))

    def attempts(self, job_id: str) -> list[dict[str, Any]]:
        """At a job, the first one first."""
        return json.loads(self.cluster.orrery("attempts", job_id, "--json"))["data"]

    def wait_for_attempt(self, job_id: str, number: int) -> None:
        """Return once an attempt at a job, the last so far, has come some epochs further."""
        until(lambda: len(self.attempts(job_id)) == number, seconds=120)
        done = self.job(job_id)["progress"]["epochs_done"]
        self.cluster.wait_for_epoch(job_id, done + 3)
        assert len(self.attempts(job_id)) == number


class Autoscale:
    """One that runs."""

    def __init__(self, head: Host, process: Any, log: str) -> None:
        self._head, self._process, self._log = head, process, log

    def log(self) -> str:
        """What it has printed."""
        return self._head.run("sh", "-c", f"cat {self._log} || true")

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it by a signal, and wait."""
        self._head.run("pkill", f"-{number}", "-f", "server autoscale")
        self._process.wait()
