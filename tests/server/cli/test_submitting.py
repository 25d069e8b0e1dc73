"""`orrery submit` of several files, of the input, with priority, limits and a key."""

import io
import json
import subprocess
from pathlib import Path

import pytest

from tests.server.conftest import TINY, Orrery, OrreryServer


def write(folder: Path, name: str, **fields: object) -> str:
    path = folder / name
    path.write_text(json.dumps(TINY | fields))
    return str(path)


def test_many_files_are_submitted_with_one_set_of_options(
    tmp_path: Path, server: OrreryServer, orrery: Orrery
) -> None:
    files = [write(tmp_path, f"{n}.json", epochs=n) for n in (1, 2, 3)]
    limits = ["--priority", "-5", "--max-runtime", "60", "--max-attempts", "2"]
    done = orrery("submit", *files, "--set", "seed=1", "--label", "paper=draft", *limits)
    assert done.code == 0, done.err
    jobs = [server.job(job_id) for job_id in done.out.split()]
    assert [job["config"]["epochs"] for job in jobs] == [1, 2, 3]
    assert {job["priority"] for job in jobs} == {-5}
    assert {(job["max_runtime_s"], job["max_attempts"]) for job in jobs} == {(60.0, 2)}


def test_nothing_is_submitted_where_one_file_is_wrong(
    tmp_path: Path, server: OrreryServer, orrery: Orrery
) -> None:
    files = [write(tmp_path, "good.json"), write(tmp_path, "bad.json", epochs=-1)]
    done = orrery("submit", *files)
    assert done.code == 2
    assert "epochs" in done.err
    assert server.admin.get("/v1/jobs").json()["data"] == []


def test_a_config_comes_from_the_input(
    server: OrreryServer, orrery: Orrery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(TINY)))
    done = orrery("submit", "-", "--set", "epochs=9")
    assert server.job(done.out.strip())["config"]["epochs"] == 9
    monkeypatch.setattr("sys.stdin", io.StringIO("{"))
    assert "the input" in orrery("submit", "-").err


def test_a_key_makes_one_job_of_two_submissions(
    tmp_path: Path, server: OrreryServer, orrery: Orrery
) -> None:
    file = write(tmp_path, "a.json")
    twice = [orrery("submit", file, "--idempotency-key", "night-7").out for _ in range(2)]
    assert twice[0] == twice[1] != ""
    assert orrery("submit", file, "--max-runtime", "0").code == 4  # the server says what is wrong
    refused = orrery("submit", file, file, "--idempotency-key", "night-8")
    assert refused.code == 2


def test_the_commit_of_a_config_is_a_label(
    tmp_path: Path, server: OrreryServer, orrery: Orrery
) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-C", str(tmp_path)]
        command = ["git", *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def label() -> str | None:
        return server.job(orrery("submit", path).out.strip())["metadata"].get("git")

    path = write(tmp_path, "config.json")
    assert label() is None
    git("init", "--quiet")
    git("add", "config.json")
    git("commit", "--quiet", "--message", "a config")
    commit = git("rev-parse", "--short=12", "HEAD")
    assert label() == commit
    write(tmp_path, "config.json", epochs=2)
    assert label() == f"{commit}-dirty"
    own = orrery("submit", path, "--label", "git=mine").out.strip()
    assert server.job(own)["metadata"] == {"git": "mine"}
