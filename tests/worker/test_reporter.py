"""From spool to reports."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from nbody.metrics import METRIC_NAMES
from server.wire.states import StopReason
from worker.client import Unreachable, WorkerClient
from worker.files.transport import InPlace
from worker.reporter import MOST_RECORDS, Reporter
from worker.spool import ProgressFile, SpoolWriter

SHA = "0" * 64


class Server:
    """Takes reports; fails as often as it is told to, after it took them or before."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []
        self.outcomes: list[dict[str, Any]] = []
        self.failures = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        (self.outcomes if request.url.path.endswith("finish") else self.reports).append(body)
        if self.failures:
            self.failures -= 1
            return httpx.Response(503)
        return httpx.Response(
            200, json={"accepted_through": None, "command": None, "status": "succeeded"}
        )

    @property
    def epochs(self) -> list[int]:
        return [epoch["epoch"] for report in self.reports for epoch in report.get("epochs", [])]


PLACE = {"seed": "7", "host": "here", "device": "cpu", "gpu": None, "versions": {"torch": "2"}}


def epoch(number: int) -> dict[str, Any]:
    return dict.fromkeys(METRIC_NAMES, 0) | {"epoch": number}


def spool_with(folder: Path, epochs: int) -> None:
    spool = SpoolWriter(folder / "spool.jsonl")
    spool.append("begin", {"first_epoch": 0, "whereabouts": PLACE})
    for number in range(epochs):
        spool.append("epoch", epoch(number))
    spool.close()


def test_everything_is_delivered_in_batches_and_in_order(tmp_path: Path) -> None:
    spool_with(tmp_path, 3 * MOST_RECORDS)
    server = Server()
    with WorkerClient("http://server", "token", httpx.MockTransport(server)) as client:
        Reporter(client, "lease", tmp_path, InPlace()).deliver()
    assert server.epochs == list(range(3 * MOST_RECORDS))
    assert server.reports[0]["first_epoch"] == 0
    assert server.reports[0]["whereabouts"] == PLACE
    assert all(len(report.get("epochs", [])) <= MOST_RECORDS for report in server.reports)


def test_a_report_that_was_not_confirmed_is_sent_again(tmp_path: Path) -> None:
    spool_with(tmp_path, 2)
    server = Server()
    server.failures = 1
    with WorkerClient("http://server", "token", httpx.MockTransport(server)) as client:
        reporter = Reporter(client, "lease", tmp_path, InPlace())
        with pytest.raises(Unreachable):
            reporter.deliver()
        reporter.deliver()
        reporter.deliver()
    assert server.reports[0] == server.reports[1]
    assert server.epochs == [0, 1, 0, 1]
    assert server.reports[2] == {}


def test_log_bytes_carry_their_offset(tmp_path: Path) -> None:
    server = Server()
    with WorkerClient("http://server", "token", httpx.MockTransport(server)) as client:
        reporter = Reporter(client, "lease", tmp_path, InPlace())
        for text in ("one", "two"):
            with (tmp_path / "output.log").open("a") as log:
                log.write(text)
            reporter.deliver()
    assert [report["log"]["offset"] for report in server.reports] == [0, 3]


def test_checkpoints_and_the_phase_travel_along(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "spool.jsonl")
    checkpoint = {"epoch": 3, "path": "a/b.pt", "bytes": 1, "sha256": SHA, "rolling": True}
    spool.append("checkpoint", checkpoint)
    spool.close()
    ProgressFile(tmp_path / "progress").write(1, "collect")
    server = Server()
    with WorkerClient("http://server", "token", httpx.MockTransport(server)) as client:
        Reporter(client, "lease", tmp_path, InPlace()).deliver()
    assert server.reports == [{"checkpoints": [checkpoint], "phase": "collect"}]


def test_the_outcome_comes_after_everything_else(tmp_path: Path) -> None:
    spool_with(tmp_path, 1)
    spool = SpoolWriter(tmp_path / "spool.jsonl")
    spool.append("outcome", {"status": "succeeded", "stop_reason": StopReason.COMPLETED})
    spool.close()
    server = Server()
    with WorkerClient("http://server", "token", httpx.MockTransport(server)) as client:
        reporter = Reporter(client, "lease", tmp_path, InPlace())
        outcome = reporter.recorded_outcome()
        assert outcome is not None
        reporter.settle(outcome, lambda: False)
    assert server.epochs == [0]
    assert server.outcomes[0]["status"] == "succeeded"
