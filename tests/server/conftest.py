"""A real server on a free loopback port, and those who talk to it: admin, users, workers."""

import asyncio
import base64
import contextlib
import hashlib
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import uvicorn
import uvloop
from fastapi import FastAPI
from sqlalchemy import Connection, text
from starlette.middleware.cors import CORSMiddleware

from server.cli import main as cli
from server.queue.leases import Leases
from server.service import Service
from server.settings import ServerSettings
from server.web.app import create_app
from server.web.idle_workers import IdleWorkers
from server.web.listening.protocol import Listener, uvicorn_config

Json = dict[str, Any]
TINY: Json = {"epochs": 4, "hidden_dims": [4], "num_orbits": 2, "steps_per_epoch": 4}
START_TIMEOUT_S = 20.0
ANSWER_TIMEOUT_S = 20.0


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class _Listener(Listener):
    """Says when it is ready, or that it will never be."""

    def __init__(self, config: uvicorn.Config, end_waits: Callable[[], None]) -> None:
        super().__init__(config, end_waits)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()


def layer(app: Any, kind: type[Any] = FastAPI) -> Any:
    """One of the layers of an application; by default the routes, inside the others."""
    while not isinstance(app, kind):
        app = app.app if isinstance(app, CORSMiddleware) else app._app
    return app


