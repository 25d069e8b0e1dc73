"""kill -9 and worse, with real processes: the job finishes by itself and nothing shows."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import CONFIG, EPOCHS, Running, running
from tests.process_tree import runs

Series = list[dict[str, Any]]
pytestmark = pytest.mark.slow


def assert_as_if_nothing_happened(service: Running, job_id: str, undisturbed: Series) -> None:
    job = service.client.wait(job_id)
    assert job["status"] == "succeeded", job
    series = service.series(job_id)
    assert [row["epoch"] for row in series] == list(range(EPOCHS))
    assert series == undisturbed
    checkpoints = service.client.checkpoints(job_id)["data"]
    names = [Path(checkpoint["path"]).name for checkpoint in checkpoints]
    assert names == [f"model_epoch_{epoch:04d}.pt" for epoch in (0, 7, 14, 21, 28, 29)]
    for checkpoint in checkpoints:
        assert (service.data / checkpoint["path"]).stat().st_size == checkpoint["bytes"]


def test_a_killed_training_process_is_not_noticed(service: Running, undisturbed: Series) -> None:
    job_id = service.client.submit(CONFIG)["id"]
    service.wait_for_epoch(job_id, 9)
    os.kill(service.training(), signal.SIGKILL)
    assert_as_if_nothing_happened(service, job_id, undisturbed)
    assert service.client.job(job_id)["attempt"] == 2


def test_a_killed_agent_is_not_noticed(service: Running, undisturbed: Series) -> None:
    job_id = service.client.submit(CONFIG)["id"]
    service.wait_for_epoch(job_id, 9)
    training = service.training()
    os.kill(service.agent(), signal.SIGKILL)
    assert_as_if_nothing_happened(service, job_id, undisturbed)
    assert not runs(training)


def test_a_killed_server_is_not_noticed(service: Running, undisturbed: Series) -> None:
    job_id = service.client.submit(CONFIG)["id"]
    service.wait_for_epoch(job_id, 5)
    server = service.pid_of("server", "serve")
    os.kill(server, signal.SIGKILL)
    service.client.wait_until_ready(60)
    assert_as_if_nothing_happened(service, job_id, undisturbed)
    assert service.client.job(job_id)["attempt"] == 1


def test_a_worker_that_slept_past_its_lease_can_write_nothing(
    tmp_path: Path, undisturbed: Series
) -> None:
    with running(tmp_path / "data", workers=2) as service:
        job_id = service.client.submit(CONFIG)["id"]
        service.wait_for_epoch(job_id, 4)
        holder = next(w for w in service.client.workers()["data"] if w["jobs"])
        number = int(holder["name"].removeprefix("up-"))
        agent, training = service.agent(number), service.training(number)
        os.kill(agent, signal.SIGSTOP)
        service.wait_until(job_id, lambda job: job["attempt"] == 2)
        os.kill(agent, signal.SIGCONT)
        assert_as_if_nothing_happened(service, job_id, undisturbed)
        assert not runs(training)


def test_a_cancelled_job_leaves_no_process(service: Running) -> None:
    job_id = service.client.submit({**CONFIG, "epochs": 10**6})["id"]
    service.wait_for_epoch(job_id, 2)
    training = service.training()
    service.client.cancel(job_id)
    job = service.client.wait(job_id)
    assert job["status"] == "cancelled"
    assert not runs(training)


def test_a_cancelled_job_that_does_not_react_is_killed(service: Running) -> None:
    job_id = service.client.submit({**CONFIG, "epochs": 10**6})["id"]
    service.wait_for_epoch(job_id, 2)
    training = service.training()
    os.kill(training, signal.SIGSTOP)
    service.client.cancel(job_id, grace_s=1)
    job = service.client.wait(job_id)
    assert job["status"] == "cancelled"
    assert not runs(training)


def test_a_process_without_progress_is_ended_and_tried_again(tmp_path: Path) -> None:
    with running(tmp_path / "data", ORRERY_STALL_TIMEOUT_S="2") as service:
        job_id = service.client.submit({**CONFIG, "epochs": 10**6})["id"]
        service.wait_for_epoch(job_id, 2)
        os.kill(service.training(), signal.SIGSTOP)
        service.wait_until(job_id, lambda job: job["attempt"] == 2)
        events = service.client.events(job_id)["data"]
        assert any(event["data"].get("stop_reason") == "stalled" for event in events)


def test_a_runtime_limit_ends_a_job_and_keeps_its_checkpoint(service: Running) -> None:
    job = service.client.submit({**CONFIG, "epochs": 10**6}, max_runtime_s=3)
    job = service.client.wait(job["id"])
    assert job["status"] == "failed"
    assert job["failure"]["code"] == "max_runtime"
    assert job["latest_checkpoint"] is not None


def test_a_worker_without_a_valid_token_gets_nothing(service: Running, tmp_path: Path) -> None:
    import subprocess
    import sys

    token = tmp_path / "other.token"
    token.write_text("some-other-token-than-the-one\n")
    command = [sys.executable, "-m", "worker", "--server", service.client.url]
    command += ["--data", str(tmp_path / "elsewhere"), "--token-file", str(token)]
    worker = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert worker.returncode == 1
    assert "token" in worker.stderr
    assert [w["name"] for w in service.client.workers()["data"]] == ["up-0"]


def test_a_pause_is_not_noticed_and_frees_the_slot(service: Running, undisturbed: Series) -> None:
    client = service.client
    job_id = client.submit(CONFIG)["id"]
    service.wait_for_epoch(job_id, 9)
    training = service.training()
    client.pause(job_id)
    service.wait_until(job_id, lambda job: job["status"] == "paused")
    assert not runs(training)
    other = client.submit({**CONFIG, "epochs": 2})["id"]
    assert client.wait(other)["status"] == "succeeded"
    assert client.job(job_id)["status"] == "paused"
    client.resume(job_id)
    assert_as_if_nothing_happened(service, job_id, undisturbed)


def test_a_retry_goes_on_from_a_checkpoint(service: Running, undisturbed: Series) -> None:
    client = service.client
    first = client.wait(client.submit(CONFIG)["id"])
    fourteen = next(c for c in client.checkpoints(first["id"])["data"] if c["epoch"] == 14)
    second = client.wait(client.retry(first["id"], from_checkpoint=fourteen["id"])["id"])
    assert second["status"] == "succeeded"
    assert service.series(second["id"]) == undisturbed[15:]
    files = service.data / Path(fourteen["path"]).parents[2]
    assert files.is_dir()
    client.delete(first["id"], files=True)
    assert not files.exists()
    assert client.job(second["id"])["retry_of"] == first["id"]
