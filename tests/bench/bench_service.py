"""The service's speed: `python tests/bench/bench_service.py [--out FILE] [--only NAME …]`.

The server is a process of its own (`python -m server serve`) with its data in a temporary folder
(TMPDIR: commits are synchronous, so it should be on a disk) and no limits per token. The load comes
from this process: raw HTTP/1.1 keep-alive connections on asyncio, one request at a time on each,
0.1 to 0.2 ms of this process's time per request. Databases that must be full are filled before
their server starts, through the functions that the server's own writes go through.

Both sides of a ratio are measured in turns: a rate is the best of several rounds, a time the median
of several hundred requests. The answer is JSON: machine, and for each benchmark its commit, figures
and ratios. `--only mlflow` needs an environment with MLflow (`pip install 'mlflow>=3'`), whose
interpreter `--mlflow-python` names.
"""

import argparse
import asyncio
import json
import os
import platform
import queue
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import httpx
import sqlalchemy
from sqlalchemy import String, bindparam, insert, select, update

from server.access import secret_files
from server.cli.local_service import LocalService, free_port
from server.client import Client
from server.database.engines import write_engine
from server.database.ids import new_id
from server.database.migrate import migrate
from server.database.tables import COLUMN_OF, epochs, tokens, workers
from server.database.tables import jobs as job_table
from server.queue import claims, summaries
from server.queue.submission import submit
from server.service import prepare
from server.settings import ServerSettings
from server.wire.jobs import JobSubmission

Row = dict[str, Any]
Options = argparse.Namespace

ROUNDS = 5
ROUND_S = 1.0
CONNECTIONS = 16  # of those that ask as fast as they are answered
WORKERS = 64
BATCH = 20  # epochs of one report
REQUESTS, CLAIMS = 500, 200  # of those that are timed one by one
WRITERS = 8  # beside MLflow
SERIES, POINTS = 16, 400
HOST = "127.0.0.1"
START_TIMEOUT_S, ANSWER_TIMEOUT_S = 60.0, 30.0
DEMO = json.loads((Path(__file__).parents[2] / "data" / "kepler_demo.json").read_text())
LONG = {"epochs": 1_000_000}
HOSTILE_TURN_S = 10.0
SETTINGS = {
    "ORRERY_WRITES_PER_MINUTE": "0",
    "ORRERY_MAX_QUEUED_JOBS": "0",
    "ORRERY_LEASE_TTL_S": "3600",  # leases that nobody renews must not end while others are timed
}
METRICS: dict[str, float] = {
    "epoch_time": 0.2514,
    "part1/trajectory_length": 4096,
    "part1/mean_retrain_iterations": 0.2534,
    "part1/max_retrain_iterations": 12,
    "part1/mean_energy_error": 0.00010317,
    "part1/warmup_discarded": 0,
    "part1/acceptance_rate": 0.79783,
    "part2/converged": 0,
    "part2/iterations": 200,
    "part2/final_pass_rate": 0.98828125,
    "part2/mean_rel_dE": 0.00018351,
    "part2/max_rel_dE": 0.00030127,
}


# --- the load -----------------------------------------------------------------------------------


class Answer(NamedTuple):
    """What came back."""

    status: int
    head: bytes
    body: bytes


class Connection(asyncio.Protocol):
    """A keep-alive connection with one request on its way at a time."""

    LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

    def __init__(self) -> None:
        self._received = b""
        self._answer: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        length = self.LENGTH.search(head)
        if len(body) < (int(length[1]) if length else 0):
            return
        self._received = b""
        assert self._answer is not None
        self._answer.set_result(Answer(int(head[9:12]), head, body))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the server hung up"))

    def close(self) -> None:
        assert self._transport is not None
        self._transport.abort()

    async def ask(self, sent: bytes) -> Answer:
        assert self._transport is not None
        if self._transport.is_closing():
            raise ConnectionResetError("the server hung up")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(sent)
        return await self._answer

    async def must(self, sent: bytes, status: int) -> Answer:
        """As `ask`, for an answer that has this status."""
        answer = await self.ask(sent)
        if answer.status != status:
            raise RuntimeError(f"{sent[:80]!r} is answered {answer.status}: {answer.body!r}")
        return answer


