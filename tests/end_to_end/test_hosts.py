"""Several hosts, none of which sees a folder of another: trained on one, lost, gone on with on the
next, simulated on a third, and all of it at home by one command.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import hosts
from tests.cluster import Cluster
from tests.end_to_end.conftest import CONFIG, EPOCHS
from tests.hosts import Host

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(hosts.why_not() is not None, reason=str(hosts.why_not())),
]
Series = list[dict[str, Any]]


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
