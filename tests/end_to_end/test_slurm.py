"""Workers on a real Slurm cluster of two nodes, as many as there is work for: whatever happens to
them, no job is lost, and none of them is left over.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import hosts, slurm
from tests.cluster import Cluster
from tests.end_to_end.conftest import CONFIG
from tests.patience import until
from tests.scaled import Scaled
from tests.slurm import Slurm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(slurm.why_not() is not None, reason=str(slurm.why_not())),
]
SHORT = {**CONFIG, "epochs": 1, "evaluation_orbits": 0}
LONG = {**CONFIG, "epochs": 100_000, "checkpoint_every": 1, "evaluation_orbits": 0}
OTHERS_JOB = "printf '#!/bin/sh\\nsleep 600\\n' | sbatch --parsable --partition=high --chdir=/"


class SlurmScaled(Scaled):
    """Slurm's controller and `orrery autoscale` are on the server's host."""

    def __init__(self, cluster: Cluster) -> None:
        self.slurm = Slurm(cluster.server, cluster.workers)
        engine = ["slurm", "--logs", f"{cluster.server.folder}/pilots"]
        super().__init__(cluster, engine, self.slurm.environment)

    def pilots(self, state: str = "") -> list[str]:
        """Slurm's ids of workers in a state."""
        lines = (line.split("|") for line in self.slurm.jobs("%A|%j|%T"))
        return [number for number, name, of in lines if "orrery" in name and of.startswith(state)]


@pytest.fixture
def scaled(tmp_path: Path) -> Iterator[SlurmScaled]:
    with hosts.hosts(4, tmp_path) as made:
        yield SlurmScaled(Cluster(made))


def test_there_are_as_many_as_the_queue_is_deep_and_none_when_it_is_empty(
    scaled: SlurmScaled,
) -> None:
    jobs = [scaled.submit(SHORT) for _ in range(4)]
    autoscale = scaled.autoscale("--max", "2", "--idle-exit", "2")
    until(lambda: len(scaled.pilots()) == 2)
    for job_id in jobs:
        assert "succeeded" in scaled.cluster.orrery("watch", job_id)
    until(lambda: not scaled.pilots())  # nobody ended them
    autoscale.end()
    assert "none is left" in autoscale.log()


def test_what_ends_a_worker_costs_no_job(scaled: SlurmScaled) -> None:
    job_id = scaled.submit(LONG)
    autoscale = scaled.autoscale("--max", "1", "--partition", "low")
    scaled.wait_for_attempt(job_id, 1)
    worker = scaled.pilots("RUNNING")

    # Slurm takes the nodes for others' jobs, of a higher priority; the same worker comes again.
    others = [scaled.slurm.ask("sh", "-c", OTHERS_JOB).strip() for _ in range(2)]
    until(lambda: scaled.pilots("PENDING") == worker)  # COMPLETING until its node is cleaned up
    assert scaled.job(job_id)["status"] == "queued"
    scaled.slurm.ask("scancel", *others)
    scaled.wait_for_attempt(job_id, 2)
    assert scaled.pilots("RUNNING") == worker

    scaled.slurm.ask("scancel", *worker)  # by hand
    scaled.wait_for_attempt(job_id, 3)
    assert scaled.pilots("RUNNING") != worker

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


def test_its_time_is_over_before_slurm_ends_it(scaled: SlurmScaled) -> None:
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


def test_a_controller_that_is_killed_finds_its_workers_again(scaled: SlurmScaled) -> None:
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
    until(lambda: "tried again every" in second.log())
    scaled.slurm.start_controller()
    until(lambda: "that is over" in second.log())
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