async def connect(port: int) -> Connection:
    _, connection = await asyncio.get_running_loop().create_connection(Connection, HOST, port)
    return connection


@asynccontextmanager
async def connections(port: int, count: int) -> AsyncGenerator[list[Connection]]:
    """Open connections; they last for a round, since the server closes those that idle."""
    opened = [await connect(port) for _ in range(count)]
    try:
        yield opened
    finally:
        for connection in opened:
            connection.close()


def request(
    method: str, path: str, token: str = "", body: str | None = None, more: str = ""
) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{more}"
    if token:
        head += f"Authorization: Bearer {token}\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n{body or ''}".encode()


class Side(NamedTuple):
    """One side of a ratio: a request, and the status of its answer."""

    port: int
    request: bytes
    status: int = 200


async def answers_per_s(side: Side, count: int) -> float:
    """How often connections that ask without a pause are answered."""
    answered = 0

    async def keep_asking(connection: Connection, until: float) -> None:
        nonlocal answered
        while time.perf_counter() < until:
            await connection.must(side.request, side.status)
            answered += 1

    async with connections(side.port, count) as opened:
        await asyncio.gather(*(keep_asking(connection, 0.0) for connection in opened))
        started = time.perf_counter()
        await asyncio.gather(*(keep_asking(c, started + ROUND_S) for c in opened))
        return answered / (time.perf_counter() - started)


async def sent_per_s(port: int, senders: Sequence[Callable[[], bytes]]) -> float:
    """How often senders of ever new requests are answered 200, all of them without a pause."""
    answered = 0

    async def keep_sending(connection: Connection, make: Callable[[], bytes]) -> None:
        nonlocal answered
        while time.perf_counter() < until:
            await connection.must(make(), 200)
            answered += 1

    async with connections(port, len(senders)) as opened:
        started = time.perf_counter()
        until = started + ROUND_S
        await asyncio.gather(*map(keep_sending, opened, senders))
        return answered / (time.perf_counter() - started)


def best_rates(*sides: Side, count: int = CONNECTIONS) -> list[float]:
    """Best rate of each side [1/s], the sides taking turns."""
    best = [0.0] * len(sides)
    for _ in range(ROUNDS):
        for k, side in enumerate(sides):
            best[k] = max(best[k], asyncio.run(answers_per_s(side, count)))
    return best


async def answer_times(*sides: Side) -> list[float]:
    """Median time of an answer of each side [s], the sides taking turns request by request."""
    times: list[list[float]] = [[] for _ in sides]
    asked = [await connect(side.port) for side in sides]
    for _ in range(REQUESTS):
        for side, connection, taken in zip(sides, asked, times, strict=True):
            started = time.perf_counter()
            await connection.must(side.request, side.status)
            taken.append(time.perf_counter() - started)
    for connection in asked:
        connection.close()
    return [median(taken) for taken in times]


# --- the server ---------------------------------------------------------------------------------


