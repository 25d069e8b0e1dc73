"""The benchmarks of the engine that need the server and a worker, which a GPU machine may lack.

`engine.py` runs them under their names.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from measured_runs import DEMO, DEVICE, SMALL, measured_run

from server.cli.local_service import LocalService, free_port
from server.client import Client
from server.settings import ServerSettings


def predicted_memory() -> dict[str, float]:
    """What `POST /v1/jobs/validate` predicts over the measured peak of the process that trains: one
    of a worker, and `python -m nbody` alone."""
    cases: dict[str, dict[str, Any]] = {
        "demo": json.loads(DEMO.read_text()),
        "default_network_64_orbits": {"num_orbits": 64, "steps_per_epoch": 16},
        "512_orbits_minibatches_of_2048": {
            "num_orbits": 512,
            "steps_per_epoch": 16,
            "replay_batch_size": 2048,
        },
        "4096_orbits": {"num_orbits": 4096, "steps_per_epoch": 16, "hidden_dims": [256, 256]},
        "8192_orbits_band": {"num_orbits": 8192, "steps_per_epoch": 32, **SMALL, "loss": "band"},
        "plummer_32": {
            "initial_conditions": "plummer",
            "num_particles": 32,
            "num_systems": 64,
            "steps_per_epoch": 8,
            **SMALL,
        },
        "plummer_64_band": {
            "initial_conditions": "plummer",
            "num_particles": 64,
            "num_systems": 32,
            "steps_per_epoch": 8,
            "loss": "band",
            **SMALL,
        },
        "plummer_128": {
            "initial_conditions": "plummer",
            "num_particles": 128,
            "num_systems": 2,
            "steps_per_epoch": 4,
            **SMALL,
        },
        "three_layers_of_2000": {"hidden_dims": [2000] * 3, "steps_per_epoch": 16},
    }
    ratios: dict[str, float] = {}
    short = {"epochs": 2, "replay_steps": 20, "max_retrain_steps": 5}
    with local_service() as client:
        for name, fields in cases.items():
            fields = {"seed": 1, "device": DEVICE["type"], **fields, **short}
            predicted = client.validate(fields)["estimated_memory_bytes"]
            ratios[name] = predicted / peak_in_worker(client, client.submit(fields)["id"])
            ratios[f"{name}_alone"] = predicted / measured_run(fields, [])["peak"]
    return ratios


def peak_in_worker(client: Client, job: str) -> int:
    """Peak memory of the process that a worker trains in [bytes]."""
    peaks: dict[int, int] = {}
    while client.job(job)["status"] not in {"succeeded", "failed"}:
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended
                if b"forkserver" in (process / "cmdline").read_bytes():
                    status = (process / "status").read_text()
                    found = re.search(r"VmHWM:\s+(\d+)", status)
                    peaks[int(process.name)] = int(found[1]) * 1024 if found else 0
        time.sleep(0.02)
    return peaks[max(peaks)]  # the newest one: the others are those that fork it


@contextmanager
def local_service() -> Iterator[Client]:
    """A server with one worker on a data folder of its own; its client."""
    with tempfile.TemporaryDirectory() as folder:
        settings = ServerSettings(data=Path(folder), port=free_port("127.0.0.1"))
        with LocalService(settings, 1) as service:
            service.start_server()
            service.wait_until_ready(60)
            service.start_workers()
            yield Client(service.url, settings.admin_token_path.read_text().strip())


def through_the_server() -> dict[str, float]:
    """Epochs through server and worker beside those of `python -m nbody`, at the same moment.

    Each side has one core and one thread; the server, the agent and a client that waits share the
    core of the process that they train in. Then the sides change cores. So whatever else the host
    does slows both down. What the three use of that core is measured as CPU time, too.
    """
    fields = {**json.loads(DEMO.read_text()), "epochs": 12, "evaluation_orbits": 0}
    measured = slice(2, -1)  # without what warms up, and what one side may do alone at the end
    ours, alone, used, elapsed = 0.0, 0.0, 0.0, 0.0
    cores = sorted(os.sched_getaffinity(0))[:2]
    for core, other in (cores, reversed(cores)):
        os.sched_setaffinity(0, {core})
        with tempfile.TemporaryDirectory() as folder, local_service() as client:
            config = Path(folder) / "config.json"
            config.write_text(json.dumps(fields))
            # The worker trains with this setting; both sides do.
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            command = ["taskset", "--cpu-list", str(other), sys.executable, "-m", "nbody"]
            command += [str(config), "--json", "--data", folder]
            serving = [os.getpid(), *children()]
            for _ in range(5):
                used -= cpu_seconds(serving)
                elapsed -= time.perf_counter()
                job = client.submit(fields)["id"]
                output = subprocess.Popen(
                    command, env=environment, text=True, stdout=subprocess.PIPE
                )
                client.wait(job)
                used += cpu_seconds(serving)
                elapsed += time.perf_counter()
                rows = [json.loads(line) for line in output.communicate()[0].splitlines()]
                times = [row["epoch_time"] for row in rows if "epoch_time" in row]
                alone += sum(times[measured])
                rows = client.metrics(job)["data"]
                ours += sum(row["epoch_time"] for row in rows[measured])
    os.sched_setaffinity(0, cores)
    share = used / elapsed
    return {"server_s": ours, "alone_s": alone, "ratio": ours / alone, "cpu_of_serving": share}


def children() -> list[int]:
    """The processes that this one has started."""
    tasks = Path("/proc/self/task").glob("*/children")
    return [int(process) for task in tasks for process in task.read_text().split()]


def cpu_seconds(processes: list[int]) -> float:
    """CPU time that some processes have used [s]."""
    used = 0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        used += int(fields[11]) + int(fields[12])  # in user and in kernel mode, ticks
    return used / os.sysconf("SC_CLK_TCK")
