"""What `orrery up` starts, as far as it can be seen without starting it."""

import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from server.cli.local_service import LocalService, ServiceFailed, check_port, free_port
from server.settings import ServerSettings


def _service(tmp_path: Path, workers: int = 2, **settings: Any) -> LocalService:
    return LocalService(ServerSettings(data=tmp_path, port=8123, **settings), workers)


def test_a_free_port_can_be_listened_on() -> None:
    port = free_port("127.0.0.1")
    with socket.create_server(("127.0.0.1", port)) as listener:
        assert listener.getsockname()[1] == port


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8123"),
        ("0.0.0.0", "http://127.0.0.1:8123"),
        ("::1", "http://[::1]:8123"),
        ("gpu.example", "http://gpu.example:8123"),
    ],
)
def test_the_address_can_be_opened_from_here(tmp_path: Path, host: str, url: str) -> None:
    assert _service(tmp_path, host=host).url == url


def test_one_server_and_the_workers_are_kept_running(tmp_path: Path) -> None:
    service = _service(tmp_path, workers=3)
    assert [process.name for process in service.processes] == [
        "server",
        "worker 0",
        "worker 1",
        "worker 2",
    ]
    assert len(_service(tmp_path, workers=0).processes) == 1


def test_no_secret_stands_on_a_command_line(tmp_path: Path) -> None:
    settings = ServerSettings(data=tmp_path)
    settings.worker_token_path.parent.mkdir()
    settings.worker_token_path.write_text("orrery_very-secret-indeed\n", encoding="utf-8")
    for process in _service(tmp_path).processes:
        assert not any("very-secret" in argument for argument in process.command)
    worker = _service(tmp_path).processes[1].command
    assert str(settings.worker_token_path) in worker


def test_the_choice_to_go_without_tokens_reaches_the_server(tmp_path: Path) -> None:
    assert "--no-auth" not in _service(tmp_path).processes[0].command
    assert "--no-auth" in _service(tmp_path, auth=False).processes[0].command


def test_a_port_in_use_is_said_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            check_port("127.0.0.1", port)


def test_a_server_that_ends_at_once_is_noticed_at_once(tmp_path: Path) -> None:
    settings = ServerSettings(data=tmp_path, port=free_port("127.0.0.1"))
    with LocalService(settings, 0) as service:
        service.processes[0].command = [sys.executable, "-c", "raise SystemExit(7)"]
        service.start_server()
        with pytest.raises(ServiceFailed, match="exit code 7"):
            service.wait_until_ready(60)
