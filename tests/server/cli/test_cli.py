"""The `orrery` command against the real server."""

import hashlib
import inspect
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from server.cli import acting
from server.wire.kinds import KINDS
from tests.server.conftest import TINY, Orrery, OrreryServer, checkpoint, epoch_metrics, log_bytes


@pytest.fixture
def config_file(tmp_path: Path) -> str:
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(TINY), encoding="utf-8")
    return str(path)


def test_submit_prints_the_id_and_set_replaces_fields(
    server: OrreryServer, orrery: Orrery, config_file: str
) -> None:
    done = orrery("submit", config_file, "--set", "epochs=9", "--set", "loss=band", "--name", "n")
    assert (done.code, done.out.count("\n")) == (0, 1)
    job = server.job(done.out.strip())
    assert (job["config"]["epochs"], job["config"]["loss"], job["name"]) == (9, "band", "n")
    assert job["config"]["hidden_dims"] == TINY["hidden_dims"]


def test_submit_reads_toml(server: OrreryServer, orrery: Orrery, tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text("epochs = 6\nhidden_dims = [3]\n", encoding="utf-8")
    done = orrery("submit", str(path), "--json")
    assert done.code == 0
    assert json.loads(done.out)["config"]["epochs"] == 6


def test_submit_prints_warnings_beside_the_id(orrery: Orrery, config_file: str) -> None:
    done = orrery("submit", config_file, "--set", "num_orbits=1", "--set", "steps_per_epoch=1")
    assert done.out.startswith("job_")
    assert "Part 2" in done.err


@pytest.mark.parametrize("assignment", ["epohcs=3", "epochs=0", "epochs", "=3"])
def test_a_wrong_field_is_wrong_usage_and_submits_nothing(
    server: OrreryServer, orrery: Orrery, config_file: str, assignment: str
) -> None:
    done = orrery("submit", config_file, "--set", assignment)
    assert done.code == 2
    assert "epochs" in done.err or "key=value" in done.err
    assert "Traceback" not in done.err
    assert server.admin.get("/v1/jobs").json()["data"] == []


def test_a_misspelt_field_is_answered_with_the_nearest_one(
    orrery: Orrery, config_file: str
) -> None:
    done = orrery("submit", config_file, "--set", "epohcs=3")
    assert "epohcs" in done.err
    assert "did you mean 'epochs'?" in done.err


def test_a_config_file_that_is_missing_or_broken_is_wrong_usage(
    orrery: Orrery, tmp_path: Path
) -> None:
    assert orrery("submit", str(tmp_path / "none.json")).code == 2
    broken = tmp_path / "broken.json"
    broken.write_text("{", encoding="utf-8")
    assert orrery("submit", str(broken)).code == 2
    assert orrery("no-such-command").code == 2
    assert orrery("show").code == 2


@pytest.mark.slow
def test_jobs_lists_what_there_is(server: OrreryServer, orrery: Orrery) -> None:
    job = server.submit(name="a job of mine")
    listed = orrery("jobs")
    assert listed.code == 0
    assert job["id"] in listed.out
    assert "queued" in listed.out
    as_json = json.loads(orrery("jobs", "--json", "--status", "queued").out)
    assert [found["id"] for found in as_json["data"]] == [job["id"]]
    assert json.loads(orrery("jobs", "--json", "--status", "failed").out)["data"] == []
    assert orrery("jobs", "--status", "sleeping").code != 0


def test_show_prints_a_job(server: OrreryServer, orrery: Orrery) -> None:
    job, assignment = server.start(name="shown")
    server.report(assignment["lease_id"], epochs=[epoch_metrics(0)])
    shown = orrery("show", job["id"])
    assert shown.code == 0
    for word in ("shown", "running", "1/4", "part2/final_pass_rate"):
        assert word in shown.out
    assert json.loads(orrery("show", job["id"], "--json").out) == server.job(job["id"])


def test_cancel_cancels(server: OrreryServer, orrery: Orrery) -> None:
    job = server.submit()
    done = orrery("cancel", job["id"])
    assert (done.code, done.out) == (0, f"{job['id']}: cancelled\n")
    assert server.job(job["id"])["status"] == "cancelled"


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [("succeeded", "completed", 0), ("failed", "oom", 1), ("stopped", "user", 3)],
)
def test_the_exit_code_of_watch_tells_how_the_job_ended(
    server: OrreryServer, orrery: Orrery, status: str, reason: str, code: int
) -> None:
    job, assignment = server.start()
    if status == "stopped":
        server.admin.post(f"/v1/jobs/{job['id']}/cancel")
    server.report(assignment["lease_id"], epochs=[epoch_metrics(0)])
    server.finish(assignment["lease_id"], status, reason)
    watched = orrery("watch", job["id"])
    assert watched.code == code
    assert "epoch 0" in watched.out
    assert orrery("watch", job["id"], "--json").code == code


