"""What a stepper takes and refuses."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from nbody.config import Config
from nbody.initial_conditions.from_config import initial_particle
from nbody.model import build_model
from nbody.model_adapter import ModelAdapter
from nbody.stepper import Stepper


def stepper(**fields: object) -> Stepper:
    config = Config.model_validate({"hidden_dims": [8], "dropout": 0.0, "device": "cpu"} | fields)
    adapter = ModelAdapter(config)
    torch.manual_seed(3)
    width = adapter.input_dim_from_state(initial_particle(config))
    return Stepper(build_model(config, width).to(adapter.dtype), adapter)


def system(number: int, dim: int = 3, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    x, v = generator.normal(size=(2, number, dim))
    return x, v, generator.uniform(0.5, 1.5, number)


def test_far_from_the_origin_float32_is_as_good_as_at_it() -> None:
    single = stepper(dtype="float32")
    x, v, m = system(4)
    near = float(single(x, v, m))
    far = float(single(x + 1e7, v + 1e4, m))
    assert far == pytest.approx(near, rel=1e-5)


def test_padding_changes_no_step() -> None:
    asked = stepper()
    parts = [system(n, seed=n) for n in (2, 4, 3)]
    x, v, m = np.zeros((3, 5, 3)), np.zeros((3, 5, 3)), np.zeros((3, 5))
    for row, part in enumerate(parts):
        for whole, values in zip((x, v, m), part, strict=True):
            whole[row, : len(values)] = values
    alone = [float(asked(*part)) for part in parts]
    assert asked(x, v, m).tolist() == pytest.approx(alone, rel=1e-12)


def test_a_massless_particle_that_is_somewhere_is_no_padding() -> None:
    x, v, m = system(3)
    m[2] = 0.0
    assert math.isfinite(float(stepper(gate="each")(x, v, m)))


GOOD = system(3)


@pytest.mark.parametrize(
    ("x", "v", "m", "named"),
    [
        (GOOD[0][:1], GOOD[1][:1], GOOD[2][:1], "two particles"),
        (*system(3, 4), "D"),
        (*system(3, 1), "D"),
        (GOOD[0], GOOD[1][:2], GOOD[2], "position and velocity"),
        (GOOD[0][0], GOOD[1][0], 1.0, "position and velocity"),
        (GOOD[0], GOOD[1], GOOD[2][:2], "mass"),
        (GOOD[0], GOOD[1], np.array([1.0, -1.0, 1.0]), "mass of particle 1"),
        (GOOD[0], GOOD[1], np.array([1.0, math.nan, 1.0]), "mass of particle 1"),
        (GOOD[0], GOOD[1], 0.0, "no mass"),
        (np.ones((3, 3)), GOOD[1], GOOD[2], "one place"),
    ],
)
def test_what_is_no_system_is_refused_by_its_name(x: Any, v: Any, m: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        stepper()(x, v, m)


def test_with_softening_particles_may_be_at_one_place() -> None:
    x = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    assert math.isfinite(float(stepper(softening=0.1)(x, np.eye(3, 2), 1.0)))


def test_the_step_of_what_is_not_finite_is_nan() -> None:
    x, v, m = system(3)
    x[1, 0] = math.inf
    assert math.isnan(float(stepper()(x, v, m)))


@pytest.mark.parametrize("light", [0.0, 1e-9, 1e-3])
def test_light_bodies_are_seen_as_in_training(light: float) -> None:
    """Beside a star and a planet, whose energy is kept with a step of any length."""
    asked = stepper(feature_type="error_series")
    x = np.array([[0.0, 0.0], [5.2, 0.0], [3.0, 0.0]])
    v = np.array([[0.0, 0.0], [0.0, 0.44], [0.0, 0.577]])
    m = np.array([1.0, 1e-3, light])
    step, alone = float(asked(x, v, m)), float(asked(x[[0, 2]], v[[0, 2]], 1.0))
    assert 0.1 * alone < step < 10 * alone
    rows = np.column_stack((m, x, v)).tolist()
    config = Config.model_validate({"initial_conditions": "inline", "particles": rows, "dim": 2})
    assert step == pytest.approx(float(asked.of_particle(initial_particle(config))), rel=1e-9)


def test_systems_with_and_without_light_bodies_go_into_one_array() -> None:
    asked = stepper(feature_type="error_series")
    x, v, m = (np.stack([part, part]) for part in system(3))
    m[1, 2] = 1e-7
    alone = [float(asked(x[k], v[k], m[k])) for k in (0, 1)]
    assert asked(x, v, m).tolist() == pytest.approx(alone, rel=1e-9)


def test_arrays_of_any_kind_are_taken() -> None:
    asked = stepper()
    x, v, m = GOOD
    step = float(asked(x, v, m))
    for kind in (
        lambda a: a.astype(">f8"),
        lambda a: a[::-1].copy()[::-1],
        lambda a: a.tolist(),
        torch.from_numpy,
        np.asfortranarray,
    ):
        assert float(asked(*map(kind, (x, v, m)))) == step
    assert asked(np.zeros((0, 3, 3)), np.zeros((0, 3, 3)), m).shape == (0,)


@pytest.mark.parametrize(
    ("named", "options"),
    [
        ("energy_threshold must be above zero", {"energy_threshold": 0.0}),
        ("energy_threshold must be above zero", {"energy_threshold": math.nan}),
        ("energy_threshold must be a number", {"energy_threshold": np.ones(4)}),
        ("G must be above zero", {"G": -1.0}),
        ("G must be above zero", {"G": math.nan}),
        ("AU/Msun/yr", {"G": "AU/yr"}),
    ],
)
def test_what_cannot_be_asked_for_is_told(named: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=named):
        stepper()(*GOOD, **options)


def test_complex_numbers_are_refused() -> None:
    x, v, m = GOOD
    for values in (x.astype(complex), torch.from_numpy(x).to(torch.complex128)):
        with pytest.raises(ValueError, match="position must hold real numbers"):
            stepper()(values, v, m)
