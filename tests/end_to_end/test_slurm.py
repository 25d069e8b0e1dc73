"""Workers on a real Slurm cluster of two nodes, as many as there is work for: whatever happens to
them, no job is lost, and none of them is left over.
"""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import hosts, slurm
from tests.cluster import Cluster
from tests.end_to_end.conftest import CONFIG
from tests.patience import until
from tests.slurm import Slurm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(slurm.why_not() is not None, reason=str(slurm.why_not())),
]
SHORT = {**CONFIG, "epochs": 1, "evaluation_orbits": 0}
LONG = {**CONFIG, "epochs": 100_000, "checkpoint_every": 1, "evaluation_orbits": 0}
OTHERS_JOB = "printf '#!/bin/sh\\nsleep 600\\n' | sbatch --parsable --partition=high --chdir=/"


class Scaled:
    """A server with Slurm's controller and `orrery autoscale` beside it, and two nodes."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.head = cluster, cluster.server
        self.slurm = Slurm(cluster.server, cluster.workers)
        for host in (cluster.server, *cluster.workers):
            script = 'mkdir "$0/pilots" && printf %s "$TOKEN" > "$0/token"'
            host.run("sh", "-c", script, str(host.folder), TOKEN=cluster.secret("worker"))

    def autoscale(self, *more: str, log: str = "autoscale.log") -> "Autoscale":
        """Start it."""
        folder = self.head.folder
        words = ["autoscale", "slurm", "--server", self.cluster.url, "--interval", "0.5"]
        words += ["--data", f"{folder}/scratch", "--token-file", f"{folder}/token"]
        words += ["--logs", f"{folder}/pilots", *more]
        process = self.head.python(log, "-m", "server", *words, **self.slurm.environment)
        return Autoscale(self, process, str(folder / log))

    def submit(self, config: dict[str, Any]) -> str:
        """A job's id."""
        path = self.cluster.user.folder / "config.json"
        self.cluster.user.run("sh", "-c", 'printf %s "$0" > "$1"', json.dumps(config), str(path))
        return json.loads(self.cluster.orrery("submit", str(path), "--json"))["id"]

    def job(self, job_id: str) -> dict[str, Any]:
        return json.loads(self.cluster.orrery("show", job_id, "--json"))

    def attempts(self, job_id: str) -> list[dict[str, Any]]:
        return json.loads(self.cluster.orrery("attempts", job_id, "--json"))["data"]

    def pilots(self, state: str = "") -> list[str]:
        """Slurm's ids of workers in a state."""
        lines = (line.split("|") for line in self.slurm.jobs("%A|%j|%T"))
        return [number for number, name, of in lines if "orrery" in name and of.startswith(state)]

    def wait_for_attempt(self, job_id: str, number: int) -> None:
        """Return once an attempt at a job, the last so far, has come some epochs further."""
        until(lambda: len(self.attempts(job_id)) == number, seconds=120)
        done = self.job(job_id)["progress"]["epochs_done"]
        self.cluster.wait_for_epoch(job_id, done + 3)
        assert len(self.attempts(job_id)) == number