@dataclass
class Server:
    """A server in a process of its own."""

    port: int
    pid: int
    admin: str
    worker: str
    folder: str  # that workers show

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def user(self) -> str:
        """The token of a user, made for it."""
        with Client(self.url, self.admin) as client:
            return client.create_token(f"user {time.time_ns()}", "user")["secret"]

    def get(self, path: str, more: str = "", status: int = 200) -> Side:
        return Side(self.port, request("GET", path, self.admin, more=more), status)

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        assert found is not None
        return int(found[1]) / 1024

    def cpu_s(self) -> float:
        """What the process has taken of the processor so far [s]."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(folder: Path, trainers: int = 0) -> Iterator[Server]:
    """Run a server on a data folder, with so many real workers."""
    settings = ServerSettings(data=folder, port=free_port(HOST))
    with LocalService(settings, trainers) as service:
        service.start_server()
        service.wait_until_ready(START_TIMEOUT_S)
        if trainers:
            service.start_workers()
        process = service.processes[0].process
        assert process is not None
        files = settings.admin_token_path, settings.worker_token_path, settings.folder_mark_path
        yield Server(settings.port, process.pid, *(file.read_text().strip() for file in files))


# --- what is in its database --------------------------------------------------------------------


@dataclass
class Lease:
    """A running job in the hands of a worker that this process plays."""

    id: str
    job_id: str
    next_epoch: int = 0

    def report(self, token: str, count: int) -> bytes:
        """The next epochs."""
        first, self.next_epoch = self.next_epoch, self.next_epoch + count
        rows = ",".join(REPORTED % epoch for epoch in range(first, self.next_epoch))
        return request("POST", f"/v1/leases/{self.id}/report", token, f'{{"epochs":[{rows}]}}')


REPORTED = '{"epoch":%d,' + json.dumps(METRICS)[1:]


@contextmanager
def filling(folder: Path) -> Iterator[sqlalchemy.Connection]:
    """A transaction in the database of a server that does not run yet."""
    settings = ServerSettings(data=folder)
    prepare(settings).release()
    migrate(settings.database_path)
    engine = write_engine(settings.database_path)
    with engine.begin() as connection:
        now = time.time()
        secret_files.ensure_file_token(connection, settings.admin_token_path, "admin", now=now)
        secret_files.ensure_file_token(connection, settings.worker_token_path, "worker", now=now)
        yield connection
    engine.dispose()


def token_of(connection: sqlalchemy.Connection, role: str) -> str:
    return connection.execute(select(tokens.c.id).where(tokens.c.role == role)).scalar_one()


def add_jobs(connection: sqlalchemy.Connection, count: int, **changes: Any) -> list[str]:
    """Queue jobs; returns their ids in the order of the queue."""
    submission = JobSubmission.model_validate({"config": DEMO | changes})
    owner = token_of(connection, "admin")
    now = time.time()
    return sorted(submit(connection, submission, owner_id=owner, now=now) for _ in range(count))


def claim_jobs(connection: sqlalchemy.Connection, count: int) -> list[Lease]:
    """Give so many queued jobs to a worker each."""
    return [claim_job(connection, token_of(connection, "worker")) for _ in range(count)]


def claim_job(connection: sqlalchemy.Connection, owner: str) -> Lease:
    worker_id, now = new_id("worker"), time.time()
    values = {"token_id": owner, "host": HOST, "slots": 1, "gpus": [], "versions": {}}
    connection.execute(
        insert(workers).values(id=worker_id, name=worker_id, registered_at=now, **values)
    )
    claimed = claims.claim(connection, worker_id, uuid.uuid4().hex, now=now)
    assert claimed is not None
    job, attempt = claimed
    return Lease(attempt.lease_id, job.id)


def add_epochs(connection: sqlalchemy.Connection, job_ids: Sequence[str], count: int) -> None:
    """Give jobs so many epochs: the first job row by row, the others as copies."""
    first, *others = job_ids
    connection.execute(insert(epochs), [epoch_row(first, epoch) for epoch in range(count)])
    copied = [column for column in epochs.c if column.name != "job_id"]
    copy = insert(epochs).from_select(
        ["job_id", *(column.name for column in copied)],
        select(bindparam("other", type_=String), *copied).where(epochs.c.job_id == first),
    )
    if others:
        connection.execute(copy, [{"other": job_id} for job_id in others])
    connection.execute(
        update(job_table).where(job_table.c.id.in_(job_ids)).values(epochs_done=count)
    )
    for job_id in job_ids:
        summaries.remake(connection, job_id)


def epoch_row(job_id: str, epoch: int) -> Row:
    named = {COLUMN_OF[name]: value for name, value in METRICS.items()}
    return {"job_id": job_id, "attempt": 1, "epoch": epoch, **named}


def running_jobs(folder: Path, count: int, epochs_done: int = 0) -> list[Lease]:
    """Jobs that run, each with its own worker and with some epochs behind it."""
    with filling(folder) as connection:
        add_jobs(connection, count, **LONG)
        leases = claim_jobs(connection, count)
        if epochs_done:
            add_epochs(connection, [lease.job_id for lease in leases], epochs_done)
    for lease in leases:
        lease.next_epoch = epochs_done
    return leases


# --- benchmarks ---------------------------------------------------------------------------------


def poll(_: Options) -> Row:
    """A job is looked at, whole, beside /healthz."""
    with tempfile.TemporaryDirectory() as folder:
        (lease,) = running_jobs(Path(folder), 1, 100)
        with serving(Path(folder)) as server:
            ours, health = best_rates(
                server.get(f"/v1/jobs/{lease.job_id}"), server.get("/healthz")
            )
    return {"poll_per_s": ours, "healthz_per_s": health, "ratio": ours / health}


def poll_not_modified(_: Options) -> Row:
    """A running job that has not changed is asked for with its ETag, beside /healthz."""
    with tempfile.TemporaryDirectory() as folder:
        (lease,) = running_jobs(Path(folder), 1, 100)
        with serving(Path(folder)) as server, Client(server.url, server.admin) as client:
            _, version = client.job_with_version(lease.job_id)
            known = f'If-None-Match: W/"{version}"\r\n'
            unchanged = server.get(f"/v1/jobs/{lease.job_id}", known, status=304)
            ours, health = best_rates(unchanged, server.get("/healthz"))
    return {"poll_per_s": ours, "healthz_per_s": health, "ratio": ours / health}


def reports(_: Options) -> Row:
    """Epochs that 64 workers report and see acknowledged, beside a bare writer of the same rows."""
    ours = bare = 0.0
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory() as bare_folder,
        ProcessPoolExecutor(1, get_context("spawn")) as process,
    ):
        leases = running_jobs(Path(folder), WORKERS)
        bare_leases = running_jobs(Path(bare_folder), WORKERS)
        database = ServerSettings(data=Path(bare_folder)).database_path
        with serving(Path(folder)) as server:
            senders = [partial(lease.report, server.worker, BATCH) for lease in leases]
            for _ in range(ROUNDS):
                ours = max(ours, BATCH * asyncio.run(sent_per_s(server.port, senders)))
                rows, bare_leases = process.submit(bare_rows_per_s, database, bare_leases).result()
                bare = max(bare, rows)
    return {"rows_per_s": ours, "bare_rows_per_s": bare, "ratio": ours / bare}


def bare_rows_per_s(database: Path, leases: list[Lease]) -> tuple[float, list[Lease]]:
    """Epochs that one thread commits for as many producers as there are leases; no HTTP.

    It has the server's table, pragmas and foreign keys, takes whatever batches are waiting, commits
    once for all of them, and then acknowledges each.
    """
    waiting: queue.Queue[tuple[list[tuple[Any, ...]], Future[None]] | None] = queue.Queue()
    writer = threading.Thread(target=commit_in_groups, args=(database, waiting))
    writer.start()
    started = time.perf_counter()

    def produce(lease: Lease) -> None:
        while time.perf_counter() < started + ROUND_S:
            first, lease.next_epoch = lease.next_epoch, lease.next_epoch + BATCH
            done: Future[None] = Future()
            values = METRICS.values()
            rows = [(lease.job_id, e, 1, *values) for e in range(first, lease.next_epoch)]
            waiting.put((rows, done))
            done.result()

    before = sum(lease.next_epoch for lease in leases)
    producers = [threading.Thread(target=produce, args=(lease,)) for lease in leases]
    for producer in producers:
        producer.start()
    for producer in producers:
        producer.join()
    seconds = time.perf_counter() - started
    waiting.put(None)
    writer.join()
    return (sum(lease.next_epoch for lease in leases) - before) / seconds, leases


def commit_in_groups(database: Path, waiting: queue.Queue[Any]) -> None:
    columns = ["job_id", "epoch", "attempt", *(COLUMN_OF[name] for name in METRICS)]
    insertion = (
        f"INSERT INTO epochs ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    )
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        while (first := waiting.get()) is not None:
            group = [first, *(waiting.get() for _ in range(waiting.qsize()))]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(insertion, chain.from_iterable(rows for rows, _ in group))
            connection.execute("COMMIT")
            for _, done in group:
                done.set_result(None)


def metrics_tail(_: Options) -> Row:
    """The last ten epochs of a job with 100,000, beside those of a job with 100."""
    with tempfile.TemporaryDirectory() as folder:
        with filling(Path(folder)) as connection:
            short, long = add_jobs(connection, 2, **LONG)
            claim_jobs(connection, 2)
            add_epochs(connection, [short], 100)
            add_epochs(connection, [long], 100_000)
        with serving(Path(folder)) as server:
            tails = (long, 100_000), (short, 100)
            sides = [server.get(f"/v1/jobs/{job}/metrics?after={n - 11}") for job, n in tails]
            of_long, of_short = asyncio.run(answer_times(*sides))
    return {"long_ms": 1e3 * of_long, "short_ms": 1e3 * of_short, "ratio": of_long / of_short}


def list_page(_: Options) -> Row:
    """A page of 20 of 10,000 jobs with 1,000,000 epochs, beside 100 jobs with 10,000."""
    with tempfile.TemporaryDirectory() as small, tempfile.TemporaryDirectory() as large:
        few, many = finished_jobs(Path(small), 100), finished_jobs(Path(large), 10_000)
        with serving(Path(small)) as of_few, serving(Path(large)) as of_many:
            row: Row = {}
            for name, places in {"first": ("", ""), "middle": (middle(many), middle(few))}.items():
                sides = of_many.get(f"/v1/jobs{places[0]}"), of_few.get(f"/v1/jobs{places[1]}")
                of_large, of_small = asyncio.run(answer_times(*sides))
                row[f"{name}_large_ms"] = 1e3 * of_large
                row[f"{name}_small_ms"] = 1e3 * of_small
                row[f"{name}_ratio"] = of_large / of_small
    return row


def finished_jobs(folder: Path, count: int) -> list[str]:
    """Jobs that are over, with 100 epochs each."""
    with filling(folder) as connection:
        job_ids = add_jobs(connection, count, epochs=100)
        add_epochs(connection, job_ids, 100)
        over = {"status": "succeeded", "stop_reason": "completed", "finished_at": time.time()}
        connection.execute(update(job_table).values(**over))
    return job_ids


def middle(job_ids: list[str]) -> str:
    return f"?after={job_ids[len(job_ids) // 2]}"


def claim(_: Options) -> Row:
    """A claim while 10,000 jobs wait, beside one while 10 do; each is followed by a submission."""
    with tempfile.TemporaryDirectory() as small, tempfile.TemporaryDirectory() as large:
        for folder, count in ((small, 10), (large, 10_000)):
            with filling(Path(folder)) as connection:
                add_jobs(connection, count)
        with serving(Path(small)) as of_few, serving(Path(large)) as of_many:
            times = asyncio.run(claim_times(of_many, of_few))
    long, short = (1e3 * median(side) for side in times)
    return {"ms_10000": long, "ms_10": short, "ratio": long / short}


async def claim_times(*servers: Server) -> list[list[float]]:
    """Times of the claims of each server, in turns [s]."""
    times: list[list[float]] = [[] for _ in servers]
    job = json.dumps({"config": DEMO})
    asked = [await connect(server.port) for server in servers]
    worker_ids: list[str] = []
    for server, connection in zip(servers, asked, strict=True):
        worker = json.dumps({"name": "claimer", "host": HOST, "folder": server.folder})
        answer = await connection.must(request("POST", "/v1/workers", server.worker, worker), 201)
        worker_ids.append(json.loads(answer.body)["id"])
    for _ in range(CLAIMS):
        for k, server in enumerate(servers):
            body = json.dumps({"claim_id": uuid.uuid4().hex})
            path = f"/v1/workers/{worker_ids[k]}/claim"
            started = time.perf_counter()
            await asked[k].must(request("POST", path, server.worker, body), 200)
            times[k].append(time.perf_counter() - started)
            await asked[k].must(request("POST", "/v1/jobs", server.admin, job), 201)
    return times


def first_epoch(_: Options) -> Row:
    """From a submission to its first epoch in an answer, with an idle worker; less that epoch."""
    small = {"epochs": 2, "num_orbits": 16, "steps_per_epoch": 4, "replay_steps": 20}
    config = DEMO | small | {"hidden_dims": [16, 16], "evaluation_orbits": 0}
    waits: list[float] = []
    trained: list[float] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), trainers=1) as server,
        Client(server.url, server.admin) as client,
    ):
        client.wait(client.submit(config)["id"])  # the worker is there, and warm
        for _ in range(ROUNDS):
            started = time.perf_counter()
            job = client.submit(config)["id"]
            await_first_epoch(client, job)
            waits.append(time.perf_counter() - started)
            trained.append(client.metrics(job)["data"][0]["epoch_time"])
            client.wait(job)
    more = [wait - epoch for wait, epoch in zip(waits, trained, strict=True)]
    return {"visible_s": median(waits), "epoch_s": median(trained), "more_s": median(more)}


def await_first_epoch(client: Client, job_id: str) -> None:
    job, version = client.job_with_version(job_id)
    while not job["progress"]["epochs_done"]:
        job, version = client.job_with_version(job_id, wait=20, version=version)


# --- a crowd ------------------------------------------------------------------------------------


@dataclass
class Crowd:
    """What a crowd of clients saw."""

    server: Server
    ends: float
    interval_s: float
    polls_s: list[float] = field(default_factory=list)
    reports_s: list[float] = field(default_factory=list)
    not_modified: int = 0
    failures: list[str] = field(default_factory=list)

    async def keep_asking(
        self, first: float, interval_s: float, make: Callable[[], bytes]
    ) -> AsyncGenerator[tuple[Answer, float]]:
        """Ask at an interval, later where an answer is late; answers and how long each took."""
        connection: Connection | None = None
        due = first
        while due < self.ends:
            await asyncio.sleep(due - time.monotonic())
            sent = time.monotonic()
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    connection = connection or await connect(self.server.port)
                    answer = await connection.ask(make())
            except OSError as error:
                self.failures.append(repr(error))
                if connection is not None:
                    connection.close()
                    connection = None
            else:
                yield answer, time.monotonic() - sent
            due = max(due + interval_s, time.monotonic())

    async def tab(self, first: float, job_id: str) -> None:
        """A dashboard's tab: polls one job with the ETag that it has."""
        known = ""

        def make() -> bytes:
            return request("GET", f"/v1/jobs/{job_id}", self.server.admin, more=known)

        async for answer, seconds in self.keep_asking(first, self.interval_s, make):
            self.polls_s.append(seconds)
            if answer.status == 304:
                self.not_modified += 1
            elif answer.status == 200:
                tag = re.search(rb"\r\netag: *(\S+)", answer.head)
                assert tag is not None
                known = f"If-None-Match: {tag[1].decode()}\r\n"
            else:
                self.failures.append(f"poll: {answer.status}")

    async def reporter(self, first: float, lease: Lease) -> None:
        """A worker whose epochs take a quarter of a second; it reports once a second."""

        def make() -> bytes:
            return lease.report(self.server.worker, 4)

        async for answer, seconds in self.keep_asking(first, 1.0, make):
            if answer.status == 200:
                self.reports_s.append(seconds)
            else:
                self.failures.append(f"report: {answer.status}")


