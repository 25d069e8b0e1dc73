"""A day of a cluster in minutes: `python tests/bench/load.py [--workers N] [--minutes M] …`.

Workers without physics: the real agent and protocol, with a child that only counts, on simulated
hosts that fail now and then and come again. A client submits as many jobs as a day has, in the
minutes given; what is told is how long things take, whether every job was done once, and what the
server needs. Seconds are of a machine on which all of that runs beside the server.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import quantiles
from typing import Any

import httpx
from bench_service import Server, serving

import worker.agent
from server.client import Client
from server.wire.states import StopReason
from server.wire.workers import Assignment, Outcome
from tests.server.conftest import epoch_metrics
from worker.agent import Agent
from worker.client import Unreachable, WorkerClient
from worker.reporter import Reporter
from worker.settings import WorkerSettings
from worker.spool import SpoolWriter

Row = dict[str, Any]
RACKS = 4  # processes that hold hosts
EPOCHS, EPOCH_S = 10, 3.0
FAILURES_PER_HOST_AND_HOUR = 0.01
DAY_S = 86400.0
AWAY_S = 45.0  # of a host that failed; longer than a lease
HEARTBEAT_S, TURN_S, POLL_EVERY_S = 5.0, 1.0, 0.05
PATIENCE_S = 1200.0  # for the last jobs
CONFIG = {"epochs": EPOCHS, "evaluation_orbits": 0, "hidden_dims": [8]}


class Line(httpx.BaseTransport):
    """A host's way to the server; times what goes over it.

    Attributes:
        is_cut: nothing arrives any more.
    """

    def __init__(self) -> None:
        self._wire = httpx.HTTPTransport(limits=httpx.Limits(max_connections=None))
        self.is_cut = False
        self.reports_s: list[float] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.is_cut:
            raise httpx.ConnectError("the host failed")
        began = time.perf_counter()
        answer = self._wire.handle_request(request)
        answer.read()
        if request.url.path.endswith("/report"):
            self.reports_s.append(time.perf_counter() - began)
        return answer

    def close(self) -> None:
        self._wire.close()


class Counting:
    """In the place of an attempt with its process: epochs pass, and a small file is left."""

    def __init__(self, assignment: Assignment, _: Any, data: Path, state: Path, *rest: Any) -> None:
        self._assignment, self._data = assignment, data
        self._stopping: threading.Event = rest[-1]
        state.mkdir(parents=True, exist_ok=True)
        self._spool = SpoolWriter(state / "spool.jsonl")

    def supervise(self, reporter: Reporter, explain: Callable[[Outcome], Outcome]) -> Outcome:
        points = self._assignment.resume_from
        first = points[0].epoch + 1 if points else 0
        self._spool.append("begin", {"first_epoch": first})
        told_at = 0.0
        for epoch in range(first, EPOCHS):
            ends = time.monotonic() + EPOCH_S
            while time.monotonic() < ends:
                if self._stopping.wait(TURN_S):
                    return explain(Outcome(status="stopped", stop_reason=StopReason.WORKER_LOST))
                if time.monotonic() - told_at > HEARTBEAT_S or reporter.has_news():
                    told_at = time.monotonic()
                    self._tell(reporter)
            self._spool.append("epoch", epoch_metrics(epoch))
            if epoch % 5 == 4:
                self._save(epoch)
        return explain(Outcome(status="succeeded", stop_reason=StopReason.COMPLETED))

    def _tell(self, reporter: Reporter) -> None:
        with suppress(Unreachable):
            reporter.deliver()

    def _save(self, epoch: int) -> None:
        path = f"{self._assignment.output_folder}/model/model_epoch_{epoch:04d}.pt"
        content = os.urandom(2000)
        (self._data / path).parent.mkdir(parents=True, exist_ok=True)
        (self._data / path).write_bytes(content)
        about = {"epoch": epoch, "path": path, "bytes": len(content), "rolling": False}
        about["sha256"] = hashlib.sha256(content).hexdigest()
        self._spool.append("checkpoint", about)

    def kill(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        self._spool.close()


@dataclass
class Host:
    """Agents that fail together."""

    url: str
    token: str
    folder: Path
    workers: int
    lives: int = 0
    lines: list[Line] = field(default_factory=list)
    agents: list[tuple[Agent, threading.Thread, Line]] = field(default_factory=list)

    def start(self) -> None:
        self.lives += 1
        for number in range(self.workers):
            line = Line()
            data = self.folder / f"life-{self.lives}" / str(number)
            data.mkdir(parents=True)
            name = f"{self.folder.name}-{number}"
            settings = WorkerSettings(self.url, self.token, data, name, 1, 1)
            agent = Agent(settings, WorkerClient(self.url, self.token, line))
            thread = threading.Thread(target=agent.run, daemon=True)
            thread.start()
            self.lines.append(line)
            self.agents.append((agent, thread, line))

    def fail(self) -> None:
        """All at once; nobody is told."""
        for agent, _, line in self.agents:
            line.is_cut = True
            agent.stop()
        self.agents.clear()

    def stop(self) -> None:
        for agent, _, _ in self.agents:
            agent.stop()
        for _, thread, _ in self.agents:
            thread.join()


def rack(
    url: str, token: str, folder: Path, hosts: int, workers: int, rate: float, over: Any, told: Any
) -> None:
    """A process with hosts, until it is over; some fail.

    Args:
        rate: of failures of one host [1/s].
    """
    threading.stack_size(2**18)
    worker.agent.Attempt = Counting  # type: ignore[misc]
    all_hosts = [Host(url, token, folder / f"h{os.getpid()}-{n}", workers) for n in range(hosts)]
    for host in all_hosts:
        host.start()
    random, failures = Random(os.getpid()), 0
    away: list[tuple[float, Host]] = []
    while not over.wait(1.0):
        now = time.monotonic()
        for host in [host for at, host in away if at < now]:
            host.start()
        away = [(at, host) for at, host in away if at >= now]
        for host in all_hosts:
            if host.agents and random.random() < rate:
                host.fail()
                failures += 1
                away.append((now + AWAY_S, host))
    for host in all_hosts:
        host.stop()
    lines = [line for host in all_hosts for line in host.lines]
    reports = [seconds for line in lines for seconds in line.reports_s]
    told.put((failures, reports, time.process_time()))


def submit(url: str, token: str, jobs: int, seconds: float) -> list[float]:
    """Jobs at an even rate; how long each call took [s]."""
    took: list[float] = []
    with Client(url, token) as client:
        began = time.monotonic()
        for number in range(jobs):
            time.sleep(max(0.0, began + number * seconds / jobs - time.monotonic()))
            called = time.perf_counter()
            client.submit(CONFIG, name=f"load {number}")
            took.append(time.perf_counter() - called)
    return took


def watch(server: Server, token: str, over: threading.Event) -> tuple[list[float], float]:
    """Poll the newest jobs all the time; how long each took [s], and the server's most memory."""
    took: list[float] = []
    most = 0.0
    with Client(server.url, token) as client:
        while not over.wait(POLL_EVERY_S):
            called = time.perf_counter()
            client.jobs(limit=20)
            took.append(time.perf_counter() - called)
            most = max(most, server.resident_mb())
    return took, most