def test_metrics_are_printed_as_a_table_or_json(server: OrreryServer, orrery: Orrery) -> None:
    job, assignment = server.start()
    epochs = [epoch_metrics(n) for n in range(3)]
    server.report(assignment["lease_id"], epochs=epochs)
    assert json.loads(orrery("metrics", job["id"], "--json").out) == epochs
    table = orrery("metrics", job["id"], "--key", "part2/iterations").out
    assert "part2/iterations" in table
    assert "part1" not in table
    some = json.loads(orrery("metrics", job["id"], "--json", "--key", "epoch_time").out)
    assert some == [{"epoch": n, "epoch_time": 0.5 + n} for n in range(3)]


def test_logs_prints_what_the_process_printed(server: OrreryServer, orrery: Orrery) -> None:
    job, assignment = server.start()
    server.report(assignment["lease_id"], log=log_bytes(0, b"one\ntwo [red]\n"))
    assert orrery("logs", job["id"]).out == "one\ntwo [red]\n"


def test_checkpoints_are_listed_and_downloaded(
    server: OrreryServer, orrery: Orrery, tmp_path: Path
) -> None:
    job, assignment = server.start()
    content = b"weights"
    saved = [
        checkpoint(assignment, n, bytes=7, sha256=hashlib.sha256(content).hexdigest())
        for n in (1, 2)
    ]
    for one in saved:
        file = server.settings.data / one["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    server.report(assignment["lease_id"], checkpoints=saved)
    folder = tmp_path / "taken" / "home"
    done = orrery("checkpoints", job["id"], "--download", str(folder), "--json")
    assert done.code == 0
    assert [c["path"] for c in json.loads(done.out)] == [c["path"] for c in saved]
    assert sorted(path.name for path in folder.iterdir()) == [Path(c["path"]).name for c in saved]
    assert {path.read_bytes() for path in folder.iterdir()} == {content}


def test_an_unknown_job_is_refused(orrery: Orrery) -> None:
    done = orrery("show", "job_" + "0" * 26)
    assert done.code == 4
    assert "There is no job" in done.err


def test_a_missing_token_is_refused(orrery: Orrery, tmp_path: Path) -> None:
    done = orrery("jobs", "--data", str(tmp_path))
    assert done.code == 4
    assert "token" in done.err


def test_an_unreachable_server_is_no_answer(orrery: Orrery) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = orrery("jobs", "--url", f"http://127.0.0.1:{port}")
    assert done.code == 4
    assert "no server answers" in done.err
    assert "Traceback" not in done.err


def test_markup_in_a_message_is_printed_as_it_is(orrery: Orrery, tmp_path: Path) -> None:
    done = orrery("submit", str(tmp_path / "[bold]none[/red].json"))
    assert done.code == 2
    assert "[bold]none[/red].json" in done.err


HEAVY = {"alembic", "fastapi", "numpy", "optuna", "pydantic", "sqlalchemy", "torch", "uvicorn"}
LOADED = """
import sys
from server.cli.main import main
try:
    main()
finally:
    print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["jobs"], ["watch", "job_x"], ["sweep", "list"], ["token", "list"]]
)
def test_a_command_that_talks_to_a_server_starts_without_one(arguments: list[str]) -> None:
    nowhere = {**os.environ, "ORRERY_URL": "http://127.0.0.1:9"}
    command = [sys.executable, "-c", LOADED, *arguments]
    ran = subprocess.run(command, env=nowhere, capture_output=True, text=True, check=False)
    assert ran.returncode == (0 if arguments == ["--help"] else 4), ran.stderr
    assert HEAVY.isdisjoint(ran.stderr.split())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_job_has_a_command(kind: str) -> None:
    trains = "client.submit(fields, idempotency_key, **labelled)"
    submits = trains if kind == "train" else f'kind="{kind}"'
    assert submits in inspect.getsource(acting)


def test_work_takes_every_option_of_the_worker() -> None:
    from server.cli.installation import work
    from worker.settings import option_parser

    known = {word for action in option_parser()._actions for word in action.option_strings}
    source = inspect.getsource(work)
    missing = [option for option in known - {"-h", "--help"} if f'"{option}"' not in source]
    assert missing == []