def crowd(options: Options) -> Row:
    """Dashboards' tabs poll while 64 workers report."""
    with tempfile.TemporaryDirectory() as folder:
        leases = running_jobs(Path(folder), WORKERS)
        with serving(Path(folder)) as server:
            return asyncio.run(watched_crowd(server, leases, options))


def begin_crowd(
    server: Server, leases: list[Lease], options: Options, begins: float
) -> tuple[Crowd, "asyncio.Future[list[None]]"]:
    """Tabs and workers that ask until their time is over."""
    seen = Crowd(server, begins + options.seconds, options.interval)
    clients = [
        seen.tab(begins + options.interval * k / options.clients, leases[k % WORKERS].job_id)
        for k in range(options.clients)
    ]
    workers_ = [seen.reporter(begins + k / WORKERS, lease) for k, lease in enumerate(leases)]
    return seen, asyncio.gather(*clients, *workers_)


async def watched_crowd(server: Server, leases: list[Lease], options: Options) -> Row:
    begins = time.monotonic()
    seen, everyone = begin_crowd(server, leases, options, begins)
    await asyncio.sleep(begins + options.seconds / 10 - time.monotonic())
    early = server.resident_mb()
    await everyone
    polls, reported = quantiles(seen.polls_s, n=100), quantiles(seen.reports_s, n=100)
    return {
        "clients": options.clients,
        "interval_s": options.interval,
        "workers": WORKERS,
        "seconds": options.seconds,
        "errors": len(seen.failures),
        "first_errors": sorted(set(seen.failures))[:5],
        "polls": len(seen.polls_s),
        "polls_offered": round(options.clients * options.seconds / options.interval),
        "not_modified": seen.not_modified,
        "poll_p50_ms": 1e3 * polls[49],
        "poll_p99_ms": 1e3 * polls[98],
        "reports_acknowledged": len(seen.reports_s),
        "reports_offered": round(WORKERS * options.seconds),
        "report_p50_ms": 1e3 * reported[49],
        "report_p99_ms": 1e3 * reported[98],
        "rss_mb_at_a_tenth": early,
        "rss_mb_at_the_end": server.resident_mb(),
    }


