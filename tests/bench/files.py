"""Files on their way: `python tests/bench/files.py [--out FILE] [--only NAME …]`.

A checkpoint of a gigabyte is sent by a worker's own code to a server, in turns with `curl -T` to
nginx, which writes it beside; and by 32 at once, while the server's memory is looked at. Epochs are
timed that leave a checkpoint each, over a link of a megabyte a second and over a free one, in
turns. Needs nginx (with its DAV module), curl and, for the link, to be root.
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from bench_service import HOST, Lease, Server, add_jobs, claim_jobs, filling, serving

from server.cli.local_service import free_port
from server.wire.workers import Report
from tests.cluster import Cluster
from tests.hosts import hosts
from worker.client import WorkerClient
from worker.files.uploads import Uploads
from worker.spool import Record

Row = dict[str, Any]

PIECE = 10**6
SIZE = 10**9  # bytes
ROUNDS = 5
AT_ONCE, SIZE_OF_EACH = 32, 10**8
PATIENCE_S, HEARTBEAT_S = 600.0, 5.0
LOOK_S = 0.05
SLOW = 8 * 10**6  # bits a second
LINK_ROUNDS = 3
# Checkpoints come faster than they can be sent.
TRAINING = {
    "num_orbits": 32,
    "resample_each_epoch": True,
    "steps_per_epoch": 8,
    "epochs": 30,
    "hidden_dims": [256, 256],
    "replay_steps": 100,
    "checkpoint_every": 1,
    "evaluation_orbits": 4,
    "seed": 1,
}
NGINX = """
user root; daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/log;
events {{ }}
http {{
  access_log off; client_max_body_size 0; client_body_temp_path {folder}/body;
  server {{ listen {host}:{port}; root {folder}; location / {{ dav_methods PUT; }} }}
}}
"""


@contextmanager
def nginx(folder: Path) -> Iterator[str]:
    """The address at which nginx takes files into a folder."""
    port = free_port(HOST)
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, host=HOST, port=port))
    process = subprocess.Popen(["nginx", "-c", str(config), "-e", str(folder / "log")])
    try:
        yield f"http://{HOST}:{port}"
    finally:
        process.terminate()
        process.wait()


@contextmanager
def leased(number: int) -> Iterator[tuple[Server, list[Lease], Path]]:
    """A server, leases that a worker holds, and the worker's folder."""
    with tempfile.TemporaryDirectory() as folder:
        data, own = Path(folder) / "server", Path(folder) / "worker"
        with filling(data) as connection:
            add_jobs(connection, number, epochs=10, save_name="sent")
            leases = claim_jobs(connection, number)
        with serving(data) as server, kept(server, leases):
            yield server, leases, own


