"""Config: defaults, ranges, errors that help, JSON on both sides."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

import nbody
from nbody.config import Config
from nbody.config.stepping_rules import STEPPING_RULES, IntegratorMode
from nbody.config.systems import SYSTEMS, InitialConditions
from nbody.simulation.rules import RULES

DEFAULTS = {
    "epochs": 1000,
    "energy_threshold": 2e-4,
    "steps_per_epoch": 1,
    "replay_steps": 1000,
    "replay_batch_size": 512,
    "min_replay_size": 2,
    "history_len": 0,
    "save_name": None,
    "max_retrain_steps": 0,
    "n_steps": 1,
    "optimizer": "adam",
    "lr": 1e-4,
    "weight_decay": 1e-2,
    "momentum": 0.9,
    "E_lower": 1e-6,
    "E_upper": 1e-4,
    "normalize_inputs": False,
    "norm_mode": "auto",
    "hidden_dims": [200, 1000, 1000, 200],
    "activation": "tanh",
    "dropout": 0.2,
    "fourier_scale": -1.0,
    "fourier_dim": 256,
    "num_particles": 2,
    "dim": 2,
    "mass": 1.0,
    "pos_scale": 0.1,
    "vel_scale": 1.0,
    "num_orbits": 8,
    "e_min": 0.6,
    "e_max": 0.95,
    "a_min": 0.8,
    "a_max": 1.2,
    "stop_at_period": False,
    "eccentricity": 0.9,
    "semi_major": 1.0,
    "external_field_mass": None,
    "external_field_position": None,
    "softening": 0.0,
    "device": "auto",
    "dtype": "float64",
    "wandb": False,
    "debug": False,
    "checkpoint_every": 10,
    "reset_particle_each_epoch": True,
}

OUT_OF_RANGE = [
    ("epochs", 0),
    ("epochs", 1.5),
    ("epochs", "many"),
    ("energy_threshold", 0.0),
    ("energy_threshold", -1e-4),
    ("steps_per_epoch", 0),
    ("replay_steps", -1),
    ("replay_batch_size", 0),
    ("history_len", -1),
    ("max_retrain_steps", -1),
    ("n_steps", 0),
    ("optimizer", "lbfgs"),
    ("lr", 0.0),
    ("weight_decay", -0.1),
    ("momentum", 1.0),
    ("adam_beta2", 1.0),
    ("E_lower", 0.0),
    ("E_upper", -1.0),
    ("feature_type", "poor"),
    ("norm_mode", "sometimes"),
    ("norm_L0", 0.0),
    ("hidden_dims", [8, 0]),
    ("hidden_dims", 8),
    ("activation", "linear"),
    ("dropout", 1.0),
    ("dropout", -0.1),
    ("fourier_dim", 7),
    ("num_particles", 1),
    ("dim", 4),
    ("mass", 0.0),
    ("num_orbits", 0),
    ("e_max", 1e5),
    ("e_min", -0.1),
    ("a_min", 0.0),
    ("eccentricity", 1e5),
    ("semi_major", -1.0),
    ("external_field_mass", -1.0),
    ("softening", -1e-3),
    ("dtype", "float16"),
    ("device", "tpu"),
    ("device", "cuda:"),
    ("seed", -1),
    ("integrator_mode", "guess"),
    ("initial_conditions", "milky_way"),
    ("loss", "mse"),
    ("dt_head", "cubic"),
    ("checkpoint_every", 0),
    ("save_name", ""),
]


@pytest.mark.parametrize("field", DEFAULTS)
def test_a_field_has_the_default_that_users_of_the_original_know(field: str) -> None:
    assert getattr(Config(), field) == DEFAULTS[field]


def test_the_best_of_ours_is_the_default_for_new_work() -> None:
    config = Config()
    assert config.feature_type not in ("basic", "rich", "delta_mag")
    assert config.dt_head == "log"
    assert config.initial_conditions == "kepler_ensemble"


@pytest.mark.parametrize("mode", ["analytic", "fixed", "ml", "history", "gated", "reversible"])
def test_every_stepping_rule_of_a_simulation_is_accepted(mode: str) -> None:
    fields = {"integrator_mode": mode, "dt": 0.01, "history_len": 1, "steps_per_epoch": 4}
    assert Config.model_validate(fields).integrator_mode == mode


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:3"])
def test_a_device_is_auto_or_named(device: str) -> None:
    assert Config(device=device).device == device


@pytest.mark.parametrize(("field", "value"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_refused_by_the_name_of_its_field(
    field: str, value: object
) -> None:
    with pytest.raises(ValueError, match=field):
        Config.model_validate({field: value})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "field",
    [
        "lr",
        "energy_threshold",
        "E_upper",
        "weight_decay",
        "softening",
        "mass",
        "a_max",
        "fourier_scale",
        "duration",
        "norm_V0",
        "external_field_mass",
    ],
)
def test_a_number_that_is_not_finite_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        Config.model_validate({field: value})


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("energy_treshold", "energy_threshold"),
        ("num_orbit", "num_orbits"),
        ("learning_steps_per_epoch", "steps_per_epoch"),
        ("hiden_dims", "hidden_dims"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest_key(written: str, meant: str) -> None:
    with pytest.raises(ValueError, match=meant) as caught:
        Config.model_validate({written: 3})
    assert written in str(caught.value)


def test_an_unknown_key_that_resembles_nothing_is_still_an_error() -> None:
    with pytest.raises(ValueError, match="zzzzqqqq"):
        Config.model_validate({"zzzzqqqq": 1})


def test_free_form_user_data_goes_in_extra() -> None:
    extra = {"grant": "A-17", "tags": ["a", "b"], "nested": {"k": None}}
    assert Config(extra=extra).extra == extra


@pytest.mark.parametrize(
    "name",
    [".", "..", "../up", "a/b", "a\\b", "/etc", "x" * 65, "with space", "nul\0", "new\nline", "ü"],
)
def test_a_save_name_cannot_leave_its_folder(name: str) -> None:
    with pytest.raises(ValueError, match="save_name"):
        Config(save_name=name)


@pytest.mark.parametrize("name", ["run_1", "a.b-c", "...", "x" * 64, "7"])
def test_a_save_name_is_letters_digits_dot_underscore_and_hyphen(name: str) -> None:
    assert Config(save_name=name).save_name == name


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"E_lower": 1e-3, "E_upper": 1e-4}, "E_upper|E_lower"),
        ({"e_min": 0.9, "e_max": 0.7}, "e_max|e_min"),
        ({"a_min": 2.0, "a_max": 1.0}, "a_max|a_min"),
        ({"feature_type": "delta_mag", "dt_head": "softplus"}, "history_len|feature_type"),
        ({"feature_type": "basic", "dt_head": "log"}, "dt_head"),
        ({"external_field_mass": 1.0}, "external_field_position"),
        ({"external_field_position": [1.0, 2.0]}, "external_field_mass|external_field_position"),
        ({"initial_conditions": "file"}, "ic_path"),
        ({"initial_conditions": "inline"}, "particles"),
        (
            {"initial_conditions": "inline", "particles": [[1, 0, 0, 0, 0], [1, 1, 0, 0]]},
            "particles",
        ),
        (
            {"initial_conditions": "inline", "particles": [[1, 0, 0, 0, 0], [-1, 1, 0, 0, 0]]},
            "particles",
        ),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Config.model_validate(fields)


def test_delta_mag_without_history_is_an_error_and_never_silently_basic() -> None:
    with pytest.raises(ValueError, match="delta_mag"):
        Config(feature_type="delta_mag", dt_head="softplus", history_len=0)
    config = Config(feature_type="delta_mag", dt_head="softplus", history_len=1)
    assert config.feature_type == "delta_mag"


@pytest.mark.parametrize(("field", "value"), [("epochs", 0), ("energy_threshold", -1.0)])
def test_validate_finds_what_was_assigned_afterwards(field: str, value: float) -> None:
    config = Config()
    config.validate()
    with pytest.raises(ValueError, match=field):
        _assign_and_validate(config, field, value)


def _assign_and_validate(config: Config, field: str, value: float) -> None:
    setattr(config, field, value)
    config.validate()


def test_validate_finds_contradictions_that_were_assigned() -> None:
    config = Config()
    with pytest.raises(ValueError, match=r"e_max|e_min"):
        _assign_and_validate(config, "e_max", 0.1)


def test_as_wandb_dict_is_plain_json_with_every_field() -> None:
    config = Config(
        initial_conditions="inline",
        particles=[[1, 0, 0, 0, 0.5], [1, 1, 0, 0, -0.5]],
        external_field_mass=2.0,
        external_field_position=[3.0, 4.0],
        extra={"note": "mine"},
    )
    plain = config.as_wandb_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert Config.model_fields.keys() - plain.keys() <= {"extra"}
    assert plain["note"] == "mine"


def test_extra_data_does_not_hide_a_field_in_as_wandb_dict() -> None:
    assert Config(extra={"lr": "mine"}).as_wandb_dict()["lr"] == Config().lr


def test_a_config_survives_json() -> None:
    config = Config(num_orbits=3, seed=7, external_field_mass=1.0, external_field_position=[5, 5])
    assert Config.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("field", Config.model_fields)
def test_the_schema_of_a_field_can_draw_its_part_of_a_form(field: str) -> None:
    schema = Config.model_json_schema()
    described = schema["properties"][field]
    assert described["description"].strip()
    assert "type" in described or "anyOf" in described or "$ref" in described
    assert "default" in described


def test_the_schema_says_what_a_choice_is_between() -> None:
    properties = Config.model_json_schema()["properties"]
    assert properties["optimizer"]["enum"] == ["adam", "adamw", "sgd"]
    assert properties["energy_threshold"]["exclusiveMinimum"] == 0
    assert properties["epochs"]["minimum"] == 1


def test_a_run_whose_part_2_never_runs_is_warned_about() -> None:
    warned = Config(initial_conditions="kepler").warnings()
    assert any("Part 2" in text or "min_replay_size" in text for text in warned)
    assert not Config(initial_conditions="kepler", steps_per_epoch=4).warnings()


def test_a_run_that_is_all_warm_up_is_warned_about() -> None:
    config = Config(history_len=4, steps_per_epoch=4)
    assert any("history_len" in text for text in config.warnings())


def test_a_json_file_is_read_and_its_fields_can_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text('{"epochs": 3, "lr": 0.5}')
    config = Config.from_file(path, {"lr": 0.25})
    assert (config.epochs, config.lr) == (3, 0.25)


@pytest.mark.parametrize("text", ["{", "[1, 2]", "null", '{"lr": NaN}'])
def test_a_file_that_is_no_config_is_a_value_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(ValueError):  # noqa: PT011 - the sentence differs for each
        Config.from_file(path)


@pytest.mark.parametrize("module", ["nbody", "nbody.config", "nbody.metrics"])
def test_importing_the_torch_free_parts_loads_no_torch(module: str) -> None:
    code = f"import {module}, sys; print(sorted({{'torch', 'numpy'}} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "torch" not in result.stdout


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", True),
        ("epochs", "20"),
        ("epochs", 20.0),
        ("lr", "0.1"),
        ("lr", False),
        ("wandb", "yes"),
        ("wandb", 1),
        ("hidden_dims", ["16"]),
        ("hidden_dims", [True]),
    ],
)
def test_a_value_of_another_type_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({field: value})
    assert caught.value.errors()[0]["loc"][0] == field


def test_a_tuple_will_do_for_a_list() -> None:
    assert Config.model_validate({"hidden_dims": (8, 4)}).hidden_dims == [8, 4]


def test_a_gpu_that_is_not_there_is_an_error_that_says_what_to_do() -> None:
    from nbody.device import resolve_device
    from nbody.errors import DeviceUnavailable

    with pytest.raises(DeviceUnavailable, match="use device 'auto' or 'cpu'"):
        resolve_device(Config(device="cuda:99"))


@pytest.mark.parametrize(
    ("dtype", "threshold", "advice"), [("float32", 1e-6, "float64"), ("float64", 1e-15, "larger")]
)
def test_a_threshold_that_rounding_would_decide_is_refused(
    dtype: str, threshold: float, advice: str
) -> None:
    config = Config.model_validate({"dtype": dtype, "energy_threshold": threshold})
    with pytest.raises(ValidationError, match=advice):
        config.check_arithmetic()
    Config.model_validate({"dtype": dtype, "energy_threshold": 2e-4}).check_arithmetic()


def test_every_stepping_rule_has_facts_and_steps() -> None:
    modes = set(get_args(IntegratorMode))
    assert STEPPING_RULES.keys() == RULES.keys() == modes


def test_every_kind_of_system_has_its_facts() -> None:
    assert SYSTEMS.keys() == set(get_args(InitialConditions))


def test_the_names_that_the_library_hands_on_are_all_typed_and_there() -> None:
    assert set(nbody._MODULE_OF) == set(nbody.__all__)
    for name in nbody.__all__:
        assert getattr(nbody, name) is not None
