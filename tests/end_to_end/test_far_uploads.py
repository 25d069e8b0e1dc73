"""A gigabyte on its way from a host to the server, through the death of either side and of the
network between them: it arrives once, and is listed when it is whole.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import hosts
from tests.cluster import Cluster
from tests.end_to_end.conftest import CONFIG
from tests.hosts import Host

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(hosts.why_not() is not None, reason=str(hosts.why_not())),
]
SIZE = 10**9  # bytes
RATE = 4 * 10**8  # bits a second, so that there is time for what happens
FRAMES = 1514 / 1448  # of Ethernet, over what is in them
UNDER_WAY = 2**24  # bytes that may be lost, and are sent again, at each interruption
DARK_S = 8  # in which whatever is sent is lost
# What an agent leaves that was killed when a training had ended, and its checkpoint was not sent.
LEFT = """
import hashlib, os, sys
from pathlib import Path
from server.wire.workers import WorkerRegistration
from tests.server.conftest import epoch_metrics
from worker.client import WorkerClient
from worker.spool import SpoolWriter
url, data, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
with WorkerClient(url, os.environ["TOKEN"].strip()) as client:
    terms = client.register(WorkerRegistration(name="far", host="far", proof="0" * 32))
    assignment = client.claim(terms.id, "one", 0)
own = data / ".orrery" / "workers" / "far"
path = f"{assignment.output_folder}/model/model_epoch_0000.pt"
file = own / "scratch" / path
file.parent.mkdir(parents=True)
digest = hashlib.sha256()
with file.open("wb") as opened:
    while size > opened.tell():
        piece = os.urandom(min(2**20, size - opened.tell()))
        digest.update(piece)
        opened.write(piece)
state = own / assignment.lease_id
state.mkdir(parents=True)
spool = SpoolWriter(state / "spool.jsonl")
about = {"epoch": 0, "path": path, "bytes": size, "sha256": digest.hexdigest(), "rolling": False}
spool.append("begin", {"first_epoch": 0})
spool.append("epoch", epoch_metrics(0))
spool.append("checkpoint", about)
spool.append("outcome", {"status": "succeeded", "stop_reason": "completed"})
print(path, digest.hexdigest())
"""
LISTED = "until [ $(stat -c %s {path} 2> /dev/null || echo 0) -ge {size} ]; do sleep 0.1; done"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with hosts.hosts(3, tmp_path) as made:
        yield Cluster(made, leases={"ORRERY_HEARTBEAT_INTERVAL_S": "1"})


def sent(host: Host) -> int:
    """Bytes that have left a host."""
    (link,) = json.loads(host.run("ip", "-json", "-stats", "link", "show", "eth0"))
    return link["stats64"]["tx"]["bytes"]


def kill(host: Host, what: str) -> None:
    host.run("pkill", "-KILL", "-f", what)


def checkpoints(cluster: Cluster, job_id: str) -> list[dict[str, Any]]:
    return json.loads(cluster.orrery("checkpoints", job_id, "--json"))


def test_a_gigabyte_arrives_once_through_every_death(cluster: Cluster) -> None:
    (far,) = cluster.workers
    config = cluster.user.folder / "config.json"
    cluster.user.run(
        "sh", "-c", f"cat > {config} <<'END'\n{json.dumps(CONFIG | {'epochs': 1})}\nEND"
    )
    job_id = json.loads(cluster.orrery("submit", str(config), "--json"))["id"]
    scratch = str(far.folder / "scratch")
    left = (sys.executable, "-c", LEFT, cluster.url, scratch, str(SIZE))
    path, sha256 = far.run(*left, TOKEN=cluster.secret("worker")).split()
    place = cluster.server.folder / "data" / path
    partial = place.with_name(f".{place.name}.part")

    def work() -> None:
        cluster.work(far, "--name", "far", "--idle-exit", "1")

    def wait_for(share: float) -> None:
        """Return when so much of it has come; nothing of it is listed then."""
        script = LISTED.format(path=partial, size=int(share * SIZE))
        cluster.server.run("timeout", "120", "sh", "-c", script)
        assert not checkpoints(cluster, job_id)

    far.slow_down(RATE)
    before = sent(far)
    work()
    wait_for(0.2)
    kill(far, "worker")
    work()
    wait_for(0.4)
    kill(cluster.server, "server serve")
    cluster.serve()
    wait_for(0.6)
    far.cut_off()
    far.run("sleep", str(DARK_S))
    far.slow_down(RATE)
    assert "succeeded" in cluster.orrery("watch", job_id)

    (listed,) = checkpoints(cluster, job_id)
    assert (listed["bytes"], listed["sha256"]) == (SIZE, sha256)
    assert cluster.server.run("sha256sum", str(place)).split()[0] == sha256
    total = sent(far) - before
    print(f"{total / 1e6:.1f} MB were sent of {SIZE / 1e6:.0f}")
    assert SIZE < total < FRAMES * SIZE + 3 * UNDER_WAY
