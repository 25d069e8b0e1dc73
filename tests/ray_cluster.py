"""A Ray cluster: a head and nodes, each on a host of its own."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from tests import hosts
from tests.hosts import Host
from tests.patience import until

RAY = str(Path(sys.executable).parent / "ray")
STORE = "--object-store-memory=80000000"  # bytes, the least that it takes
COUNT = """
import ray
ray.init(address="auto", log_to_driver=False, configure_logging=False)
print(sum(node["Alive"] for node in ray.nodes()))
"""
PILOTS = """
import ray
ray.init(address="auto", log_to_driver=False, configure_logging=False)
names = ray.util.list_named_actors(all_namespaces=True)
print(*(each["name"] for each in names if each["namespace"].startswith("orrery-")), sep="\\n")
"""


def why_not() -> str | None:
    """Why there can be none here, if so."""
    return hosts.why_not() if importlib.util.find_spec("ray") else "needs Ray"


class RayCluster:
    """Runs until its hosts end; their folder has a short name, for its sockets are below it.

    Args:
        head: where nothing else runs.
        nodes: where workers run, one on each.
    """

    def __init__(self, head: Host, nodes: Sequence[Host]) -> None:
        self.head, self.nodes = head, nodes
        self.address = f"{head.address}:6379"
        self.environment = {
            "RAY_ADDRESS": self.address,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_health_check_initial_delay_ms": "500",
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_failure_threshold": "3",
        }
        own = ("--head", "--port=6379", "--num-cpus=0", "--include-dashboard=false")
        self._start(head, *own, f"--temp-dir={head.folder}/ray")
        until(
            lambda: (
                "ray_process_exit"
                in head.run("sh", "-c", "cat $0/ray.out || true", str(head.folder))
            )
        )
        for node in nodes:
            self._start(node, f"--address={self.address}", "--num-cpus=1")
        until(lambda: self._ask(COUNT).strip() == str(1 + len(nodes)))

    def _start(self, host: Host, *options: str) -> None:
        words = (RAY, "start", f"--node-ip-address={host.address}", STORE, "--block", *options)
        host.start("ray.out", *words, **self.environment)

    def pilots(self) -> list[str]:
        """Names of actors that have not ended."""
        return self._ask(PILOTS).split()

    def _ask(self, script: str) -> str:
        return self.head.run(sys.executable, "-c", script, **self.environment)
