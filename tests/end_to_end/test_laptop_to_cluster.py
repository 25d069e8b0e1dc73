"""The README's three steps from a laptop to a cluster, line by line, on the hosts they are for."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import hosts, slurm
from tests.end_to_end.conftest import CONFIG
from tests.hosts import Host
from tests.patience import until
from tests.slurm import Slurm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(slurm.why_not() is not None, reason=str(slurm.why_not())),
]
ROOT = Path(__file__).parents[2]
COMMANDS = Path(sys.executable).parent
SHORT = {**CONFIG, "epochs": 2}


def steps() -> dict[str, list[str]]:
    """The lines of each step, by its number."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (block,) = [found for found in blocks if "orrery autoscale" in found]
    _, *parts = re.split(r"^# (\d)\. .*\n", block, flags=re.MULTILINE)
    return dict(zip(parts[::2], [part.splitlines() for part in parts[1::2]], strict=True))


class Place:
    """A host whose user works in its folder."""

    def __init__(self, host: Host, names: str, environment: dict[str, str]) -> None:
        self.host = host
        path = f"{COMMANDS}:/usr/sbin:/usr/bin:/sbin:/bin"
        self._environment = {"PATH": path, "TMPDIR": str(host.folder), **environment}
        own = 'cd "$0" && mkdir pilots orrery-logs && printf %s "$NAMES" > hosts'
        host.run(
            "sh", "-c", f"{own} && mount --bind hosts /etc/hosts", str(host.folder), NAMES=names
        )

    def start(self, line: str) -> None:
        """Type a line that goes on and on."""
        shell = ["bash", "-c", f'cd "$0" && {line}', str(self.host.folder)]
        self.host.start("typed.log", *shell, **self._environment)

    def run(self, line: str) -> str:
        """What a line prints."""
        shell = ["bash", "-euc", f'cd "$0" && {line}', str(self.host.folder)]
        return self.host.run(*shell, **self._environment)

    def end(self, what: str) -> None:
        """Ctrl-C."""
        self.host.run("pkill", "-INT", "-f", what)
        others = f"{what[:-1]}[{what[-1]}]"  # not the shell that looks
        until(lambda: not self.host.run("sh", "-c", f"pgrep -f '{others}' || true"))

    def has_worked(self, server: "Place", name: str) -> bool:
        """Whether a worker called so has done one job more that is submitted now."""
        job_id = server.run("orrery submit config.json").strip()
        assert "succeeded" in server.run(f"orrery watch {job_id}")
        attempts = json.loads(server.run(f"orrery attempts {job_id} --json"))["data"]
        workers = json.loads(server.run("orrery workers --json"))["data"]
        names = {worker["id"]: worker["name"] for worker in workers}
        return name in names[attempts[-1]["worker_id"]]


@pytest.fixture
def places(tmp_path: Path) -> Iterator[list[Place]]:
    with hosts.hosts(3, tmp_path) as made:
        cluster = Slurm(made[0], made[1:])
        names = f"127.0.0.1 localhost\n{made[0].address} orrery.example.org\n"
        yield [Place(host, names, cluster.environment) for host in made]


def test_three_steps(places: list[Place]) -> None:
    laptop, node, _ = places
    written = steps()
    assert list(written) == ["1", "2", "3"]
    (up,), (serve, work), (autoscale,) = written.values()

    laptop.run(f"echo '{json.dumps(SHORT)}' > config.json")
    laptop.start(up)
    until(lambda: "Ctrl-C stops it" in laptop.run("cat typed.log || true"))
    assert laptop.has_worked(laptop, "up-0")
    laptop.end("orrery up")

    laptop.start(serve)
    until(lambda: "ok" in laptop.run("curl -sf localhost:8080/readyz || true"))
    token = laptop.run("cat data/.orrery/worker.token").strip()
    for place in places:
        place.run(f"printf %s {token} > worker.token")
    node.start(work)
    assert node.has_worked(laptop, "")
    node.end("m worker")

    laptop.start(autoscale)
    assert node.has_worked(laptop, "orrery-")
    # What was trained on the laptop, on a host and on the cluster is in one list.
    listed = json.loads(laptop.run("orrery jobs --json"))["data"]
    assert [job["status"] for job in listed] == ["succeeded"] * 3
    laptop.end("orrery autoscale")
    assert not laptop.run("squeue --noheader")
