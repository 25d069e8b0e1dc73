"""How long each hostile body holds up everybody else: `python -m tests.bench.hostile_bodies`.

A server process of its own gets one body of a hostile shape after the other, each about as large as
it takes; meanwhile somebody polls `/healthz` without a pause. Printed is the longest wait of that
poll, beside the wait without any hostile body.
"""

import contextlib
import itertools
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from server.cli.local_service import free_port

LEASE = f"/v1/leases/lease_{'0' * 26}/report"
ROWS = 4096


def _object(keys: int, name: str = "k{}") -> dict[str, int]:
    return {name.format(number): 1 for number in range(keys)}


def shapes() -> Iterator[tuple[str, str, bytes]]:
    """What it is, the path, and the body."""
    inline = {"initial_conditions": "inline"}
    nested = json.loads("[" * 180 + "]" * 180)
    configs: dict[str, Any] = {
        "unknown fields": _object(75_000),
        "unknown fields like known ones": _object(38_000, "steps_per_epoch{}"),
        "a field of 1 MB": {"steps_per_epoch" * 65_000: 1},
        "wide extra": {"extra": _object(75_000)},
        "long list in extra": {"extra": {"a": [1] * 300_000}},
        "empty lists in extra": {"extra": {"a": [[]] * 240_000}},
        "deep lists in extra": {"extra": {"a": [nested] * 2500}},
        "words as particles": inline | {"particles": [["1"] * 50] * 3900},
        "many layers": {"hidden_dims": [0] * 300_000},
        "the largest valid one": inline
        | {"particles": [[1.0, float(i), 2.0, 3.0, 4.0, 5.0, 6.0] for i in range(ROWS)]},
    }
    for name, config in configs.items():
        for path in ("/v1/jobs", "/v1/jobs/validate"):
            yield name, path, json.dumps({"config": config}).encode()
    labels = {"config": {}, "metadata": _object(70_000)}
    yield "wide labels", "/v1/jobs", json.dumps(labels).encode()
    yield "a field 120,000 times", "/v1/jobs", b'{"config":{%s}}' % b",".join([b'"lr":1'] * 120_000)
    digits = b'{"config":{"hidden_dims":[%s]}}' % b",".join([b"7" * 4200] * 240)
    yield "numbers of 4,200 digits", "/v1/jobs", digits
    yield "not JSON after 1 MB", "/v1/jobs", b'{"config":{"extra":{"a":[' + b"1," * 450_000
    yield "not JSON, deep", "/v1/jobs", b'{"config":' + b'{"a":' * 150_000
    for path in ("/v1/tokens", "/v1/workers", "/v1/sweeps"):
        yield "unknown fields", path, json.dumps(_object(75_000)).encode()
    space = {"lr": {"type": "float", "low": 1e-4, "high": 1e-2}}
    wide = {"space": space, "n_trials": 1000, "parallelism": 64}
    yield (
        "sweep, large config",
        "/v1/sweeps",
        json.dumps(wide | {"config": {"extra": {"a": "x" * 900_000}}}).encode(),
    )
    yield (
        "sweep, 64 KB",
        "/v1/sweeps",
        json.dumps(wide | {"config": {"extra": {"a": "x" * 65_000}}}).encode(),
    )
    epochs = [_object(300) for _ in range(900)]
    yield "report of unknown metrics", LEASE, json.dumps({"epochs": epochs}).encode()
    yield "report of unknown fields", LEASE, json.dumps(_object(290_000)).encode()
    log = {"log": {"offset": 0, "data": "A" * 3_000_000}}
    yield "report of a log", LEASE, json.dumps(log).encode()


class Poller(threading.Thread):
    """Asks for `/healthz` without a pause, and remembers the longest wait."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._ends = threading.Event()
        self.longest_s = 0.0

    def run(self) -> None:
        with httpx.Client(base_url=self._url, trust_env=False, timeout=120) as client:
            while not self._ends.is_set():
                began = time.perf_counter()
                client.get("/healthz")
                self.longest_s = max(self.longest_s, time.perf_counter() - began)

    def end(self) -> float:
        """The longest wait [s]."""
        self._ends.set()
        self.join()
        return self.longest_s


def measure(url: str, token: str, worker_token: str) -> None:
    """Print a line for each shape."""
    print(f"{'longest wait':>12} {'status':>6} {'bytes':>9}  shape")
    with httpx.Client(base_url=url, trust_env=False, timeout=120) as client:
        poller = Poller(url)
        poller.start()
        time.sleep(2)
        print(f"{1000 * poller.end():9.0f} ms {'':6} {'':9}  nothing hostile")
        for name, path, body in shapes():
            is_of_worker = path == LEASE or path == "/v1/workers"
            authorization = f"Bearer {worker_token if is_of_worker else token}"
            headers = {"Authorization": authorization, "Content-Type": "application/json"}
            poller = Poller(url)
            poller.start()
            answer = client.post(path, content=body, headers=headers)
            time.sleep(0.5)  # what a sweep begins comes after the answer
            wait = 1000 * poller.end()
            found = f"{wait:9.0f} ms {answer.status_code:6} {len(body):9}"
            print(f"{found}  {path}: {name}", flush=True)


def attack(url: str, token: str) -> None:
    """Without end: hostile bodies as fast as they are answered, connections that say nothing, and
    answers that are not read.
    """
    bodies = [(path, body) for _, path, body in shapes() if path != "/v1/workers"]
    place = urlsplit(url)
    idle: list[socket.socket] = []
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with httpx.Client(base_url=url, trust_env=False, timeout=120, headers=headers) as client:
        for path, body in itertools.cycle(bodies):
            with contextlib.suppress(httpx.TransportError, OSError):
                client.post(path, content=body)
                silent = socket.create_connection((place.hostname, place.port))
                silent.send(f"GET /v1/jobs?limit=100 HTTP/1.1\r\nHost: x\r\nX-A: {token}".encode())
                unread = socket.create_connection((place.hostname, place.port))
                asked = "GET /v1/schemas/config HTTP/1.1\r\nHost: localhost\r\n"
                unread.sendall(f"{asked}Authorization: Bearer {token}\r\n\r\n".encode() * 50)
                idle += [silent, unread]


def main() -> None:
    """A server of its own, from start to end; or `--attack URL TOKEN`."""
    if sys.argv[1:2] == ["--attack"]:
        attack(*sys.argv[2:])
        return
    with tempfile.TemporaryDirectory() as folder:
        port = free_port("127.0.0.1")
        command = [sys.executable, "-m", "server", "serve", "--data", folder, "--port", str(port)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
            url, secrets = f"http://127.0.0.1:{port}", Path(folder) / ".orrery"
            try:
                with httpx.Client(trust_env=False) as client:
                    while True:
                        try:
                            client.get(f"{url}/readyz").raise_for_status()
                            break
                        except httpx.TransportError:
                            time.sleep(0.1)
                tokens = [(secrets / f"{role}.token").read_text() for role in ("admin", "worker")]
                measure(url, *(token.strip() for token in tokens))
            finally:
                server.terminate()


if __name__ == "__main__":
    main()
