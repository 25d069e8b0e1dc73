"""The main job as a new user runs it, with a demo small enough for a test."""

import json
import math
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import rebound

from nbody.config import Config
from nbody.training.run import TrainingRun
from tests.end_to_end.conftest import CONFIG, EPOCHS, Running, running
from tests.offline_runs import read_back
from tests.process_tree import command_line

pytestmark = pytest.mark.slow


def test_the_demo_trains_over_http_and_prints_what_it_made(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    demo = {**CONFIG, "epochs": 12, "checkpoint_every": 10}
    (data / "kepler_demo.json").write_text(json.dumps(demo))
    command = [sys.executable, "-m", "server", "up", "--demo", "--data", str(data)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    for words in ("succeeded", "model_epoch_0000.pt", "model_epoch_0010.pt", "model_epoch_0011.pt"):
        assert words in run.stdout
    assert "efficiency" in run.stdout
    assert "violation rate" in run.stdout
    assert len(list(data.glob("end_to_end/*/attempt-1/model/*.pt"))) == 3
    assert not list(data.glob("**/resume"))
    assert not list(data.glob(".orrery/workers/*/lease_*"))


def test_an_asteroid_keeps_its_orbit_at_default_settings(service: Running) -> None:
    """A star, a Jupiter and a body that weighs nothing, for ten of its periods, beside IAS15."""
    sim = rebound.Simulation()
    sim.add(m=1.0)
    sim.add(m=1e-3, a=5.2, e=0.05)
    sim.add(m=1e-9, a=1.0, e=0.9, primary=sim.particles[0])
    rows = [[p.m, p.x, p.y, p.vx, p.vy] for p in sim.particles]
    config = {"initial_conditions": "inline", "particles": rows, "duration": 20 * math.pi}
    job = service.client.wait(service.client.submit(config, kind="simulate")["id"])
    assert job["status"] == "succeeded"
    found = job["result"]["systems"][0]["orbits"]["final"][2]
    sim.integrate(config["duration"])
    expected = sim.particles[2].orbit(primary=sim.particles[0])
    assert found["semi_major_axis"] == pytest.approx(expected.a, rel=0.01)
    assert found["eccentricity"] == pytest.approx(expected.e, abs=0.002)
    assert job["result"]["worst_body"] == 2
    assert job["result"]["warnings"] == []


def test_a_checkpoint_file_from_elsewhere_is_what_a_job_works_with(
    service: Running, tmp_path: Path
) -> None:
    run = TrainingRun.start(Config.model_validate(CONFIG | {"hidden_dims": [8]}))
    run.end_epoch(run.begin_epoch(), {"pass_rate": 1.0})
    sent = service.client.upload(run.save(tmp_path / "model.pt"))
    rows = [[1.0, 0.0, 0.0, 0.0, -0.5], [1.0, 1.0, 0.0, 0.0, 0.5]]
    config = {"initial_conditions": "inline", "particles": rows, "steps": 5}
    asked = {"kind": "simulate", "stepper": {"job": sent["job_id"]}}
    job = service.client.wait(service.client.submit(config, **asked)["id"])
    assert (job["status"], job["result"]["steps"]) == ("succeeded", 5)
    assert job["config"]["integrator_mode"] == "reversible"


def test_a_job_that_cannot_run_says_why(service: Running) -> None:
    config = {**CONFIG, "initial_conditions": "file", "ic_path": "missing.npy"}
    config["resample_each_epoch"] = False
    job = service.client.wait(service.client.submit(config)["id"])
    assert job["status"] == "failed"
    assert job["failure"]["code"] == "invalid_config"
    assert "missing.npy" in job["failure"]["detail"]
    assert job["attempt"] == 1
    assert b"missing.npy" in service.client.logs(job["id"])


def test_wandb_that_hangs_does_not_hold_a_job_up_and_is_gone_after_a_cancel(
    tmp_path: Path,
) -> None:
    stub = tmp_path / "stub"
    stub.mkdir()
    (stub / "wandb.py").write_text("import threading\nthreading.Event().wait()\n")
    with running(tmp_path / "data", PYTHONPATH=f"{stub}{os.pathsep}{Path.cwd()}") as service:
        job_id = service.client.submit({**CONFIG, "epochs": 10**6, "wandb": True})["id"]
        service.wait_for_epoch(job_id, 2)
        [hanging] = processes_with("worker.child.wandb", str(tmp_path))
        descriptor = os.pidfd_open(hanging)
        service.client.cancel(job_id)
        assert service.client.wait(job_id)["status"] == "cancelled"
        assert select.select([descriptor], [], [], 30)[0]
        os.close(descriptor)


def test_wandb_gets_every_epoch_once_though_its_process_and_its_agent_are_killed(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    with running(data, WANDB_MODE="offline") as service:
        config = {**CONFIG, "wandb": True}
        job_id = service.client.submit(config)["id"]
        service.wait_for_epoch(job_id, 5)
        for pid in processes_with("worker.child.wandb", str(data)):
            with suppress(ProcessLookupError):  # one of its own that is gone, or no group's first
                os.killpg(pid, signal.SIGKILL)
        os.kill(service.agent(), signal.SIGKILL)
        job = service.client.wait(job_id)
        assert (job["status"], job["attempt"]) == ("succeeded", 2)
        journal = data / ".orrery" / "wandb" / job_id  # removed by the last who knows of the end
        while journal.exists() or processes_with("worker.child.wandb", str(data)):
            pass
    [path] = data.glob(f"*/{job_id}/wandb/offline-run-*/*.wandb")
    told = read_back(path)
    assert (told["epochs"], told["exit_code"]) == (list(range(EPOCHS)), 0)
    assert "stepper" in told["summary"]


def processes_with(*words: str) -> list[int]:
    """Running processes whose command line holds these words."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    lines = {pid: " ".join(command_line(pid)) for pid in pids}
    return [pid for pid, line in lines.items() if all(word in line for word in words)]
