"""`orrery autoscale`: what is wrong is said before anything is started; and a queue that is drained
by workers of this machine."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import until
from tests.server.conftest import OrreryServer

pytestmark = pytest.mark.slow


def autoscale(server: OrreryServer, folder: Path, *words: str) -> "subprocess.Popen[str]":
    token = folder / "worker.token"
    token.write_text(server.worker_token)
    command = [sys.executable, "-m", "server", "autoscale", *words, "--data", str(folder / "own")]
    return subprocess.Popen(
        [*command, "--url", server.url, "--token-file", str(token)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("local", "--max", "2", "--min", "3"), "--min is more than --max"),
        (("local", "--max", "2", "--name", "-x"), "--name: 1 to 32"),
        (("local", "--max", "2", "--gpu", "0"), "--max 2: each worker has a --gpu of its own"),
        (("local", "--max", "2", "--label", "x"), "use KEY=TEXT"),
        (("local", "--max", "1", "--token-file", "/none"), "No such file"),
        (("slurm", "--max", "1", "--time", "12h"), "--time 12h: use minutes"),
        (("slurm", "--max", "1", "--sbatch=--clusters=x"), "would not be found again"),
        (("slurm", "--max", "1", "--data", 'a"b'), "no quotes"),
        (("ray", "--max", "1", "--resource", "tpu=x"), "--resource tpu=x: use KEY=NUMBER"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_started(
    server: OrreryServer, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    (tmp_path / "worker.token").write_text(server.worker_token)
    given = ["--token-file", str(tmp_path / "worker.token"), "--data", str(tmp_path), *words[1:]]
    command = [sys.executable, "-m", "server", "autoscale", words[0], "--url", server.url, *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr


def test_once_where_the_server_is_away_says_so(server: OrreryServer, tmp_path: Path) -> None:
    process = autoscale(server, tmp_path, "local", "--max", "1", "--once")
    _, told = process.communicate()
    assert process.returncode == 0, told
    command = [sys.executable, "-m", "server", "autoscale", "local", "--max", "1", "--once"]
    given = ["--url", "http://127.0.0.1:9", "--token-file", str(tmp_path / "worker.token")]
    done = subprocess.run([*command, *given], capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "error: no server answers at http://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_token_with_which_no_worker_works_starts_none(
    server: OrreryServer, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(server.admin_token)
    command = [sys.executable, "-m", "server", "autoscale", "local", "--max", "1", "--once"]
    given = ["--url", server.url, "--token-file", str(tmp_path / "token")]
    done = subprocess.run([*command, *given], capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "token of role admin" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("slurm",), "squeue"),  # no such program, or no configuration
        (("ray", "--address", "127.0.0.1:9"), "127.0.0.1:9"),
    ],
)
def test_where_no_engine_answers_at_first_it_ends_and_says_so(
    server: OrreryServer, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    process = autoscale(server, tmp_path, *words, "--max", "1")
    _, told = process.communicate()
    assert process.returncode == 4, told
    assert said in told.splitlines()[-1]
    assert "Traceback" not in told


def test_workers_of_this_machine_do_what_waits(server: OrreryServer, tmp_path: Path) -> None:
    job = server.submit(config={"evaluation_orbits": 0})
    process = autoscale(server, tmp_path, "local", "--max", "1", "--interval", "0.3")
    until(lambda: server.job(job["id"])["status"] == "succeeded", seconds=120)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate()
    assert process.returncode == 0, told
    assert "1 more asked for" in told
    assert "none is left" in told