async def answered_beside_a_hostile_client(
    server: Server, leases: list[Lease], options: Options
) -> Row:
    """Polls of a crowd, in turns without and with one client that does its worst."""
    begins = time.monotonic()
    seen, everyone = begin_crowd(server, leases, options, begins)
    waits: list[list[float]] = [[], []]
    turns = max(1, round(options.seconds / HOSTILE_TURN_S))
    command = [sys.executable, "-m", "tests.bench.hostile_bodies", "--attack", server.url]
    for turn in range(turns):
        ends = begins + options.seconds * (turn + 1) / turns
        seen.polls_s = waits[turn % 2] if turn else []  # the first one warms up
        hostile = None
        if turn % 2:
            hostile = await asyncio.create_subprocess_exec(*command, server.user)
        await asyncio.sleep(ends - time.monotonic())
        if hostile is not None:
            hostile.kill()
            await hostile.wait()
    await everyone
    quiet, beside = (quantiles(times, n=100) for times in waits)
    return {
        "clients": options.clients,
        "workers": WORKERS,
        "seconds": options.seconds,
        "errors": len(seen.failures),
        "first_errors": sorted(set(seen.failures))[:5],
        "poll_p50_ms": 1e3 * quiet[49],
        "poll_p99_ms": 1e3 * quiet[98],
        "poll_p50_ms_beside": 1e3 * beside[49],
        "poll_p99_ms_beside": 1e3 * beside[98],
        "ratio": beside[98] / quiet[98],
        "target": "≤ 2",
    }


