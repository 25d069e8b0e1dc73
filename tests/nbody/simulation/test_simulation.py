"""A run with each stepping rule: its steps, its cost, what it kept, and the file it leaves."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nbody.config import Config
from nbody.errors import StepImpossible
from nbody.gravity.free_fall import free_fall_time
from nbody.gravity.invariants import angular_momentum, energies
from nbody.history_buffer import HistoryBuffer
from nbody.initial_conditions.from_config import initial_particle
from nbody.model import build_model
from nbody.model_adapter import ModelAdapter
from nbody.particle import ParticleTorch
from nbody.simulation.finished import Simulation
from nbody.simulation.run import simulate
from nbody.stepper import Stepper
from nbody.training.run import TrainingRun
from nbody.trajectory_collection import collect_trajectory

RESIDUALS = ("energy_error", "momentum_error", "angular_momentum_error")


def config_of(mode: str, **fields: object) -> Config:
    return Config.model_validate(
        {"initial_conditions": "kepler", "eccentricity": 0.6, "integrator_mode": mode, **fields}
    )


def run(config: Config, stepper: Stepper | None = None) -> Simulation:
    return simulate(config, initial_particle(config, seed=1), stepper)


def stepper_for(**fields: object) -> Stepper:
    """An untrained network whose answer varies from state to state."""
    torch.manual_seed(2)
    config = config_of("ml", hidden_dims=[8], dropout=0.3, **fields)
    adapter = ModelAdapter(config)
    particle = initial_particle(config, seed=1)
    width = adapter.input_dim_from_state(particle, history_buffer=adapter.history_buffer)
    model = build_model(config, width).double()
    with torch.no_grad():
        [*model.parameters()][-2].normal_(std=0.5)
    return Stepper(model, adapter)


def state_at(run: Simulation, k: int, softening: float = 0.0) -> ParticleTorch:
    return ParticleTorch.from_tensors(
        run.mass, run.position[k], run.velocity[k], softening=softening
    )


def assert_each_state_follows_from_the_one_before(found: Simulation) -> None:
    for k in range(found.steps):
        state = state_at(found, k)
        state.update_dt(found.dt[k])
        state.evolve_batch()
        torch.testing.assert_close(state.position, found.position[k + 1], rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(state.velocity, found.velocity[k + 1], rtol=1e-9, atol=1e-9)


def test_a_fixed_run_takes_equal_steps_for_the_duration() -> None:
    config = config_of("fixed", dt=0.0625, duration=2.0)
    found = run(config)
    start = initial_particle(config, seed=1)
    assert found.steps == 32
    assert found.time.tolist() == [0.0625 * k for k in range(33)]
    assert found.dt.tolist() == [0.0625] * 32
    assert torch.equal(found.position[0], start.position)
    assert_each_state_follows_from_the_one_before(found)


def test_one_force_evaluation_a_step_and_one_to_begin_with() -> None:
    assert run(config_of("fixed", dt=0.05, steps=17)).force_evaluations == 18


def test_whichever_comes_first_of_steps_and_duration_ends_the_run() -> None:
    assert run(config_of("fixed", dt=0.25, steps=3, duration=100.0)).steps == 3
    assert run(config_of("fixed", dt=0.25, steps=100, duration=0.75)).steps == 3


def test_without_either_it_covers_the_periods_that_were_asked_for() -> None:
    config = config_of("fixed", dt=0.125, Nperiod=2)
    found = run(config)
    period = float(initial_particle(config).period)
    assert float(found.time[-2]) < 2 * period <= float(found.time[-1]) + 1e-12


def test_an_analytic_run_steps_a_fraction_of_the_free_fall_time() -> None:
    found = run(config_of("analytic", eta=0.07, steps=40))
    expected = 0.07 * free_fall_time(found.position[:-1], found.mass, 0.0)
    torch.testing.assert_close(found.dt, expected)
    assert float(found.dt.max() / found.dt.min()) > 1.5
    assert_each_state_follows_from_the_one_before(found)


def test_the_free_fall_criterion_uses_the_softening() -> None:
    found = run(config_of("analytic", eta=0.07, steps=4, softening=0.5))
    expected = 0.07 * free_fall_time(found.position[:-1], found.mass, 0.5)
    torch.testing.assert_close(found.dt, expected)


def test_a_run_of_a_network_takes_the_steps_that_the_network_names() -> None:
    stepper = stepper_for()
    found = run(config_of("ml", steps=30), stepper)
    expected = stepper(found.position[:-1], found.velocity[:-1], found.mass)
    torch.testing.assert_close(found.dt, expected)
    assert float(found.dt.max() / found.dt.min()) > 1.1
    assert_each_state_follows_from_the_one_before(found)


@pytest.mark.parametrize("feature_type", ["dimensionless", "delta_mag"])
def test_a_run_with_history_shows_the_network_the_states_it_came_from(feature_type: str) -> None:
    options = {"dt_head": "softplus"} if feature_type == "delta_mag" else {}
    stepper = stepper_for(history_len=2, feature_type=feature_type, **options)
    about = {"history_len": 2, "feature_type": feature_type, **options}
    found = run(config_of("history", steps=6, **about), stepper)
    history = HistoryBuffer(2, feature_type)
    for k in range(6):
        state = state_at(found, k)
        state.update_dt(found.dt[k - 1] if k else torch.tensor(0.0, dtype=torch.float64))
        state.get_acceleration()
        expected = stepper.of_particle(state, history)
        torch.testing.assert_close(found.dt[k], expected.reshape(()))
        history.push(state)


def test_the_particle_is_not_changed() -> None:
    config = config_of("fixed", dt=0.1, steps=5)
    particle = initial_particle(config)
    before = particle.position.clone(), particle.velocity.clone(), particle.current_time.clone()
    simulate(config, particle)
    after = particle.position, particle.velocity, particle.current_time
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_residuals_are_those_of_the_recorded_states() -> None:
    config = config_of("fixed", dt=0.1, steps=50)
    found = run(config)
    energy = energies(found.position, found.velocity, found.mass).total
    torch.testing.assert_close(
        found.energy_error, (energy / energy[0] - 1).abs(), rtol=1e-6, atol=1e-12
    )
    assert float(found.energy_error.max()) > 1e-4
    spin = angular_momentum(found.position, found.velocity, found.mass)[:, 2]
    torch.testing.assert_close(
        found.angular_momentum_error, (spin / spin[0] - 1).abs(), rtol=0, atol=1e-12
    )
    assert float(found.momentum_error.max()) < 1e-13


def test_a_field_shows_in_the_momentum_residual_and_not_in_the_energy() -> None:
    found = run(
        config_of(
            "analytic",
            eta=0.01,
            duration=1.0,
            external_field_mass=20.0,
            external_field_position=[3.0, 1.0],
        )
    )
    assert float(found.energy_error.max()) < 1e-4
    assert float(found.momentum_error.max()) > 1e-3
    assert float(found.angular_momentum_error.max()) > 1e-3


def test_the_report_has_the_largest_and_the_final_residual() -> None:
    found = run(config_of("fixed", dt=0.1, steps=50))
    report = found.report()
    assert report["steps"] == 50
    assert report["force_evaluations"] == 51
    for name in RESIDUALS:
        residual = getattr(found, name)
        assert len(residual) == 51
        assert report[f"max_{name}"] == float(residual.max())
        assert report[f"final_{name}"] == float(residual[-1])
    assert report["max_energy_error"] > report["final_energy_error"] > 0


@pytest.mark.slow
def test_smaller_steps_keep_the_energy_better_at_second_order() -> None:
    coarse, fine = (
        run(config_of("fixed", dt=dt, duration=4.0)).report()["max_energy_error"]
        for dt in (1 / 128, 1 / 256)
    )
    assert coarse / fine == pytest.approx(4.0, rel=0.05)


def test_the_systems_of_a_batch_advance_each_with_its_own_step() -> None:
    fields = {"initial_conditions": "kepler_ensemble", "num_orbits": 3, "eta": 0.1}
    config = config_of("analytic", **fields, duration=1.0)
    found = run(config)
    start = initial_particle(config, seed=1)
    assert found.position.shape[1:] == (3, 2, 2)
    assert float(found.time[-1].min()) >= 1.0
    for row in range(3):
        alone = simulate(config, start.select(row))
        torch.testing.assert_close(found.position[: alone.steps, row], alone.position[:-1])


def test_a_saved_run_is_read_without_pickle(tmp_path: Path) -> None:
    found = run(config_of("fixed", dt=0.1, steps=5))
    path = tmp_path / "run.npz"
    found.save(path)
    with np.load(path, allow_pickle=False) as saved:
        for name in ("time", "position", "velocity", "mass", "dt", "energy_error"):
            np.testing.assert_array_equal(saved[name], getattr(found, name).numpy())


@pytest.mark.parametrize("mode", ["ml", "history"])
def test_a_network_mode_needs_a_network(mode: str) -> None:
    with pytest.raises(ValueError, match=r"stepper|network"):
        run(config_of(mode, steps=3, history_len=1))


def test_a_fixed_run_needs_a_step() -> None:
    with pytest.raises(ValueError, match="dt"):
        run(config_of("fixed", steps=3))


def test_a_step_that_is_not_finite_ends_the_run_with_a_clear_error() -> None:
    stepper = stepper_for()
    with torch.no_grad():
        [*stepper.model.parameters()][-1].fill_(float("nan"))
    with pytest.raises(StepImpossible):
        run(config_of("ml", steps=3), stepper)


def test_a_system_that_begins_at_rest_keeps_its_momenta() -> None:
    found = run(config_of("analytic", initial_conditions="pythagorean", steps=50)).report()
    assert found["max_momentum_error"] < 1e-13
    assert found["max_angular_momentum_error"] < 1e-13


@pytest.mark.parametrize("kind", ["figure_eight", "lagrange_triangle"])
@pytest.mark.parametrize("mode", ["ml", "gated", "reversible"])
def test_named_systems_run_with_a_stepper(kind: str, mode: str) -> None:
    fields = {"initial_conditions": kind, "hidden_dims": [8], "steps": 20, "device": "cpu"}
    config = config_of(mode, **fields)
    trained = TrainingRun.start(config)
    found = run(config, Stepper(trained.model, trained.adapter))
    assert found.steps == 20
    assert float(found.dt.min()) > 1e-4


def test_a_step_that_is_far_too_long_is_an_error() -> None:
    with pytest.raises(StepImpossible):
        run(config_of("fixed", dt=1e200, steps=3))


def test_a_stepper_in_float32_serves_a_simulation_in_float64() -> None:
    stepper = stepper_for(dtype="float32")
    stepper.model.float()
    found = run(config_of("ml", steps=3), stepper)
    assert found.position.dtype == torch.float64


def test_the_past_is_spaced_as_in_training_where_a_prediction_serves_several_steps() -> None:
    fields = {"history_len": 1, "n_steps": 4, "feature_type": "delta_mag", "dt_head": "softplus"}
    stepper = stepper_for(**fields)
    config = config_of("history", steps=3, **fields)
    found = run(config, stepper)
    torch.testing.assert_close(found.time.diff(), 4 * found.dt)
    assert found.force_evaluations == 1 + (4 + 2) * 3  # two for the features of a prediction
    collected, _ = collect_trajectory(
        stepper.model,
        initial_particle(config, seed=1),
        torch.optim.SGD(stepper.model.parameters(), lr=0.0),
        config.model_copy(update={"steps_per_epoch": 3, "energy_threshold": 1e9}),
        stepper.adapter,
    )
    torch.testing.assert_close(collected.states.position, found.position[1:3])
    torch.testing.assert_close(collected.dt, found.dt[1:])
