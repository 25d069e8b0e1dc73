"""Where a server listens: a Unix socket behind a real nginx, IPv6; and what systemd is told."""

import configparser
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from server.cli.local_service import free_port
from server.client import Client
from server.wire.trust import trusted
from tests.patience import until
from tests.server.front.conftest import nginx

pytestmark = pytest.mark.slow
UNITS = Path(__file__).parents[3] / "docker" / "systemd"


@contextmanager
def serving(data: Path, *words: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """`orrery serve` runs inside."""
    command = [sys.executable, "-m", "server", "serve", "--data", str(data), *words]
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        if process.stderr is not None and not process.stderr.closed:
            process.communicate()


def token(data: Path) -> str:
    return (data / ".orrery" / "admin.token").read_text().strip()


def listens(place: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return not probe.connect_ex(str(place))


def test_a_unix_socket_behind_nginx(certificates: Path, tmp_path: Path) -> None:
    place, data, port = tmp_path / "orrery.sock", tmp_path / "data", free_port("127.0.0.1")
    url = f"https://localhost:{port}/orrery"
    with (
        serving(data, "--socket", str(place), ORRERY_PUBLIC_URL=url),
        nginx(certificates, port, f"http://unix:{place}:"),
    ):
        until(lambda: listens(place))
        authority = certificates / "ca.pem"
        with Client(url, token(data), authorities=authority) as client:
            job = client.submit({"epochs": 1})
            assert client.job(job["id"])["status"] == "queued"
        with httpx.Client(verify=trusted(url, authority)) as browser:
            assert browser.get(f"{url}/").status_code == 200
            assert browser.get(f"{url}/v1/jobs").status_code == 401
        with serving(tmp_path / "other", "--socket", str(place)) as second:  # it is taken
            _, told = second.communicate()
        assert second.returncode != 0
        assert "somebody does" in told
        assert listens(place)


def test_a_socket_of_one_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    place, data = tmp_path / "orrery.sock", tmp_path / "data"
    with serving(data, "--socket", str(place)) as first:
        until(lambda: listens(place))
        first.kill()
        first.wait()
    assert place.exists()
    with serving(data, "--socket", str(place)):
        until(lambda: listens(place))
        transport = httpx.HTTPTransport(uds=str(place))
        with Client("http://localhost", token(data), transport) as client:
            assert client.jobs()["data"] == []


@pytest.mark.parametrize("place", ["none/orrery.sock", "x" * 200, "file"])
def test_a_socket_that_cannot_be_is_told(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("of somebody")
    with serving(tmp_path / "data", "--socket", str(tmp_path / place)) as process:
        _, told = process.communicate()
    assert process.returncode != 0
    assert "cannot listen on" in told
    assert "Traceback" not in told


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6(tmp_path: Path) -> None:
    data, port = tmp_path / "data", free_port("::1")
    url = f"http://[::1]:{port}"
    with serving(data, "--host", "::1", "--port", str(port)):
        until(lambda: _answers(url))
        with Client(url, token(data)) as client:
            job = client.submit({"epochs": 1, "steps_per_epoch": 4, "num_orbits": 4})
            where = ["--server", url, "--token-file", str(data / ".orrery" / "worker.token")]
            own = ["--once", "--data", str(tmp_path / "own")]
            subprocess.run([sys.executable, "-m", "worker", *where, *own], check=True)
            assert client.job(job["id"])["status"] == "succeeded"


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_that_it_is_ready_and_that_it_ends(tmp_path: Path, abstract: bool) -> None:
    name = f"orrery-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name}" if abstract else name)
        systemd.settimeout(60)
        place, data = tmp_path / "orrery.sock", tmp_path / "data"
        asked = f"@{name}" if abstract else name
        with serving(data, "--socket", str(place), NOTIFY_SOCKET=asked) as process:
            assert systemd.recv(100) == b"READY=1"
            assert listens(place)
            process.send_signal(signal.SIGTERM)
            assert systemd.recv(100) == b"STOPPING=1"


def test_a_supervisor_that_is_gone_costs_nothing(tmp_path: Path) -> None:
    place, nobody = tmp_path / "orrery.sock", str(tmp_path / "nobody")
    with serving(tmp_path / "data", "--socket", str(place), NOTIFY_SOCKET=nobody) as process:
        until(lambda: listens(place))
        process.terminate()
        assert process.wait() == -signal.SIGTERM  # as uvicorn ends


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("unit", sorted(UNITS.glob("*.service")), ids=lambda path: path.name)
def test_units_are_as_systemd_reads_them(tmp_path: Path, unit: Path) -> None:
    text = unit.read_text("utf-8")
    program = Path(sys.executable).with_name("orrery")
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.read_string(text)
    words = parsed["Service"]["ExecStart"].split()
    subprocess.run([program, words[1], "--help"], check=True, capture_output=True)
    for service in UNITS.glob("*.service"):  # they name each other
        here = service.read_text("utf-8").replace("/opt/orrery/.venv/bin/orrery", str(program))
        (tmp_path / service.name).write_text(here.replace("User=orrery\n", ""))
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit.name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    about = [line for line in (done.stdout + done.stderr).splitlines() if "orrery-" in line]
    assert (done.returncode, about) == (0, [])
