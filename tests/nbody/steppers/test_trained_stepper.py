"""A trained stepper keeps every symmetry of the physics, and its run is a good one."""

import math

import pytest
import torch

from nbody.config import Config
from nbody.evaluation.score import evaluate
from nbody.initial_conditions.from_config import initial_particle
from nbody.initial_conditions.kepler import kepler_orbits
from nbody.integrators.oracle import first_crossing
from nbody.model_adapter import ModelAdapter
from nbody.particle import ParticleTorch
from nbody.simulation.run import simulate
from nbody.stepper import Stepper
from nbody.training.run import TrainingRun
from nbody.unified_training import epochs

QUICK = {
    "device": "cpu",
    "hidden_dims": [32, 32],
    "dropout": 0.0,
    "lr": 3e-3,
    "lr_schedule": "cosine",
    "weight_decay": 0.0,
    "oracle_quantile": 0.02,
    "max_retrain_steps": 10,
    "replay_steps": 60,
    "seed": 5,
}


def trained(**fields: object) -> Stepper:
    run = TrainingRun.start(Config.model_validate(QUICK | fields))
    for _ in epochs(run):
        pass
    return Stepper(run.model, run.adapter)


@pytest.fixture(scope="module")
def kepler() -> Stepper:
    return trained(num_orbits=64, resample_each_epoch=True, steps_per_epoch=12, epochs=12)


@pytest.fixture(scope="module")
def three_bodies() -> Stepper:
    return trained(
        initial_conditions="random_bound",
        num_particles=3,
        dim=3,
        pos_scale=1.0,
        mass_ratio_min=0.1,
        num_systems=16,
        reset_particle_each_epoch=False,
        lifetime=3.0,
        steps_per_epoch=6,
        epochs=4,
    )


@pytest.fixture(params=["kepler", "three_bodies"])
def stepper(request: pytest.FixtureRequest) -> Stepper:
    return request.getfixturevalue(request.param)


def held_out(stepper: Stepper) -> ParticleTorch:
    return initial_particle(stepper.config, seed=99)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-9, 0.03, 50.0, 1e12])
def test_scaling_the_system_scales_the_step_with_the_power_three_halves(
    stepper: Stepper, scale: float
) -> None:
    p = held_out(stepper)
    expected = scale**1.5 * stepper(p.position, p.velocity, p.mass)
    found = stepper(scale * p.position, p.velocity / math.sqrt(scale), p.mass)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_heavier_bodies_take_shorter_steps_with_the_root_of_the_mass(stepper: Stepper) -> None:
    p = held_out(stepper)
    found = stepper(p.position, 2 * p.velocity, 4 * p.mass)
    expected = stepper(p.position, p.velocity, p.mass) / 2
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_a_rotation_does_not_change_the_step(stepper: Stepper) -> None:
    p = held_out(stepper)
    dim = p.position.shape[-1]
    generator = torch.Generator().manual_seed(1)
    turn, _ = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
    found = stepper(p.position @ turn, p.velocity @ turn, p.mass)
    expected = stepper(p.position, p.velocity, p.mass)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_the_order_of_the_particles_does_not_change_the_step(stepper: Stepper) -> None:
    p = held_out(stepper)
    found = stepper(p.position.flip(1), p.velocity.flip(1), p.mass.flip(1))
    expected = stepper(p.position, p.velocity, p.mass)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_a_boost_and_a_shift_do_not_change_the_step(stepper: Stepper) -> None:
    p = held_out(stepper)
    found = stepper(p.position + 3.0, p.velocity - 2.0, p.mass)
    expected = stepper(p.position, p.velocity, p.mass)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_a_batch_gives_what_each_system_gives_alone(stepper: Stepper) -> None:
    p = held_out(stepper)
    together = stepper(p.position, p.velocity, p.mass)
    parts = zip(p.position, p.velocity, p.mass, strict=True)
    alone = torch.stack([stepper(x, v, m) for x, v, m in parts])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=0)


def test_an_apsis_is_no_worse_a_place_than_others(kepler: Stepper) -> None:
    """There the leading errors vanish, and what rounding leaves of them says nothing."""
    angle = torch.arange(16, dtype=torch.float64)
    ones = torch.ones_like(angle)
    p = kepler_orbits(0.8 * ones, ones, math.pi * ones, 1.0, 2, angle)
    dt_star = first_crossing(p.states(), kepler.config.energy_threshold)
    ratio = kepler(p.position, p.velocity, p.mass) / dt_star
    assert float(ratio.min()) > 0.8


@pytest.mark.slow
def test_a_simulation_asks_for_steps_of_its_own_threshold(kepler: Stepper) -> None:
    fields: dict[str, object] = {"initial_conditions": "kepler", "eccentricity": 0.8}
    fields["energy_threshold"] = 1e-6
    fields |= {"integrator_mode": "gated", "dt_scale": 0.8, "energy_threshold_max": 1e-2}
    config = Config.model_validate(fields | {"Nperiod": 1})
    run = simulate(config, initial_particle(config, seed=1), kepler)
    alone = config.model_copy(update={"integrator_mode": "ml"})
    assert run.steps < 1.2 * simulate(alone, initial_particle(config, seed=1), kepler).steps


def test_a_stepper_takes_a_system_as_it_is(kepler: Stepper) -> None:
    """One that was trained in an external field adds it to no system that has none."""
    field = {"external_field_mass": 3.0, "external_field_position": [2.0, 0.0]}
    config = kepler.config.model_copy(update=field)
    in_field = Stepper(kepler.model, ModelAdapter(config))
    p = held_out(kepler)
    torch.testing.assert_close(in_field.of_particle(p), kepler.of_particle(p), rtol=0, atol=0)
    assert p.external_field is None


def test_a_smaller_threshold_gives_smaller_steps(kepler: Stepper) -> None:
    p = held_out(kepler)
    loose, tight = (
        kepler(p.position, p.velocity, p.mass, energy_threshold=limit) for limit in (2e-4, 2e-5)
    )
    assert float((tight / loose).max()) < 0.8


@pytest.mark.slow
def test_seconds_of_training_beat_the_best_classical_criterion_by_far(kepler: Stepper) -> None:
    """Free fall times (r/a)^(1/3) reaches 0.54, the best of the criteria in use."""
    scores = evaluate(kepler, seed=123, systems=64)
    assert scores["stepper"]["calibrated_efficiency"] > 0.9
