"""The example configs in data/ are valid and run."""

import warnings
from pathlib import Path

import pytest

from nbody.config import Config
from nbody.training.run import TrainingRun
from nbody.unified_training import epochs

DATA = Path(__file__).parents[2] / "data"
EXAMPLES = sorted([*DATA.glob("*.json"), *DATA.glob("*.toml")])


def read(path: Path, **changes: object) -> Config:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the original's files speak of things without a meaning
        return Config.from_file(path, changes)


def test_the_examples_are_there() -> None:
    names = {path.name for path in EXAMPLES}
    assert {"kepler_demo.json", "figure_eight.json", "plummer_16.json"} <= names
    assert any(path.suffix == ".toml" for path in EXAMPLES)


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_valid_without_warnings_and_trains(path: Path) -> None:
    assert read(path).warnings() == []
    small = {"epochs": 2, "replay_steps": 3, "num_orbits": 4, "hidden_dims": [8]}
    config = read(path, **small, steps_per_epoch=6)
    run = TrainingRun.start(config, DATA)
    assert [metrics.epoch for metrics in epochs(run)] == [0, 1]