class OrreryServer:
    """The whole service in a thread of this process; a context manager."""

    def __init__(self, data: Path, listen_on: int = 0, **settings: Any) -> None:
        self.settings = ServerSettings(data=data, port=0, **{"writes_per_minute": 0, **settings})
        self.clock = Clock()
        self.app = create_app(self.settings)
        # With the protocol named asyncio turns Nagle's delay off, as on a socket of its own.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", listen_on))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn_config(self.settings, self.app)
        config.timeout_graceful_shutdown = 1
        self._listener = _Listener(config, self.service.changes.end)
        self._thread = threading.Thread(target=self._run, name="orrery-under-test")
        self._clients: dict[str | None, httpx.Client] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listener.ready.wait(START_TIMEOUT_S), "the server does not start"
        assert self._listener.started, "the server's start failed"
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients.values():
            client.close()
        self._listener.should_exit = True
        self._thread.join(START_TIMEOUT_S)
        assert not self._thread.is_alive(), "the server does not end"

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._listener.serve(sockets=[self._socket])

    @property
    def service(self) -> Service:
        """The running service behind the routes."""
        return layer(self.app).state.service

    def call(self, work: Awaitable[Any]) -> Any:
        """Run a coroutine where the server runs."""

        async def awaited() -> Any:
            return await work

        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result(ANSWER_TIMEOUT_S)

    def call_soon(self, function: Callable[[], object]) -> None:
        """Call a function where the server runs."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(function)

    def write(self, work: Callable[[Connection], Any]) -> Any:
        """Run a write in the server's database."""
        return self.service.database.submit(work).result(ANSWER_TIMEOUT_S)

    def read(self, work: Callable[[Connection], Any]) -> Any:
        """Run a read in the server's database."""
        return self.service.database.read_now(work)

    def empty(self) -> None:
        """Forget all jobs, sweeps and workers."""

        def work(connection: Connection) -> None:
            for table in ("sweeps", "jobs", "workers", "turns"):
                connection.execute(text(f"DELETE FROM {table}"))

        self.write(work)

    def until(self, fact: Callable[[], bool]) -> None:
        """Give the server turns until something is so."""
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while not fact():
            assert time.monotonic() < deadline, "it never came to be"
            self.call(asyncio.sleep(0))

    def waiters(self, topic: str) -> int:
        """How many requests wait for a change of a topic."""
        return len(self.service.changes._waiters.get(topic, ()))

    def idle_claims(self) -> int:
        """How many claims wait for a job."""
        idle: IdleWorkers = layer(self.app).state.idle_workers
        return sum(map(len, idle._waiting.values()))

    def move_leases_to_test_clock(self) -> None:
        """From now on leases expire by `self.clock`."""
        self.service.leases = Leases(self.settings.lease_ttl_s, self.clock)

    def lose_leases(self) -> None:
        """Let every lease's time pass."""
        self.clock.advance(self.settings.lease_ttl_s + 1)
        self.call(self.service.expire_leases())

    # --- who talks to it ------------------------------------------------------------------------

    def http(self, token: str | None) -> httpx.Client:
        """A client with a token, or without."""
        if token not in self._clients:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            self._clients[token] = httpx.Client(
                base_url=self.url, headers=headers, timeout=ANSWER_TIMEOUT_S, trust_env=False
            )
        return self._clients[token]

    @property
    def folder_id(self) -> str:
        """What workers show that see the data folder."""
        return self.settings.folder_mark_path.read_text(encoding="ascii").strip()

    @property
    def admin_token(self) -> str:
        """The secret in the admin token file."""
        return self.settings.admin_token_path.read_text(encoding="utf-8").strip()

    @property
    def worker_token(self) -> str:
        """The secret in the worker token file."""
        return self.settings.worker_token_path.read_text(encoding="utf-8").strip()

    @property
    def admin(self) -> httpx.Client:
        """An admin."""
        return self.http(self.admin_token)

    @property
    def worker(self) -> httpx.Client:
        """A worker with the worker token of the file."""
        return self.http(self.worker_token)

    def new_token(self, role: str, name: str = "someone") -> str:
        """The secret of a new token."""
        answer = self.admin.post("/v1/tokens", json={"name": name, "role": role})
        assert answer.status_code == 201, answer.text
        return answer.json()["secret"]

    def new_client(self, role: str) -> httpx.Client:
        """A client with a new token."""
        return self.http(self.new_token(role))

    # --- what they do ---------------------------------------------------------------------------

    def submit(
        self, client: httpx.Client | None = None, config: Json | None = None, **fields: Any
    ) -> Json:
        """A new job."""
        body = {"config": TINY | (config or {}), **fields}
        answer = (client or self.admin).post("/v1/jobs", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def job(self, job_id: str) -> Json:
        """A job as the admin sees it."""
        answer = self.admin.get(f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def metrics(self, job_id: str, **parameters: Any) -> Json:
        """A page of a job's metrics."""
        answer = self.admin.get(f"/v1/jobs/{job_id}/metrics", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def event_types(self, job_id: str) -> list[str]:
        """What happened to a job, in order."""
        answer = self.admin.get(f"/v1/jobs/{job_id}/events", params={"limit": 1000})
        assert answer.status_code == 200, answer.text
        return [event["type"] for event in answer.json()["data"]]

    def log(self, job_id: str, offset: int = 0) -> bytes:
        """A job's log from an offset."""
        answer = self.admin.get(f"/v1/jobs/{job_id}/logs", params={"offset": offset})
        assert answer.status_code == 200, answer.text
        return answer.content

    def register(self, client: httpx.Client | None = None, **fields: Any) -> str:
        """The id of a new worker."""
        name = f"w-{uuid.uuid4().hex[:8]}"
        body = {"name": name, "host": "here", "folder": self.folder_id, **fields}
        answer = (client or self.worker).post("/v1/workers", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def claim(
        self, worker_id: str | None = None, claim_id: str | None = None, wait_s: float = 0
    ) -> Json | None:
        """An assignment, or None where nothing is queued."""
        worker_id = worker_id or self.register()
        body = {"claim_id": claim_id or uuid.uuid4().hex, "wait_s": wait_s}
        answer = self.worker.post(f"/v1/workers/{worker_id}/claim", json=body)
        assert answer.status_code in {200, 204}, answer.text
        return answer.json() if answer.status_code == 200 else None

    def start(self, **fields: Any) -> tuple[Json, Json]:
        """A job, and its assignment to a worker."""
        job = self.submit(**fields)
        assignment = self.claim()
        assert assignment is not None
        assert assignment["job"] == job["id"]
        return job, assignment

    def report(self, lease_id: str, **fields: Any) -> httpx.Response:
        """The answer to a report; files that it names are made."""
        for file in (*fields.get("checkpoints", ()), *fields.get("artifacts", ())):
            self._make_file(file)
        return self.worker.post(f"/v1/leases/{lease_id}/report", json=fields)

    def _record_missing_epochs(self, lease_id: str) -> None:
        query = (
            "SELECT id, epochs_total FROM jobs WHERE kind = 'train' AND lease_id = :lease"
            " AND status IN ('running', 'pausing', 'cancelling')"
        )
        known = "SELECT epoch FROM epochs WHERE job_id = :job"
        job = self.read(lambda c: c.execute(text(query), {"lease": lease_id}).first())
        if job is not None:
            done = set(self.read(lambda c: c.execute(text(known), {"job": job.id}).scalars().all()))
            missing = [n for n in range(job.epochs_total) if n not in done][:1000]
            if missing:
                self.report(lease_id, epochs=[epoch_metrics(number) for number in missing])

    def _make_file(self, file: Json) -> None:
        path = self.settings.data / file["path"]
        with contextlib.suppress(OSError, ValueError, OverflowError):
            if path.suffix and "run_nbody" in path.parts and not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
                os.truncate(path, file["bytes"])

    def finish(
        self, lease_id: str, status: str = "succeeded", stop_reason: str = "completed", **more: Any
    ) -> httpx.Response:
        """The answer to a finish; a training that succeeded has all its epochs."""
        if status == "succeeded":
            self._record_missing_epochs(lease_id)
        body = {"status": status, "stop_reason": stop_reason, **more}
        return self.worker.post(f"/v1/leases/{lease_id}/finish", json=body)


def everything_of(server: OrreryServer, job_id: str) -> Json:
    """All that readers can see of a job."""
    path = f"/v1/jobs/{job_id}"
    return {
        "job": server.admin.get(path).json(),
        "etag": server.admin.get(path).headers["etag"],
        "metrics": server.admin.get(f"{path}/metrics").json(),
        "events": server.admin.get(f"{path}/events").json(),
        "checkpoints": server.admin.get(f"{path}/checkpoints").json(),
        "log": server.log(job_id),
    }


def epoch_metrics(epoch: int, /, **changes: Any) -> Json:
    """One epoch's metrics as a worker reports them."""
    return {
        "epoch": epoch,
        "epoch_time": 0.5 + epoch,
        "part1/trajectory_length": 8,
        "part1/mean_retrain_iterations": 0.25,
        "part1/max_retrain_iterations": 2,
        "part1/min_energy_error": 1e-6,
        "part1/max_energy_error": 1e-4,
        "part1/mean_retrain_loss": 0.5,
        "part2/efficiency": 0.9,
        "part1/mean_energy_error": 1e-5,
        "part1/warmup_discarded": 0,
        "part1/acceptance_rate": 0.8,
        "part2/converged": 1,
        "part2/iterations": 12,
        "part2/final_pass_rate": 1.0,
        "part2/mean_rel_dE": 1e-6,
        "part2/max_rel_dE": 1e-5,
    } | changes


def log_bytes(offset: int, data: bytes) -> Json:
    """Log bytes as a worker reports them."""
    return {"offset": offset, "data": base64.b64encode(data).decode()}


def checkpoint(assignment: Json, epoch: int, /, **changes: Any) -> Json:
    """A checkpoint as a worker reports it."""
    return {
        "epoch": epoch,
        "path": f"{assignment['output_folder']}/model/model_epoch_{epoch:04d}.pt",
        "bytes": 10 + epoch,
        "sha256": hashlib.sha256(bytes(10 + epoch)).hexdigest(),
    } | changes


def assert_problem(answer: httpx.Response, status: int, code: str | None = None) -> Json:
    """The problem document of an answer that says no."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"]
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    if code is not None:
        assert problem["code"] == code
    return problem


@pytest.fixture(scope="session")
def _running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrreryServer]:
    with OrreryServer(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def server(_running_server: OrreryServer) -> OrreryServer:
    """A server without jobs and workers, and without users' files; its leases expire by `clock`."""
    _running_server.empty()
    for path in _running_server.settings.data.iterdir():
        if path.is_file() and not path.name.startswith("."):  # presets, of an earlier test
            path.unlink()
    _running_server.move_leases_to_test_clock()
    return _running_server


@pytest.fixture
def shared_server(_running_server: OrreryServer) -> OrreryServer:
    """A server that others left jobs on, for tests that neither mind nor claim any."""
    return _running_server


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


Orrery = Callable[..., Done]


@pytest.fixture
def orrery(
    server: OrreryServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Orrery:
    """Runs the command as a shell would; server and token come from the environment."""
    monkeypatch.setenv("ORRERY_URL", server.url)
    monkeypatch.setenv("ORRERY_DATA", str(server.settings.data))
    monkeypatch.delenv("ORRERY_TOKEN", raising=False)
    monkeypatch.delenv("ORRERY_TOKEN_FILE", raising=False)

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["orrery", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        captured = capsys.readouterr()
        return Done(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run