class Autoscale:
    """One that runs."""

    def __init__(self, scaled: Scaled, process: Any, log: str) -> None:
        self._scaled, self._process, self._log = scaled, process, log

    def log(self) -> str:
        """What it has printed."""
        return self._scaled.head.run("sh", "-c", f"cat {self._log} || true")

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it by a signal, and wait."""
        self._scaled.head.run("pkill", f"-{number}", "-f", "server autoscale")
        self._process.wait()


@pytest.fixture
def scaled(tmp_path: Path) -> Iterator[Scaled]:
    with hosts.hosts(4, tmp_path) as made:
        yield Scaled(Cluster(made))


def test_there_are_as_many_as_the_queue_is_deep_and_none_when_it_is_empty(scaled: Scaled) -> None:
    jobs = [scaled.submit(SHORT) for _ in range(4)]
    autoscale = scaled.autoscale("--max", "2", "--idle-exit", "2")
    until(lambda: len(scaled.pilots()) == 2)
    for job_id in jobs:
        assert "succeeded" in scaled.cluster.orrery("watch", job_id)
    until(lambda: not scaled.pilots())  # nobody ended them
    workers = {attempt["worker_id"] for job_id in jobs for attempt in scaled.attempts(job_id)}
    assert len(workers) == 2
    autoscale.end()
    assert "none is left" in autoscale.log()


def test_what_ends_a_worker_costs_no_job(scaled: Scaled) -> None:
    job_id = scaled.submit(LONG)
    autoscale = scaled.autoscale("--max", "1", "--partition", "low")
    scaled.wait_for_attempt(job_id, 1)

    # Slurm takes the nodes for others' jobs, of a higher priority; the same worker comes again.
    others = [scaled.slurm.ask("sh", "-c", OTHERS_JOB).strip() for _ in range(2)]
    until(lambda: not scaled.pilots("RUNNING"))
    until(lambda: scaled.job(job_id)["status"] == "queued")
    (waiting,) = scaled.pilots("PENDING")
    scaled.slurm.ask("scancel", *others)
    scaled.wait_for_attempt(job_id, 2)
    assert scaled.pilots("RUNNING") == [waiting]

    scaled.slurm.ask("scancel", waiting)  # by hand
    scaled.wait_for_attempt(job_id, 3)
    assert scaled.pilots("RUNNING") != [waiting]

    # Its node is lost with all that is on it.
    (node,) = [line for line in scaled.slurm.jobs("%N") if line]
    scaled.slurm.nodes[node].lose()
    scaled.wait_for_attempt(job_id, 4)
    # All began where the one before had ended; what was lost with its host, at a checkpoint.
    firsts = [each["first_epoch"] for each in scaled.attempts(job_id)]
    assert firsts == sorted(set(firsts))
    autoscale.end()
    assert not scaled.pilots()
    assert scaled.job(job_id)["status"] == "queued"  # with a checkpoint, for the next one


def test_its_time_is_over_before_slurm_ends_it(scaled: Scaled) -> None:
    job_id = scaled.submit(LONG)
    autoscale = scaled.autoscale("--max", "1", "--time", "1")
    scaled.wait_for_attempt(job_id, 1)
    scaled.wait_for_attempt(job_id, 2)
    first, second = scaled.attempts(job_id)
    assert first["status"] == "stopped"
    assert second["first_epoch"] > 3
    printed = [
        host.run("sh", "-c", f"cat {scaled.head.folder}/pilots/*.log || true")
        for host in scaled.cluster.workers
    ]
    assert "its time is nearly over: jobs are handed back" in "".join(printed)
    assert "CANCELLED" not in "".join(printed)  # as Slurm says of what it ends
    autoscale.end()
    assert not scaled.pilots()


def test_a_controller_that_is_killed_finds_its_workers_again(scaled: Scaled) -> None:
    job_id = scaled.submit(LONG)
    first = scaled.autoscale("--max", "2", "--min", "2")
    scaled.wait_for_attempt(job_id, 1)
    until(lambda: len(scaled.pilots("RUNNING")) == 2)
    pilots = scaled.pilots()
    first.end(signal.SIGKILL)
    second = scaled.autoscale("--max", "2", "--min", "2", log="second.log")
    until(lambda: "2 run" in second.log())

    # Slurm's own is killed, too: nothing is known, so nothing is changed.
    scaled.head.run("pkill", "-KILL", "slurmctld")
    until(lambda: "nothing is changed" in second.log())
    scaled.slurm.start_controller()
    until(lambda: "it answers again" in second.log())
    scaled.wait_for_attempt(job_id, 1)
    assert scaled.pilots() == pilots

    # Full: what waits is taken back when nobody needs it any more.
    second.end()
    assert not scaled.pilots()
    assert scaled.job(job_id)["status"] == "queued"
    for _ in range(2):
        scaled.slurm.ask("sh", "-c", OTHERS_JOB)
    third = scaled.autoscale("--max", "3", "--partition", "low", log="third.log")
    until(lambda: len(scaled.pilots("PENDING")) == 1)
    until(lambda: "it says: Resources" in third.log() or "it says: Priority" in third.log())
    scaled.cluster.orrery("cancel", job_id)
    until(lambda: not scaled.pilots())
    third.end()
