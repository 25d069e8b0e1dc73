"""What is said to Slurm, and what it answers, by commands that are made up."""

from pathlib import Path

import pytest

from server.engines import slurm as slurm_module
from server.engines.engine import EngineUnavailable, Pilot, PilotTerms
from server.engines.slurm import SlurmEngine, SlurmTerms, seconds_of


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmEngine:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(slurm_module, "ANSWER_S", 5.0)
    terms = PilotTerms("pool", ("--server", "http://it's here"), 60.0, 3600.0)
    place = SlurmTerms(
        "$TMPDIR/x", tmp_path / "token", tmp_path / "logs", ("python",), ("--mem=1G",)
    )
    return SlurmEngine(terms, place)


def answering(folder: Path, name: str, script: str) -> Path:
    """A command, which notes how it was called."""
    command = folder / name
    calls = folder / f"{name}.calls"
    command.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {calls}\n{script}\n')
    command.chmod(0o755)
    return calls


def test_what_is_submitted(engine: SlurmEngine, tmp_path: Path) -> None:
    calls = answering(tmp_path, "sbatch", f"cat > {tmp_path}/script; echo '77;other'")
    started = engine.start(2, kept=True)
    assert started == [Pilot("77", "pool.kept-77", "waits")] * 2
    assert started[0].is_kept
    (call, again) = calls.read_text().splitlines()
    assert call == again
    assert call.endswith("--mem=1G --parsable --job-name=pool.kept")  # nobody's option hides it
    lines = (tmp_path / "script").read_text().splitlines()
    assert lines[-1].startswith("exec python -P -m worker --server 'http://it'\"'\"'s here'")
    assert '--data "$TMPDIR/x"' in lines[-1]
    assert '--name "pool.kept-$SLURM_JOB_ID"' in lines[-1]


def test_what_is_there(engine: SlurmEngine, tmp_path: Path) -> None:
    listed = [
        "9|RUNNING|pool|None",
        "10|PENDING|pool|Resources",
        "11|COMPLETING|pool|None",
        "8|PENDING|pool.kept|BeginTime",
        "7|CANCELLED|pool|None",
        "6|PENDING|pool|launch_failed_requeued_held",
        "5|SPECIAL_EXIT|pool|JobHeldAdmin",
    ]
    answering(tmp_path, "squeue", "echo '" + "\n".join(listed) + "'")
    hastened = answering(tmp_path, "scontrol", "echo it is being cleaned up >&2; exit 1")
    assert engine.list() == [
        Pilot("5", "pool-5", "held", "JobHeldAdmin"),
        Pilot("6", "pool-6", "held", "launch_failed_requeued_held"),
        Pilot("8", "pool.kept-8", "waits", "BeginTime"),
        Pilot("9", "pool-9", "runs"),
        Pilot("10", "pool-10", "waits", "Resources"),
        Pilot("11", "pool-11", "ends"),
    ]
    assert hastened.read_text() == "update jobid=8 starttime=now\n"


def test_how_they_are_ended(engine: SlurmEngine, tmp_path: Path) -> None:
    calls = answering(tmp_path, "scancel", "")
    engine.stop([])
    engine.stop([Pilot("1", "pool-1", "waits"), Pilot("2", "pool-2", "runs")])
    engine.stop([Pilot("3", "pool-3", "ends"), Pilot("4", "pool-4", "held")])
    told = ["--batch --signal=TERM 2", "--state=PENDING 1", "4", "3"]
    assert calls.read_text().splitlines() == told


def test_that_one_has_just_ended_keeps_nothing_from_the_others(
    engine: SlurmEngine, tmp_path: Path
) -> None:
    calls = answering(tmp_path, "scancel", "echo Invalid job id specified >&2; exit 1")
    with pytest.raises(EngineUnavailable, match="Invalid job id"):
        engine.stop([Pilot("1", "pool-1", "waits"), Pilot("2", "pool-2", "runs")])
    assert len(calls.read_text().splitlines()) == 2


def test_a_time_to_begin_that_somebody_asked_for_is_kept(
    tmp_path: Path, engine: SlurmEngine
) -> None:
    terms = PilotTerms("pool", (), 60.0, 3600.0)
    place = SlurmTerms("x", tmp_path, tmp_path, ("python",), ("--begin=20:00",))
    answering(tmp_path, "squeue", "echo '8|PENDING|pool|BeginTime'")
    hastened = answering(tmp_path, "scontrol", "")
    assert len(SlurmEngine(terms, place).list()) == 1
    assert not hastened.exists()


def test_whose_token_is_in_the_environment_is_not_told_to_the_nodes(
    engine: SlurmEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORRERY_TOKEN", "orrery_secret")
    monkeypatch.setenv("SBATCH_CLUSTERS", "other")
    answering(tmp_path, "sbatch", f"env > {tmp_path}/environment; echo 1")
    engine.start(1, kept=False)
    environment = (tmp_path / "environment").read_text()
    assert "orrery_secret" not in environment
    assert "SBATCH_CLUSTERS" not in environment


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo Unable to contact slurm controller >&2; exit 1", "squeue: Unable to contact"),
        ("exit 3", "squeue: 3"),
    ],
)
def test_nothing_is_known_where_slurm_does_not_answer(
    engine: SlurmEngine, tmp_path: Path, script: str, why: str
) -> None:
    answering(tmp_path, "squeue", script)
    with pytest.raises(EngineUnavailable, match=why):
        engine.list()


def test_a_host_without_slurm_is_told(
    engine: SlurmEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineUnavailable, match="cannot run squeue: No such file"):
        engine.list()


def test_one_that_hangs_is_not_waited_for(
    engine: SlurmEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_module, "ANSWER_S", 0.2)
    answering(tmp_path, "squeue", "exec sleep 60")
    with pytest.raises(EngineUnavailable, match="did not answer"):
        engine.list()


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [
        ("90", 5400.0),
        ("90:30", 5430.0),
        ("12:00:00", 43200.0),
        ("1-2", 93600.0),
        ("1-2:30", 95400.0),
        ("1-2:30:15", 95415.0),
    ],
)
def test_a_limit_is_read_as_sbatch_reads_it(limit: str, seconds: float) -> None:
    assert seconds_of(limit) == seconds


@pytest.mark.parametrize("limit", ["", "12h", "1:2:3:4", "-5", "1-", "UNLIMITED"])
def test_what_is_no_limit_is_refused(limit: str) -> None:
    with pytest.raises(ValueError, match="use minutes"):
        seconds_of(limit)
