"""Workers on a real Ray cluster of a head and two nodes, as many as there is work for."""

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import hosts, ray_cluster
from tests.cluster import Cluster
from tests.end_to_end.conftest import CONFIG
from tests.patience import until
from tests.ray_cluster import RayCluster
from tests.scaled import Scaled

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(ray_cluster.why_not() is not None, reason=str(ray_cluster.why_not())),
]
SHORT = {**CONFIG, "epochs": 1, "evaluation_orbits": 0}
LONG = {**CONFIG, "epochs": 100_000, "checkpoint_every": 1, "evaluation_orbits": 0}


class RayScaled(Scaled):
    """Ray's head and `orrery autoscale` are on the server's host."""

    def __init__(self, cluster: Cluster) -> None:
        self.ray = RayCluster(cluster.server, cluster.workers)
        super().__init__(cluster, ["ray"], self.ray.environment)

    def host_of(self, pilot: str) -> int:
        """Which of the nodes a worker runs on."""
        for number, node in enumerate(self.cluster.workers):
            if "found" in node.run(
                "sh", "-c", 'pgrep -f "name $0" > /dev/null && echo found || true', pilot
            ):
                return number
        raise AssertionError(f"{pilot} runs nowhere")


@pytest.fixture
def scaled() -> Iterator[RayScaled]:
    with (
        tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder,  # a short name
        hosts.hosts(4, Path(folder)) as made,
    ):
        yield RayScaled(Cluster(made))


def test_workers_come_with_the_work_and_whatever_ends_them_costs_no_job(scaled: RayScaled) -> None:
    short = [scaled.submit(SHORT) for _ in range(3)]
    autoscale = scaled.autoscale("--max", "2", "--idle-exit", "2")
    until(lambda: len(scaled.ray.pilots()) == 2)
    for job_id in short:
        assert "succeeded" in scaled.cluster.orrery("watch", job_id)
    until(lambda: not scaled.ray.pilots())  # nobody ended them

    job_id = scaled.submit(LONG)
    scaled.wait_for_attempt(job_id, 1)
    (pilot,) = scaled.ray.pilots()

    # The controller is killed; the next one finds the worker.
    autoscale.end(signal.SIGKILL)
    autoscale = scaled.autoscale("--max", "2", log="second.log")
    until(lambda: "1 run" in autoscale.log())
    scaled.wait_for_attempt(job_id, 1)
    assert scaled.ray.pilots() == [pilot]

    # The node is lost with all that is on it.
    scaled.cluster.workers.pop(scaled.host_of(pilot)).lose()
    scaled.wait_for_attempt(job_id, 2)
    assert pilot not in scaled.ray.pilots()

    # More than there is room for: what waits is taken back when nobody needs it any more.
    others = [scaled.submit(LONG) for _ in range(2)]
    until(lambda: len(scaled.ray.pilots()) == 2)
    scaled.cluster.orrery("cancel", *others)
    until(lambda: len(scaled.ray.pilots()) == 1)
    autoscale.end()
    assert "none is left" in autoscale.log()
    assert scaled.ray.pilots() == []
    assert scaled.job(job_id)["status"] == "queued"  # with a checkpoint, for the next one
    processes = scaled.cluster.workers[0].run("sh", "-c", "pgrep -f '[m] worker' || true")
    assert not processes