def spread(seconds: list[float]) -> Row:
    """Median and 99 of 100 [ms]."""
    cut = quantiles(seconds, n=100)
    return {"p50_ms": 1e3 * cut[49], "p99_ms": 1e3 * cut[98], "of": len(seconds)}


def looked_at(database: Path) -> Row:
    """What the server's own records say: each job once, each epoch once, each attempt alone."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:

        def ask(query: str) -> list[tuple[Any, ...]]:
            return connection.execute(query).fetchall()

        waits = [row[0] for row in ask("SELECT started_at - created_at FROM jobs")]
        overlap = """SELECT count(*) FROM attempts a JOIN attempts b ON a.job_id = b.job_id
            AND b.number = a.number + 1 WHERE a.ended_at IS NULL OR a.ended_at > b.started_at"""
        missing = f"""SELECT count(*) FROM (SELECT count(e.epoch) n FROM jobs j LEFT JOIN epochs e
            ON e.job_id = j.id GROUP BY j.id HAVING n != {EPOCHS})"""
        return {
            "by_status": dict(ask("SELECT status, count(*) FROM jobs GROUP BY status")),
            "attempts": ask("SELECT count(*) FROM attempts")[0][0],
            "attempts_at_once": ask(overlap)[0][0],
            "jobs_without_every_epoch_once": ask(missing)[0][0],
            "until_begun": spread(waits),
        }


def main() -> None:
    """Run it, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=10_000, help="of the day")
    parser.add_argument("--minutes", type=float, default=10.0, help="that stand for the day")
    parser.add_argument("--out", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    seconds = 60 * options.minutes
    rate = FAILURES_PER_HOST_AND_HOUR * (DAY_S / seconds) / 3600
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder) / "server") as server:
        over, told = context.Event(), context.Queue()
        share = options.hosts // RACKS, options.workers // options.hosts
        arguments = server.url, server.worker, Path(folder), *share, rate, over, told
        racks = [context.Process(target=rack, args=arguments) for _ in range(RACKS)]
        for each in racks:
            each.start()
        polls: list[tuple[list[float], float]] = []
        watching = threading.Event()
        watcher = threading.Thread(
            target=lambda: polls.append(watch(server, server.admin, watching))
        )
        watcher.start()
        began = time.monotonic()
        submitted = submit(server.url, server.admin, options.jobs, seconds)
        with Client(server.url, server.admin) as client:
            while client.jobs(status=["queued", "running"], limit=1)["data"]:
                if time.monotonic() - began > seconds + PATIENCE_S:
                    break  # `by_status` tells how many are left over
                time.sleep(1)
        took = time.monotonic() - began
        watching.set()
        watcher.join()
        served = server.cpu_s()
        over.set()
        ended = [told.get() for _ in racks]
        for each in racks:
            each.join()
        row = {
            "workers": options.workers,
            "jobs": options.jobs,
            "minutes": took / 60,
            "hosts_that_failed": sum(failures for failures, _, _ in ended),
            "server_cores": served / took,
            "workers_cores": sum(cpu for _, _, cpu in ended) / took,
            "submit": spread(submitted),
            "report": spread([each for _, reports, _ in ended for each in reports]),
            "poll": spread(polls[0][0]),
            "server_mb": polls[0][1],
            **looked_at(Path(folder) / "server" / ".orrery" / "orrery.db"),
        }
    print(json.dumps(row, indent=2), flush=True)
    if options.out is not None:
        machine = {"platform": platform.platform(), "cores": os.cpu_count()}
        options.out.write_text(json.dumps({"machine": machine, **row}, indent=2) + "\n")


if __name__ == "__main__":
    main()
