"""Checkpoints as AITimeStepper's own runner writes them give the steps that it takes with them.

The steps were computed with that code (its commit c126521), for these weights and these states.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nbody.config.input_width import input_width
from nbody.history_buffer import HistoryBuffer
from nbody.model import FullyConnectedNN
from nbody.particle import ParticleTorch, make_particle
from nbody.stepper import Stepper, load_stepper

STEPS = [  # features, history, normalized, Fourier embedding, dt
    ("basic", 0, False, False, 1.458511516642195),
    ("basic", 0, False, True, 1.3083112683074176),
    ("basic", 0, True, False, 1.4555969216723867),
    ("basic", 0, True, True, 1.3524249623598303),
    ("basic", 3, False, False, 1.314605217462253),
    ("basic", 3, False, True, 1.410182874216992),
    ("basic", 3, True, False, 1.273870934520246),
    ("basic", 3, True, True, 1.3797675394655187),
    ("rich", 0, False, False, 1.3691174322773696),
    ("rich", 0, False, True, 1.4047479550633017),
    ("rich", 0, True, False, 1.2722382888266046),
    ("rich", 0, True, True, 1.3531983893732735),
    ("rich", 3, False, False, 1.4453149236449656),
    ("rich", 3, False, True, 1.4161845107730675),
    ("rich", 3, True, False, 1.4412174325079592),
    ("rich", 3, True, True, 1.2861215990969859),
    ("delta_mag", 0, False, False, 1.458511516642195),
    ("delta_mag", 0, False, True, 1.3083112683074176),
    ("delta_mag", 0, True, False, 1.4555969216723867),
    ("delta_mag", 0, True, True, 1.3524249623598303),
    ("delta_mag", 3, False, False, 1.4590721131727808),
    ("delta_mag", 3, False, True, 1.325790910975985),
    ("delta_mag", 3, True, False, 1.4519569478531915),
    ("delta_mag", 3, True, True, 1.379768165285291),
]
# Everything that it writes, sentinels and all.
FLAT: dict[str, Any] = json.loads("""
{"optimizer": "adam", "epochs": 1000, "lr": 0.0001, "weight_decay": 0.01, "momentum": 0.9,
"n_steps": 1, "dt_bound": 1e-08, "rel_loss_bound": 1e-05, "energy_threshold": 0.0002,
"steps_per_epoch": 1, "max_retrain_steps": 1000, "replay_steps": 1000, "replay_batch_size": 512,
"min_replay_size": 2, "E_lower": 1e-06, "E_upper": 0.0001, "L_lower": 0.0001, "L_upper": 0.01,
"norm_mode": "auto", "integrator_mode": "analytic", "dt": -1.0, "steps": -1, "duration": null,
"Nperiod": 10, "eccentricity": 0.9, "semi_major": 1.0, "eps": 0.1, "num_particles": 2, "dim": 2,
"mass": 1.0, "pos_scale": 0.1, "vel_scale": 1.0, "external_field_mass": null,
"external_field_position": null, "num_orbits": 8, "stop_at_period": false, "e_min": 0.6,
"e_max": 0.95, "a_min": 0.8, "a_max": 1.2, "device": "auto", "dtype": "float64", "tf32": false,
"compile": false, "detect_anomaly": false, "activation": "tanh", "dropout": 0.2, "adam_epochs":
0, "adam_lr": null, "lbfgs_lr": 1.0, "lbfgs_max_iter": 500, "lbfgs_history_size": 50,
"lbfgs_line_search": "strong_wolfe", "save_name": null, "seed": null, "debug": false,
"debug_every": 1, "debug_replay_every": 10, "movie": false, "movie_dir": null,
"movie_max_frames": 1000, "movie_fps": 30, "movie_dpi": 120, "model_path": null, "wandb": true,
"retrain_log_every": 100}
""")
SCALES = {"norm_L0": 2.0, "norm_V0": 0.5, "norm_A0": 0.125, "norm_T0": 4.0}


def state(number: int) -> ParticleTorch:
    """The states that the steps were computed at; their centre of mass moves."""
    place = torch.arange(10.0, dtype=torch.float64) + 10 * number
    rows = torch.sin(1 + 0.7 * place).reshape(2, 5)
    rows[:, 0] = torch.tensor([1.0, 0.5])
    return make_particle(rows)


def checkpoint(
    path: Path, features: str, history: int, normalized: bool, fourier: bool, **more: object
) -> Path:
    """A file as the original's `save_checkpoint` writes it."""
    seen = "basic" if features == "delta_mag" and not history else features
    network = FullyConnectedNN(
        input_width(seen, history),  # type: ignore[arg-type]
        2,
        [4, 3],
        "tanh",
        0.2,
        fourier_scale=1.0 if fourier else -1.0,
        fourier_dim=6,
    ).double()
    weights = network.state_dict()
    for values in weights.values():
        place = torch.arange(float(values.numel()), dtype=torch.float64)
        values.copy_(torch.sin(1 + 0.3 * place).reshape(values.shape) * 0.5)
    config = FLAT | {
        "feature_type": features,
        "history_len": history,
        "normalize_inputs": normalized,
        "hidden_dims": [4, 3],
        "fourier_scale": 1.0 if fourier else -1.0,
        "fourier_dim": 6,
        **(SCALES if normalized else dict.fromkeys(SCALES)),
    }
    content = {
        "epoch": 9,
        "model_state_dict": weights,
        "model_state": weights,
        "optimizer_state_dict": {},
        "config": config | more,
        "history_len": history,
        "feature_type": features,
        "dtype": "float64",
        "extra": {"train_ic": [[1.0, -0.2, 0.0, 0.0, 0.9], [1.0, 0.2, 0.0, 0.0, -0.9]]},
    }
    torch.save(content, path)
    return path


@pytest.mark.parametrize(("features", "history", "normalized", "fourier", "dt"), STEPS)
def test_a_checkpoint_of_the_original_takes_the_steps_that_it_took_there(
    tmp_path: Path, features: str, history: int, normalized: bool, fourier: bool, dt: float
) -> None:
    path = checkpoint(tmp_path / "m.pt", features, history, normalized, fourier)
    assert step_of(load_stepper(path), history) == pytest.approx(dt, rel=1e-13)


def step_of(stepper: Stepper, history: int) -> float:
    past = HistoryBuffer(history, stepper.config.feature_type) if history else None
    for number in range(history):
        before = state(number)
        before.update_dt(0.1 * (number + 1))
        past.push(before)  # type: ignore[union-attr]
    now = state(history)
    now.update_dt(0.7)
    return float(stepper.of_particle(now, past))


def test_what_it_was_trained_on_is_known(tmp_path: Path) -> None:
    drawn = load_stepper(checkpoint(tmp_path / "a.pt", "rich", 0, False, False)).config
    assert (drawn.initial_conditions, drawn.num_orbits) == ("kepler_ensemble", 8)
    path = checkpoint(tmp_path / "b.pt", "rich", 0, False, False, ic_path="/theirs/two.npy")
    config = load_stepper(path).config
    assert config.initial_conditions == "inline"
    assert config.particles == [[1.0, -0.2, 0.0, 0.0, 0.9], [1.0, 0.2, 0.0, 0.0, -0.9]]
    assert (config.dt, config.steps, config.extra["retrain_log_every"]) == (None, None, 100)
