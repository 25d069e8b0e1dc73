"""`python -m nbody CONFIG`: a run without a server."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nbody.__main__ import main
from nbody.checkpoint import load_checkpoint
from nbody.config import Config
from nbody.training.run import TrainingRun

ROOT = Path(__file__).parents[2]
TINY = {
    "save_name": "tiny",
    "initial_conditions": "kepler_ensemble",
    "num_orbits": 2,
    "hidden_dims": [8],
    "dropout": 0.1,
    "steps_per_epoch": 2,
    "epochs": 12,
    "replay_steps": 2,
    "max_retrain_steps": 20,
    "device": "cpu",
    "seed": 1,
    "evaluation_orbits": 0,
}

pytestmark = pytest.mark.slow


def run(folder: Path, *arguments: str, **fields: object) -> subprocess.CompletedProcess[str]:
    config = folder / "config.json"
    config.write_text(json.dumps(TINY | fields))
    command = [sys.executable, "-m", "nbody", str(config), "--data", str(folder / "data")]
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    folder = tmp_path_factory.mktemp("main")
    return folder / "data", run(folder)


Finished = tuple[Path, "subprocess.CompletedProcess[str]"]


def test_a_run_prints_a_line_of_progress_for_each_epoch(finished: Finished) -> None:
    _, result = finished
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if line.startswith("epoch")]
    assert len(lines) == 12


def test_a_run_writes_its_checkpoints_under_the_data_folder(finished: Finished) -> None:
    data, _ = finished
    names = sorted(path.name for path in (data / "tiny" / "model").iterdir())
    assert names == ["model_epoch_0000.pt", "model_epoch_0010.pt", "model_epoch_0011.pt"]


def test_a_run_can_be_continued_and_ends_where_the_first_did(
    finished: Finished, tmp_path: Path
) -> None:
    data, _ = finished
    checkpoint = data / "tiny" / "model" / "model_epoch_0000.pt"
    result = run(tmp_path, "--resume", str(checkpoint), "--json")
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines() if line.startswith('{"epoch')]
    assert [row["epoch"] for row in rows] == list(range(1, 12))
    ends = [
        load_checkpoint(folder / "tiny" / "model" / "model_epoch_0011.pt")["model_state_dict"]
        for folder in (data, tmp_path / "data")
    ]
    for name, tensor in ends[0].items():
        assert tensor.equal(ends[1][name])


@pytest.mark.parametrize(
    ("fields", "named"), [({"lr": -1}, "lr"), ({"energy_treshold": 1}, "energy_threshold")]
)
def test_a_bad_field_ends_with_its_name_on_stderr(
    tmp_path: Path, fields: dict[str, Any], named: str
) -> None:
    result = run(tmp_path, **fields)
    assert result.returncode == 1
    assert named in result.stderr
    assert not re.search(r"Traceback|type=|pydantic", result.stderr)
    assert not (tmp_path / "data").exists()


def test_a_run_whose_part_2_never_runs_says_so(tmp_path: Path) -> None:
    result = run(tmp_path, initial_conditions="kepler", steps_per_epoch=1, epochs=1)
    assert result.returncode == 0, result.stderr
    assert "Part 2" in result.stderr + result.stdout


def test_a_run_in_the_folder_of_an_earlier_one_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(TINY | {"epochs": 1}))
    told: list[bool] = []
    for _ in range(2):
        assert main([str(config), "--data", str(tmp_path)]) == 0
        told.append("holds checkpoints of an earlier run" in capsys.readouterr().err)
    assert told == [False, True]


def test_a_run_of_other_systems_cannot_go_on(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where a system of another size would be found out only epochs later."""
    checkpoint = next(finished[0].rglob("model_epoch_0010.pt"))
    config = tmp_path / "config.json"
    three = {"initial_conditions": "random_bound", "num_particles": 3, "num_systems": 2}
    other = {k: v for k, v in TINY.items() if k != "num_orbits"} | three
    config.write_text(json.dumps(other | {"lifetime": 3.0, "reset_particle_each_epoch": False}))
    assert main([str(config), "--resume", str(checkpoint), "--data", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "other initial_conditions" in told
    assert "error: cannot read checkpoint" in told


def test_what_cannot_be_written_is_told_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(TINY | {"steps": 3}))
    wrong = (("--states", "s.txt"), ("--states", "nowhere/s.npz"), ("--picture", "p.png"))
    for option, name in wrong:
        arguments = ["both", str(config), "--data", str(tmp_path), option, str(tmp_path / name)]
        assert main(arguments) == 1
        assert "epoch" not in capsys.readouterr().out


def test_both_halves_simulate_with_the_best_checkpoint_of_this_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A better one of another run lies in the folder; the first epoch's is this run's best."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(TINY | {"epochs": 2, "checkpoint_every": 1, "steps": 3}))
    qualities = iter([{"pass_rate": 1.0, "efficiency": 0.9}, {"pass_rate": 1.0, "efficiency": 0.1}])
    monkeypatch.setattr("nbody.unified_training._quality", lambda _: next(qualities))
    other = TrainingRun.start(Config.model_validate(TINY))
    other.end_epoch(other.begin_epoch(), {"pass_rate": 1.0, "efficiency": 1.0})
    other.save(tmp_path / "tiny" / "model" / "model_epoch_0007.pt")
    assert main(["both", str(config), "--data", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert "model_epoch_0000.pt" in told.err.rpartition("best checkpoint ")[2]
    assert json.loads(told.out.splitlines()[-1])["rule"] == "reversible"
