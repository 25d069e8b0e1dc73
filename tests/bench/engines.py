"""Workers that come with the work: `python tests/bench/engines.py [--out FILE] [--only NAME …]`.

A queue of short jobs is drained by workers that a cluster of two nodes is asked for once the jobs
are there, and by two that were there before, on the same nodes, in turns. Seconds are from the
first submission to the end of the last job. Needs root, and Slurm or Ray.
"""

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.cluster import Cluster
from tests.hosts import hosts
from tests.patience import until
from tests.ray_cluster import RayCluster
from tests.scaled import Scaled
from tests.slurm import Slurm

Row = dict[str, float]
JOBS, ROUNDS = 200, 2
CONFIG = {
    "save_name": "short",
    "num_orbits": 16,
    "steps_per_epoch": 8,
    "epochs": 4,
    "hidden_dims": [32, 32],
    "replay_steps": 30,
    "evaluation_orbits": 0,
}
DRAIN = """
import json, os, sys, time
from server.client import Client
from server.wire.states import TERMINAL
config, number = json.loads(sys.argv[1]), int(sys.argv[2])
with Client(os.environ["ORRERY_URL"], os.environ["ORRERY_TOKEN"]) as client:
    begun = time.monotonic()
    jobs = [client.submit(config)["id"] for _ in range(number)]
    ended = [client.wait(job) for job in jobs]
    seconds = time.monotonic() - begun
failed = [job for job in ended if job["status"] != "succeeded"]
print(json.dumps({"seconds": seconds, "failed": len(failed)}))
"""


def drain(scaled: Scaled) -> float:
    """Seconds for the queue."""
    words = (sys.executable, "-c", DRAIN, json.dumps(CONFIG), str(JOBS))
    environment = {"ORRERY_URL": scaled.cluster.url, "ORRERY_TOKEN": scaled.cluster.token.strip()}
    done = json.loads(scaled.cluster.user.run(*words, **environment))
    assert not done["failed"], done
    return done["seconds"]


def one_round(make: Callable[[Cluster], Scaled]) -> tuple[float, float]:
    """Seconds by workers that come and go, and by two that stay."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="r", dir="/tmp"))
        scaled = make(Cluster(stack.enter_context(hosts(4, Path(folder)))))
        autoscale = scaled.autoscale("--max", "2", "--idle-exit", "5")
        until(lambda: "0 are wanted" in autoscale.log())
        came = drain(scaled)
        autoscale.end()
        known = len(workers_of(scaled))
        for worker in scaled.cluster.workers:
            scaled.cluster.work(worker)
        until(lambda: len(workers_of(scaled)) == known + len(scaled.cluster.workers))
        return came, drain(scaled)


def workers_of(scaled: Scaled) -> list[Any]:
    """All that registered."""
    return json.loads(scaled.cluster.orrery("workers", "--json"))["data"]


def on_cluster(make: Callable[[Cluster], Scaled]) -> Row:
    """The best of some rounds."""
    rounds = [one_round(make) for _ in range(ROUNDS)]
    came_s, stayed_s = (min(each) for each in zip(*rounds, strict=True))
    return {
        "jobs": JOBS,
        "autoscaled_s": came_s,
        "permanent_s": stayed_s,
        "ratio": stayed_s / came_s,
        "jobs_per_s": JOBS / came_s,
    }


def slurm() -> Row:
    """Two nodes of Slurm."""

    def make(cluster: Cluster) -> Scaled:
        made = Slurm(cluster.server, cluster.workers)
        engine = ["slurm", "--logs", f"{cluster.server.folder}/pilots"]
        return Scaled(cluster, engine, made.environment)

    return on_cluster(make)


def ray() -> Row:
    """Two nodes of Ray."""

    def make(cluster: Cluster) -> Scaled:
        made = RayCluster(cluster.server, cluster.workers)
        return Scaled(cluster, ["ray"], made.environment)

    return on_cluster(make)


BENCHMARKS: dict[str, Callable[[], Row]] = {"slurm": slurm, "ray": ray}


def main() -> None:
    """Run them, and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--out", type=Path, help="file for the results, as JSON")
    parser.add_argument("--only", nargs="*", choices=BENCHMARKS, default=list(BENCHMARKS))
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for name in options.only:
        results[name] = BENCHMARKS[name]()
        print(name, json.dumps(results[name]), flush=True)
    if options.out is not None:
        content = {"machine": platform.platform(), "results": results}
        options.out.write_text(f"{json.dumps(content, indent=2)}\n")


if __name__ == "__main__":
    main()
