"""A real Prometheus scrapes the server; promtool finds nothing to mend, the board's queries run.

Skipped where Debian's `prometheus` is not installed.
"""

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.conftest import OrreryServer, epoch_metrics

BOARD = Path(__file__).parents[2] / "docker" / "grafana.json"
PATIENCE_S = 60.0
CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: orrery
    authorization: {{credentials_file: {token}}}
    static_configs: [{{targets: ["{target}"]}}]
"""


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def busy(server: OrreryServer) -> None:
    """Something of everything that is counted."""
    _, assignment = server.start(config={"epochs": 2})
    server.report(assignment["lease_id"], first_epoch=0, epochs=[epoch_metrics(0)])
    server.finish(assignment["lease_id"])
    server.submit()
    server.admin.get("/v1/jobs")


def test_promtool_finds_nothing_to_mend(server: OrreryServer) -> None:
    busy(server)
    text = server.admin.get("/metrics").text
    checked = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


class Prometheus:
    """Asks a running one."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=5, trust_env=False)

    def ask(self, query: str) -> list[dict[str, Any]]:
        """What a query finds.

        Raises:
            AssertionError: Prometheus does not understand it.
        """
        response = self.http.get("/api/v1/query", params={"query": query})
        if response.status_code == 503:  # it is starting
            return []
        answer = response.json()
        assert answer["status"] == "success", f"{query}: {answer}"
        return answer["data"]["result"]

    def until(self, query: str) -> list[dict[str, Any]]:
        """The same, once it finds something."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                if found := self.ask(query):
                    return found
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"nothing was ever found by {query}")


@pytest.fixture
def prometheus(server: OrreryServer, tmp_path: Path) -> Iterator[Prometheus]:
    program = tool("prometheus")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = tmp_path / "token"
    token.write_text(server.new_token("viewer", "prometheus"))
    config = tmp_path / "prometheus.yml"
    config.write_text(CONFIG.format(token=token, target=server.url.removeprefix("http://")))
    command = [program, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    command.append(f"--web.listen-address=127.0.0.1:{port}")
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    asked = Prometheus(f"http://127.0.0.1:{port}")
    yield asked
    asked.http.close()
    running.terminate()
    running.wait()


@pytest.mark.slow
def test_prometheus_scrapes_the_server(server: OrreryServer, prometheus: Prometheus) -> None:
    prometheus.until("up == 1")  # from here on, what ends is counted
    busy(server)
    queued = prometheus.until('orrery_jobs{status="queued"} == 1')
    assert queued[0]["metric"]["job"] == "orrery"
    assert prometheus.until('orrery_jobs_finished_total{status="succeeded"} >= 1')


@pytest.mark.slow
def test_prometheus_understands_every_query_of_the_board(
    server: OrreryServer, prometheus: Prometheus
) -> None:
    prometheus.until("up == 1")
    panels = json.loads(BOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    assert len(queries) > 10
    for query in queries:
        plain = re.sub(r"\$__rate_interval|\$__interval|\$__range", "1m", query)
        plain = re.sub(r'"\$\w+"', '".*"', plain)
        prometheus.ask(plain)