@contextmanager
def kept(server: Server, leases: list[Lease]) -> Iterator[None]:
    """Heartbeats of all leases."""
    over = threading.Event()

    def beat() -> None:
        with WorkerClient(server.url, server.worker) as client:
            while not over.wait(HEARTBEAT_S):
                for lease in leases:
                    client.report(lease.id, Report())

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def made(own: Path, lease: Lease, epoch: int, size: int) -> Record:
    """A checkpoint of an attempt, as its spool tells of it."""
    path = f"sent/{lease.job_id}/attempt-1/model/model_epoch_{epoch:04d}.pt"
    (own / path).parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with (own / path).open("wb") as file:
        for _ in range(size // PIECE):
            piece = os.urandom(PIECE)
            digest.update(piece)
            file.write(piece)
    about = {"epoch": epoch, "path": path, "bytes": size, "sha256": digest.hexdigest()}
    return {"kind": "checkpoint", "data": about | {"rolling": False}}


def send(server: Server, lease: Lease, own: Path, record: Record) -> float:
    """Seconds until the server has a file, and has looked at it."""
    with WorkerClient(server.url, server.worker) as client:
        began = time.perf_counter()
        files = Uploads(client, lease.id, own, lambda _path, _sha256: None)
        files.offer(record)
        while not files.arrived():
            files.wait(PATIENCE_S)
        seconds = time.perf_counter() - began
        files.close()
    return seconds


def put(url: str, path: Path) -> float:
    """Seconds of a plain curl."""
    began = time.perf_counter()
    subprocess.run(
        ["curl", "--fail", "--silent", "-T", str(path), f"{url}/{path.name}"], check=True
    )
    return time.perf_counter() - began


def verify(path: Path) -> float:
    """Seconds until what nginx took is known to be the file, and is on the disk."""
    began = time.perf_counter()
    subprocess.run(["sha256sum", str(path)], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["sync", str(path)], check=True)
    return time.perf_counter() - began


def upload() -> Row:
    """A gigabyte, in turns with curl to nginx, which looks at nothing and syncs nothing."""
    ours: list[float] = []
    theirs: list[float] = []
    as_sure: list[float] = []
    with leased(1) as (server, (lease,), own), nginx(own.parent) as url:
        for number in range(ROUNDS):
            record = made(own, lease, number, SIZE)
            path = own / record["data"]["path"]
            os.sync()  # what it takes to write the file is not measured with either
            theirs.append(put(url, path))
            as_sure.append(theirs[-1] + verify(own.parent / path.name))
            os.sync()
            ours.append(send(server, lease, own, record))
            path.unlink()
            (own.parent / path.name).unlink()
            (own.parent / "server" / record["data"]["path"]).unlink()
    rivals = {"curl_to_nginx": theirs, "curl_to_nginx_sha256sum_sync": as_sure}
    row: Row = {"mb_per_s": SIZE / 1e6 / median(ours)}
    for name, seconds in rivals.items():
        row[f"{name}_mb_per_s"] = SIZE / 1e6 / median(seconds)
        pairs = zip(ours, seconds, strict=True)
        row[f"ratio_to_{name}"] = median(their / our for our, their in pairs)
    return row


def memory() -> Row:
    """What 32 uploads at once add to the server's memory."""
    with leased(AT_ONCE) as (server, leases, own):
        records = [made(own, lease, 0, SIZE_OF_EACH) for lease in leases]
        send(server, leases[0], own, records[0])  # what the first of all loads
        idle = most = server.resident_mb()
        threads = [
            threading.Thread(target=send, args=(server, lease, own, record))
            for lease, record in zip(leases[1:], records[1:], strict=True)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            most = max(most, server.resident_mb())
            time.sleep(LOOK_S)
    return {"uploads": len(threads), "idle_mb": idle, "more_mb": most - idle}


def slow_link() -> Row:
    """Epochs over a link that checkpoints fill, and over one that has room."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder, hosts(3, Path(folder)) as made:
        cluster = Cluster(made, leases={})
        (far,) = cluster.workers
        cluster.work(far)
        config = cluster.user.folder / "config.json"
        cluster.user.run("sh", "-c", f"echo '{json.dumps(TRAINING)}' > {config}")
        for is_slow in [False, True] * LINK_ROUNDS:
            if is_slow:
                far.slow_down(SLOW)
            job = json.loads(cluster.orrery("submit", str(config), "--json"))["id"]
            cluster.orrery("watch", job)
            rows = json.loads(cluster.orrery("metrics", job, "--json"))
            seconds[is_slow].append(median(row["epoch_time"] for row in rows))
            if is_slow:
                far.speed_up()
    ratio = median(slow / free for slow, free in zip(seconds[True], seconds[False], strict=True))
    return {
        "epoch_s": median(seconds[False]),
        "slow_epoch_s": median(seconds[True]),
        "ratio": ratio,
    }


BENCHMARKS: dict[str, Callable[[], Row]] = {
    "upload": upload,
    "memory": memory,
    "slow_link": slow_link,
}


def main() -> None:
    """Run them, and print a line of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="write the figures to this file, too")
    parser.add_argument("--only", nargs="*", choices=BENCHMARKS, default=list(BENCHMARKS))
    options = parser.parse_args()
    rows: dict[str, Row] = {}
    for name in options.only:
        rows[name] = BENCHMARKS[name]()
        print(name, json.dumps(rows[name]), flush=True)
    if options.out is not None:
        machine = {"platform": platform.platform(), "cores": os.cpu_count()}
        options.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