def hostile(options: Options) -> Row:
    """A crowd, and one client with a user's token that sends the worst that it may."""
    with tempfile.TemporaryDirectory() as folder:
        leases = running_jobs(Path(folder), WORKERS)
        os.environ["ORRERY_WRITES_PER_MINUTE"] = "600"  # as it is by default
        with serving(Path(folder)) as server:
            os.environ.update(SETTINGS)
            return asyncio.run(answered_beside_a_hostile_client(server, leases, options))


# --- MLflow -------------------------------------------------------------------------------------


@dataclass
class Run:
    """A run of MLflow's, logged epoch by epoch."""

    id: str
    next_epoch: int = 0

    def log(self, count: int) -> bytes:
        """The next epochs, 16 metrics each."""
        first, self.next_epoch = self.next_epoch, self.next_epoch + count
        metrics = [
            {"key": f"metric_{k}", "value": 0.00010317 * (k + 1), "timestamp": 1000, "step": step}
            for step in range(first, self.next_epoch)
            for k in range(SERIES)
        ]
        body = json.dumps({"run_id": self.id, "metrics": metrics})
        return request("POST", "/api/2.0/mlflow/runs/log-batch", body=body)


def mlflow(options: Options) -> Row:
    """Writing, polling and reading series, beside MLflow's tracking server on SQLite, in turns.

    MLflow logs 16 metrics per epoch, Orrery the 12 that it has; an epoch counts as one row on
    either side. Series are read as each API gives them: MLflow's one by one, Orrery's together.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory() as other,
        mlflow_serving(options.mlflow_python, Path(other)) as port,
    ):
        *leases, full_job = running_jobs(Path(folder), WRITERS + 1, POINTS)
        *runs, full_run = [mlflow_run(port) for _ in range(WRITERS + 1)]
        for _ in range(POINTS // BATCH):
            asyncio.run(sent_once(port, full_run.log(BATCH)))
        with serving(Path(folder)) as server:
            row: Row = {
                "mlflow": mlflow_version(options.mlflow_python),
                "note": f"a row of Orrery's has a fixed set of {len(METRICS)} metrics, "
                f"one of MLflow's has {SERIES} here",
            }
            for name, count in (("rows", 1), ("rows_in_batches_of_20", BATCH)):
                reporting = [partial(lease.report, server.worker, count) for lease in leases]
                logging = [partial(run.log, count) for run in runs]
                ours, theirs = best_writing((server.port, reporting), (port, logging))
                row |= beside(name, count * ours, count * theirs)
            path = f"/api/2.0/mlflow/runs/get?run_id={full_run.id}"
            mine = server.get(f"/v1/jobs/{full_job.job_id}")
            ours, theirs = best_rates(mine, Side(port, request("GET", path)), count=WRITERS)
            row |= beside("polls", ours, theirs)
            path = f"/api/2.0/mlflow/metrics/get-history?run_id={full_run.id}&metric_key=metric_0"
            mine = server.get(f"/v1/jobs/{full_job.job_id}/metrics?limit={POINTS}")
            ours, theirs = best_rates(mine, Side(port, request("GET", path)), count=WRITERS)
            row |= beside("points", ours * POINTS * len(METRICS), theirs * POINTS)
    return row


def beside(name: str, ours: float, theirs: float) -> Row:
    return {f"{name}_per_s": ours, f"mlflow_{name}_per_s": theirs, f"{name}_ratio": ours / theirs}


def best_writing(*sides: tuple[int, list[Callable[[], bytes]]]) -> list[float]:
    """Best rate of each side [1/s], the sides taking turns."""
    best = [0.0] * len(sides)
    for _ in range(ROUNDS):
        for k, (port, senders) in enumerate(sides):
            best[k] = max(best[k], asyncio.run(sent_per_s(port, senders)))
    return best


async def sent_once(port: int, sent: bytes) -> Answer:
    async with connections(port, 1) as (connection,):
        return await connection.must(sent, 200)


def mlflow_run(port: int) -> Run:
    body = json.dumps({"experiment_id": "0"})
    answer = asyncio.run(sent_once(port, request("POST", "/api/2.0/mlflow/runs/create", body=body)))
    return Run(json.loads(answer.body)["run"]["info"]["run_id"])


@contextmanager
def mlflow_serving(python: Path, folder: Path) -> Iterator[int]:
    """MLflow's tracking server with its own defaults, on SQLite."""
    port = free_port(HOST)
    command = [str(python), "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    process = subprocess.Popen(command, cwd=folder, stdout=sys.stderr, start_new_session=True)
    try:
        with httpx.Client(base_url=f"http://{HOST}:{port}", trust_env=False) as client:
            await_mlflow(client, time.monotonic() + START_TIMEOUT_S)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # its workers, too
        process.wait()


def mlflow_version(python: Path) -> str:
    script = "from importlib.metadata import version; print(version('mlflow'))"
    return subprocess.check_output([str(python), "-c", script], text=True).strip()


def await_mlflow(client: httpx.Client, deadline: float) -> None:
    while time.monotonic() < deadline:
        try:
            client.get("/health").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError("MLflow does not answer")


BENCHMARKS: dict[str, Callable[[Options], Row]] = {
    "poll": poll,
    "poll_not_modified": poll_not_modified,
    "reports": reports,
    "metrics_tail": metrics_tail,
    "list_page": list_page,
    "claim": claim,
    "first_epoch": first_epoch,
    "crowd": crowd,
    "hostile": hostile,
    "mlflow": mlflow,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="put the results in this JSON file, too")
    default = [name for name in BENCHMARKS if name != "mlflow"]
    parser.add_argument("--only", nargs="*", choices=list(BENCHMARKS), default=default)
    parser.add_argument("--seconds", type=float, default=300.0, help="of the crowd [s]")
    parser.add_argument("--clients", type=int, default=1000, help="tabs of the crowd")
    parser.add_argument("--interval", type=float, default=1.0, help="between polls of a tab [s]")
    parser.add_argument("--mlflow-python", type=Path, help="interpreter that has MLflow")
    options = parser.parse_args()
    if "mlflow" in options.only and options.mlflow_python is None:
        parser.error("mlflow needs --mlflow-python")
    os.environ.update(SETTINGS)
    allow_many_files()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    report: Row = {
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "results": {},
    }
    if options.out and options.out.exists():  # of the benchmarks that are not run again
        report["results"] = json.loads(options.out.read_text())["results"]
    for name in options.only:
        row = BENCHMARKS[name](options)
        report["results"][name] = {"commit": commit.stdout.strip(), **row}
        print(name, json.dumps(report["results"][name]), file=sys.stderr, flush=True)
    text = json.dumps(report, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def allow_many_files() -> None:
    """A crowd has more connections than a process may have files by default; servers inherit it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
