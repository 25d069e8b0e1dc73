"""The worker's command line."""

import subprocess
import sys
from pathlib import Path

import pytest

from worker.__main__ import main
from worker.settings import InvalidSettings, read_settings


def token(folder: Path) -> Path:
    path = folder / "token"
    path.write_text(" secret-of-some-length \n")
    return path


def test_the_token_is_read_from_its_file(tmp_path: Path) -> None:
    settings = read_settings(["--token-file", str(token(tmp_path)), "--data", str(tmp_path)])
    assert settings.token == "secret-of-some-length"


def test_a_missing_token_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"worker\.token"):
        read_settings(["--data", str(tmp_path)])


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 65])
def test_a_name_that_is_no_plain_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidSettings, match="name"):
        read_settings(["--token-file", str(token(tmp_path)), "--name", name])


def test_slots_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.settings.usable_cores", lambda: 8)
    arguments = ["--token-file", str(token(tmp_path)), "--slots", "3"]
    assert read_settings(arguments).threads == 2
    assert read_settings([*arguments, "--threads", "5"]).threads == 5


def test_the_log_can_be_for_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--token-file", str(token(tmp_path))]
    assert read_settings(arguments).log_format == "text"
    monkeypatch.setenv("ORRERY_LOG_FORMAT", "json")
    assert read_settings(arguments).log_format == "json"
    monkeypatch.setenv("ORRERY_LOG_FORMAT", "xml")
    with pytest.raises(InvalidSettings, match="text or json"):
        read_settings(arguments)


def test_variables_that_nobody_reads_are_named_before_what_they_may_have_caused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["worker", "--data", "nowhere"])
    monkeypatch.setenv("ORRERY_WORKER_TOKENFILE", "here")
    assert main() == 2
    warning, error = capsys.readouterr().err.splitlines()
    assert "did you mean ORRERY_WORKER_TOKEN_FILE" in warning
    assert "cannot read the worker token" in error


@pytest.mark.parametrize("name", ["worker-*", "w*", "x" * 64])
def test_a_name_may_leave_its_number_open(tmp_path: Path, name: str) -> None:
    assert read_settings(["--token-file", str(token(tmp_path)), "--name", name]).name == name


@pytest.mark.parametrize("name", ["*", "a*b", "*a", "x" * 61 + "*"])
def test_a_star_stands_at_the_end(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidSettings, match="may end in"):
        read_settings(["--token-file", str(token(tmp_path)), "--name", name])


def test_labels_are_given_or_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--token-file", str(token(tmp_path))]
    assert read_settings(arguments).labels == {}
    monkeypatch.setenv("ORRERY_WORKER_LABELS", "site=leiden, net=a=b,")
    assert read_settings(arguments).labels == {"site": "leiden", "net": "a=b"}
    assert read_settings([*arguments, "--label", "x=y"]).labels == {"x": "y"}
    for wrong in ("site", "a b=c", "=x"):
        with pytest.raises(InvalidSettings, match="KEY=TEXT"):
            read_settings([*arguments, "--label", wrong])


@pytest.mark.parametrize("server", ["nonsense", "127.0.0.1:8080", "ftp://here", "http://"])
def test_what_is_no_address_of_a_server_is_refused(tmp_path: Path, server: str) -> None:
    with pytest.raises(InvalidSettings, match="no address of a server"):
        read_settings(["--token-file", str(token(tmp_path)), "--server", server])


def test_a_file_is_no_data_folder(tmp_path: Path) -> None:
    """In a process of its own, for it takes the signals."""
    where = ["--token-file", str(token(tmp_path)), "--data", str(tmp_path / "token")]
    command = [sys.executable, "-m", "worker", "--server", "http://127.0.0.1:9", *where]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "token cannot be a data folder" in done.stderr
    assert "Traceback" not in done.stderr
