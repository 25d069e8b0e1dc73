"""The configuration files of AITimeStepper, read as they are."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbody.config import Config
from nbody.config.files import read_config_file

EXAMPLE = """
feature_type = "delta_mag"
save_name = "close_pair"
dtype = "float64"
normalize_inputs = true

[train]
movie = true
movie_max_frames = 250
max_retrain_steps = 2e6
retrain_log_every = 40
L_upper = 3e-5
E_lower = 2e-6
E_upper = 5e-4
energy_threshold = 7e-4
epochs = 250
debug = true
wandb = true

[simulate]
Nperiod = 4
integrator_mode = "ml"
use_train_ic = true
"""


def read(folder: Path, text: str) -> tuple[Config, list[str]]:
    """The config in a TOML file of this text, and what was warned about."""
    path = folder / "run.toml"
    path.write_text(text)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config = Config.from_file(path)
    return config, [str(warning.message) for warning in caught]


def quiet(folder: Path, text: str) -> Config:
    return read(folder, text)[0]


def simulated(folder: Path, text: str) -> Config:
    """What the other half of such a file says."""
    path = folder / "run.toml"
    path.write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Config.model_validate(read_config_file(path, half="simulate"))


def test_an_example_of_the_original_is_read(tmp_path: Path) -> None:
    config = quiet(tmp_path, EXAMPLE)
    config.validate()
    assert config.save_name == "close_pair"
    assert config.normalize_inputs
    assert config.epochs == 250
    assert config.energy_threshold == 7e-4
    assert (config.E_lower, config.E_upper) == (2e-6, 5e-4)
    assert config.wandb
    assert config.debug
    other = simulated(tmp_path, EXAMPLE)
    assert (other.integrator_mode, other.Nperiod) == ("ml", 4)


def test_a_config_of_the_original_keeps_its_head_and_its_loss(tmp_path: Path) -> None:
    config = quiet(tmp_path, EXAMPLE)
    assert config.dt_head == "softplus"
    assert config.loss == "band_failing"


def test_delta_mag_without_history_becomes_basic_with_a_warning(tmp_path: Path) -> None:
    config, warned = read(tmp_path, EXAMPLE)
    assert config.feature_type == "basic"
    assert any("delta_mag" in text for text in warned)


def test_delta_mag_with_history_stays_and_nothing_is_warned_about(tmp_path: Path) -> None:
    config, warned = read(tmp_path, 'history_len = 3\nfeature_type = "delta_mag"\n[train]\n')
    assert (config.feature_type, config.history_len) == ("delta_mag", 3)
    assert warned == []


def test_legacy_keys_are_kept_in_extra_with_a_warning(tmp_path: Path) -> None:
    config, warned = read(tmp_path, EXAMPLE)
    assert config.extra["retrain_log_every"] == 40
    assert config.extra["movie"] is True
    assert config.extra["movie_max_frames"] == 250
    for key in ("retrain_log_every", "movie", "L_upper"):
        assert any(key in text for text in warned)
    json.dumps(config.as_wandb_dict(), allow_nan=False)


def test_the_cap_on_retraining_may_be_written_as_a_float(tmp_path: Path) -> None:
    cap = quiet(tmp_path, EXAMPLE).max_retrain_steps
    assert cap == 2_000_000
    assert isinstance(cap, int)


@pytest.mark.parametrize(("key", "sentinel"), [("dt", "-1.0"), ("steps", "-1"), ("duration", "-1")])
def test_minus_one_means_not_set(tmp_path: Path, key: str, sentinel: str) -> None:
    text = f'feature_type = "basic"\n[train]\nepochs = 5\n[simulate]\n{key} = {sentinel}\n'
    assert getattr(simulated(tmp_path, text), key) is None


def test_simulation_values_that_are_set_are_kept(tmp_path: Path) -> None:
    text = 'feature_type = "basic"\n[train]\n[simulate]\ndt = 0.01\nsteps = 500\nduration = 2.5\n'
    config = simulated(tmp_path, text)
    assert (config.dt, config.steps, config.duration) == (0.01, 500, 2.5)


def test_a_section_overrides_the_shared_keys(tmp_path: Path) -> None:
    text = 'feature_type = "basic"\nepochs = 7\nlr = 0.5\n[train]\nepochs = 9\n'
    config = quiet(tmp_path, text)
    assert (config.epochs, config.lr) == (9, 0.5)


HALVES = """
feature_type = "basic"
[train]
num_orbits = 6
[simulate]
num_orbits = 1
num_particles = 5
dim = 3
external_field_mass = 2.0
external_field_position = [9.0, 0.0, 0.0]
ic_path = "nowhere.npy"
"""


def test_each_section_speaks_for_its_own_half(tmp_path: Path) -> None:
    config = quiet(tmp_path, HALVES)
    assert (config.num_orbits, config.num_particles, config.dim) == (6, 2, 2)
    assert config.external_field_mass is None
    assert config.initial_conditions == "kepler_ensemble"
    assert config.extra["simulate"]["num_particles"] == 5
    other = simulated(tmp_path, HALVES.replace('ic_path = "nowhere.npy"', ""))
    assert (other.num_particles, other.dim, other.external_field_mass) == (5, 3, 2.0)
    assert other.initial_conditions == "random"


def test_what_the_file_leaves_out_is_as_the_original_has_it(tmp_path: Path) -> None:
    config = quiet(tmp_path, 'feature_type = "basic"\n[train]\n')
    assert (config.n_steps, config.max_retrain_steps) == (10, 1000)
    assert (config.initial_conditions, config.num_orbits) == ("kepler_ensemble", 8)


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        ("num_orbits = 1", "random"),
        ("num_orbits = 1\nstop_at_period = true", "kepler_ensemble"),
        ("num_particles = 4", "random"),
    ],
)
def test_what_the_original_draws(tmp_path: Path, keys: str, kind: str) -> None:
    text = f'feature_type = "basic"\n{keys}\n[train]\n'
    assert quiet(tmp_path, text).initial_conditions == kind


def test_a_cap_of_zero_is_none(tmp_path: Path) -> None:
    text = 'feature_type = "basic"\n[train]\nmax_retrain_steps = 0\n'
    assert quiet(tmp_path, text).max_retrain_steps == 0


def test_a_field_that_is_set_is_set_before_a_file_is_opened(tmp_path: Path) -> None:
    rows = [[1.0, 0.5, 0.0, 0.0, 0.7], [1.0, -0.5, 0.0, 0.0, -0.7]]
    np.save(tmp_path / "two.npy", np.array(rows))
    path = tmp_path / "run.toml"
    path.write_text('feature_type = "basic"\n[train]\nic_path = "/not/on/this/machine.npy"\n')
    assert Config.from_file(path, {"ic_path": str(tmp_path / "two.npy")}).particles == rows
    assert Config.from_file(path, {"initial_conditions": "kepler"}).initial_conditions == "kepler"


def test_a_perturber_of_a_system_whose_rows_say_its_dimension() -> None:
    rows = [[1.0, 0.5, 0.0, 0.1, 0.0, 0.7, 0.0], [1.0, -0.5, 0.0, 0.0, 0.0, -0.7, 0.0]]
    config = Config(
        initial_conditions="inline",
        particles=rows,
        external_field_mass=1.0,
        external_field_position=[9.0, 0.0, 3.0],
    )
    assert config.dim == 3


def test_a_misspelt_key_in_a_section_is_still_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="steps_per_epoch"):
        quiet(tmp_path, 'feature_type = "basic"\n[train]\nsteps_per_epok = 4\n')


def test_an_initial_condition_file_is_put_in_the_config(tmp_path: Path) -> None:
    rows = [[1.0, 0.5, 0.0, 0.0, 0.7], [1.0, -0.5, 0.0, 0.0, -0.7]]
    np.save(tmp_path / "two.npy", np.array(rows))
    text = f'feature_type = "basic"\n[train]\nic_path = "{tmp_path / "two.npy"}"\n'
    config = quiet(tmp_path, text)
    assert config.initial_conditions == "inline"
    assert config.particles == rows
    assert config.ic_path is None


def test_a_relative_initial_condition_file_is_looked_for_beside_the_config(tmp_path: Path) -> None:
    rows = [[1.0, 0.5, 0.0, 0.0, 0.7], [1.0, -0.5, 0.0, 0.0, -0.7]]
    np.savetxt(tmp_path / "two.txt", np.array(rows))
    config = quiet(tmp_path, 'feature_type = "basic"\n[train]\nic_path = "two.txt"\n')
    assert config.particles == rows


def test_an_initial_condition_file_that_is_a_pickle_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "bomb.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    text = f'feature_type = "basic"\n[train]\nic_path = "{tmp_path / "bomb.npy"}"\n'
    with pytest.raises(Exception, match="bomb") as caught:
        quiet(tmp_path, text)
    assert type(caught.value).__module__.startswith(("nbody", "pydantic", "builtins"))


def test_a_perturber_in_three_dimensions_is_read(tmp_path: Path) -> None:
    text = (
        'feature_type = "basic"\ndim = 3\nexternal_field_mass = 2.0\n'
        "external_field_position = [5.0, 0.0, 0.0]\n[train]\nepochs = 2\n"
    )
    config = quiet(tmp_path, text)
    assert config.external_field_mass == 2.0
    assert config.external_field_position is not None
    assert list(config.external_field_position) == [5.0, 0.0, 0.0]


def test_the_flat_config_of_an_original_checkpoint_is_read() -> None:
    flat: dict[str, Any] = {
        "optimizer": "adam",
        "epochs": 10,
        "dt_bound": 1e-8,
        "rel_loss_bound": 1e-5,
        "history_len": 2,
        "feature_type": "delta_mag",
        "dt": -1.0,
        "steps": -1,
        "duration": None,
        "eps": 0.1,
        "external_field_mass": None,
        "adam_lr": None,
        "model_path": None,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = Config.from_dict(flat)
    assert (config.epochs, config.history_len, config.feature_type) == (10, 2, "delta_mag")
    assert (config.dt, config.steps, config.duration) == (None, None, None)
    assert config.dt_head == "softplus"


def test_a_toml_file_of_ours_keeps_our_defaults(tmp_path: Path) -> None:
    config, warned = read(tmp_path, "epochs = 4\nnum_orbits = 2\n")
    assert config == Config(epochs=4, num_orbits=2)
    assert warned == []


def test_a_json_file_that_asks_for_the_impossible_is_not_read_as_another_s(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"feature_type": "delta_mag", "num_orbits": 64}))
    with pytest.raises(ValueError, match="history_len"):
        Config.from_file(path)
