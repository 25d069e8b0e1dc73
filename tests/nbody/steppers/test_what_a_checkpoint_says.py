"""A checkpoint tells how good its network was, and the best of a folder can be had."""

import warnings
from pathlib import Path
from typing import Any

import pytest

from nbody.checkpoint import load_checkpoint, save_checkpoint
from nbody.config import Config
from nbody.errors import CheckpointUnreadable
from nbody.initial_conditions.from_config import initial_particle
from nbody.model import build_model
from nbody.model_adapter import ModelAdapter
from nbody.stepper import best_checkpoint, load_stepper
from nbody.training.run import TrainingRun
from nbody.unified_training import epochs

TINY = {
    "num_orbits": 4,
    "steps_per_epoch": 4,
    "epochs": 1,
    "replay_steps": 5,
    "hidden_dims": [8],
    "dropout": 0.0,
    "device": "cpu",
    "seed": 1,
}


def checkpoint(path: Path, info: dict[str, Any] | None) -> Path:
    config = Config.model_validate(TINY)
    width = ModelAdapter(config).input_dim_from_state(initial_particle(config))
    return save_checkpoint(path, build_model(config, width).double(), config=config, info=info)


def quality(rate: float, efficiency: float) -> dict[str, Any]:
    return {"pass_rate": rate, "violation_rate": 1 - rate, "efficiency": efficiency}


def test_a_run_saves_how_good_its_network_is(tmp_path: Path) -> None:
    run = TrainingRun.start(Config.model_validate(TINY))
    (metrics,) = epochs(run)
    path = run.save(tmp_path / "model_epoch_0000.pt")
    info = load_checkpoint(path)["info"]
    assert info["pass_rate"] == metrics.final_pass_rate
    assert info["violation_rate"] == 1 - info["pass_rate"]
    assert 0 < info["efficiency"] < 2
    assert load_stepper(path).info == {"epoch": 0, **info}


def test_a_bad_epoch_is_told_when_it_is_loaded(tmp_path: Path) -> None:
    bad = checkpoint(tmp_path / "bad.pt", quality(0.04, 0.9))
    with pytest.warns(UserWarning, match="bad epoch: 4% of its samples"):
        load_stepper(bad)
    good = checkpoint(tmp_path / "good.pt", quality(0.999, 0.9))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_stepper(good)


def test_the_best_of_a_folder_is_not_the_last_one(tmp_path: Path) -> None:
    checkpoint(tmp_path / "model_epoch_0000.pt", quality(1.0, 0.5))
    best = checkpoint(tmp_path / "model_epoch_0010.pt", quality(0.999, 0.98))
    checkpoint(tmp_path / "model_epoch_0020.pt", quality(0.5, 1.3))
    checkpoint(tmp_path / "model_epoch_0030.pt", quality(0.999, 0.97))
    assert best_checkpoint(tmp_path) == best
    assert load_stepper(tmp_path).info["efficiency"] == 0.98


def test_where_none_says_anything_the_last_is_taken(tmp_path: Path) -> None:
    for name in ("a", "b"):
        checkpoint(tmp_path / f"{name}.pt", None)
    assert best_checkpoint(tmp_path).name == "b.pt"
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointUnreadable, match="no checkpoint"):
        load_stepper(tmp_path / "empty")
