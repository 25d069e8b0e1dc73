"""Faults of the original that were verified by running it, and must not come back. In its order."""

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nbody.checkpoint import load_checkpoint, save_checkpoint
from nbody.config import Config
from nbody.errors import CheckpointUnreadable, TrainingDiverged
from nbody.generalization_training import generalize_on_trajectory
from nbody.gravity.external_field import field_from_config
from nbody.history_buffer import HistoryBuffer
from nbody.initial_conditions.from_config import initial_particle
from nbody.model import build_model
from nbody.model_adapter import ModelAdapter
from nbody.particle import ParticleTorch, make_particle, stack_particles
from nbody.simulation.run import simulate
from nbody.stepper import Stepper
from nbody.training.run import TrainingRun
from nbody.trajectory_collection import (
    attempt_single_step,
    check_energy_threshold,
    collect_trajectory,
    compute_single_step_loss,
)
from nbody.unified_training import run_two_phase_training, train_epoch_two_phase
from tests.nbody.fakes import ConstantStep


class Anything:
    """An object that only a pickle can bring back."""


def kepler(eccentricity: float = 0.5) -> ParticleTorch:
    """Two unit masses at pericentre, semi-major axis 1."""
    r = (1 - eccentricity) / 2
    v = math.sqrt(2 * (1 + eccentricity) / (1 - eccentricity)) / 2
    return make_particle([[1.0, r, 0.0, 0.0, v], [1.0, -r, 0.0, 0.0, -v]])


def original(**fields: object) -> Config:
    """A config of the original's kind: its features, its head, its loss."""
    given = {
        "feature_type": "basic",
        "dt_head": "softplus",
        "loss": "band_failing",
        "device": "cpu",
        "steps_per_epoch": 3,
    }
    return Config.model_validate(given | fields)


def frozen(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.0)


def adam(model: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr)


def relative_error(particle: ParticleTorch, dt: float) -> float:
    state = particle.clone_detached()
    before = state.total_energy_batch()
    state.update_dt(torch.tensor(dt, dtype=torch.float64))
    state.evolve_batch()
    return ((state.total_energy_batch() - before) / before).abs().item()


def test_1_a_network_that_answers_almost_nothing_is_pushed_up_by_default() -> None:
    config = original(loss=Config().loss, replay_steps=30)
    model = ConstantStep(1e-8)
    result = train_epoch_two_phase(model, kepler(), adam(model), config, ModelAdapter(config))
    assert result["part2_iterations"] > 0
    assert model.dt > 2e-8


def test_2_part_2_that_never_runs_is_said_at_submission_and_in_the_metrics() -> None:
    config = original(initial_conditions="kepler", steps_per_epoch=1)
    assert config.min_replay_size == 2
    assert config.warnings()
    model = ConstantStep(0.005)
    result = train_epoch_two_phase(model, kepler(), frozen(model), config, ModelAdapter(config))
    assert result["generalization_metrics"]["skipped"] is True
    assert result["part2_iterations"] == 0


def test_3_the_recorded_state_is_the_one_that_the_gate_tested() -> None:
    config, model = original(steps_per_epoch=1), ConstantStep(0.5)
    trajectory, metrics = collect_trajectory(
        model, kepler(), adam(model), config, ModelAdapter(config)
    )
    state, dt = trajectory[0]
    assert torch.equal(state.position, kepler().position)
    assert torch.equal(state.velocity, kepler().velocity)
    assert relative_error(state, dt) == pytest.approx(metrics["max_energy_error"], rel=1e-6)


def test_4_the_gate_decides_the_same_each_time_though_the_network_has_dropout() -> None:
    config = original(hidden_dims=[16], dropout=0.5, steps_per_epoch=4, max_retrain_steps=1)
    adapter = ModelAdapter(config)
    model = build_model(config, adapter.input_dim_from_state(kepler())).double().train()
    outcomes = set()
    for seed in range(5):
        torch.manual_seed(seed)
        trajectory, _ = collect_trajectory(model, kepler(), frozen(model), config, adapter)
        outcomes.add(tuple(dt for _, dt in trajectory))
    assert len(outcomes) == 1


@pytest.mark.parametrize("feature_type", ["basic", "rich", "delta_mag", "dimensionless"])
def test_5_padding_is_zeros_in_feature_space_and_features_are_finite(feature_type: str) -> None:
    head = "log" if feature_type == "dimensionless" else "softplus"
    config = original(feature_type=feature_type, dt_head=head, history_len=3, softening=0.0)
    history, adapter = HistoryBuffer(3, config.feature_type), ModelAdapter(config)
    for pushed in range(3):
        features = adapter.build_feature_tensor(kepler(), history_buffer=history)
        assert bool(torch.isfinite(features).all())
        if pushed == 0 and feature_type in ("basic", "rich"):
            width = len(features) // 4
            assert bool((features[: 3 * width] == 0).all())
            assert bool((features[3 * width :] != 0).any())
        history.push(kepler())


def test_5_particles_in_one_place_give_finite_features() -> None:
    rows = [[1.0, 0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0, -1.0]]
    for feature_type in ("basic", "rich"):
        config = original(feature_type=feature_type)
        features = ModelAdapter(config).build_feature_tensor(make_particle(rows))
        assert bool(torch.isfinite(features).all())


def test_6_delta_mag_without_history_is_an_error() -> None:
    with pytest.raises(ValueError, match="history_len"):
        Config(feature_type="delta_mag", dt_head="softplus", history_len=0)


def test_7_the_network_sees_in_a_simulation_what_it_saw_in_training() -> None:
    config = original(
        history_len=2, steps_per_epoch=6, integrator_mode="history", steps=6, min_replay_size=100
    )
    trained, used, adapter = ConstantStep(0.01), ConstantStep(0.01), ModelAdapter(config)
    collect_trajectory(trained, kepler(), frozen(trained), config, adapter)
    simulate(config, kepler(), Stepper(used, ModelAdapter(config)))
    seen_in_training = torch.cat(trained.seen)
    seen_in_use = torch.cat(used.seen)[:6]
    torch.testing.assert_close(seen_in_use, seen_in_training)
    assert not torch.allclose(seen_in_training[2:, 11:22], seen_in_training[2:, 22:])


def test_7_each_sample_of_part_2_carries_its_own_history() -> None:
    config = original(history_len=2, steps_per_epoch=6, replay_steps=3)
    collector, adapter = ConstantStep(0.01), ModelAdapter(config)
    trajectory, _ = collect_trajectory(collector, kepler(), frozen(collector), config, adapter)
    judge = ConstantStep(0.01)
    generalize_on_trajectory(judge, trajectory, frozen(judge), config, adapter)
    seen_in_part_1 = {tuple(row.tolist()) for row in torch.cat(collector.seen)[2:]}
    assert {tuple(row.tolist()) for row in torch.cat(judge.seen)} == seen_in_part_1


def test_8_each_orbit_is_accepted_by_itself() -> None:
    config, model = original(steps_per_epoch=1), ConstantStep(0.05)
    batch = stack_particles([kepler(0.0), kepler(0.9)])
    trajectory, _ = collect_trajectory(model, batch, adam(model), config, ModelAdapter(config))
    accepted = {round(state.position[0, 0].item(), 6): dt for state, dt in trajectory}
    assert accepted[0.5] == pytest.approx(0.05, rel=1e-9)
    assert accepted[0.05] < 0.05


@pytest.mark.parametrize("loss", ["band_failing", "band", "oracle"])
@pytest.mark.parametrize("dt", [1e160, 1e300])
def test_9_an_energy_that_is_not_finite_does_not_poison_the_weights(loss: str, dt: float) -> None:
    assert not math.isfinite(relative_error(kepler(), dt))
    config, model = original(loss=loss, replay_steps=5), ConstantStep(dt)
    train_epoch_two_phase(model, kepler(), adam(model, 20.0), config, ModelAdapter(config))
    assert math.isfinite(model.log_dt.item())
    assert model.dt < dt


def test_9_the_gradient_of_a_loss_over_mixed_samples_is_finite() -> None:
    config = original()
    before = torch.tensor([-1.0, -1.0, -1.0], dtype=torch.float64)
    after = torch.tensor([-1.01, -math.inf, math.nan], dtype=torch.float64, requires_grad=True)
    compute_single_step_loss(before, after, config).backward()
    assert after.grad is not None
    assert bool(torch.isfinite(after.grad).all())
    assert after.grad[0].item() < 0


def test_9_weights_that_are_not_finite_end_the_run_with_the_last_good_checkpoint(
    tmp_path: Path,
) -> None:
    config, model = original(epochs=3, replay_steps=2), ConstantStep(0.005)

    class Poison:
        def log(self, data: dict[str, Any]) -> None:
            if data["epoch"] == 1:
                with torch.no_grad():
                    model.log_dt.fill_(math.nan)

    given = (model, kepler(), frozen(model), config, ModelAdapter(config))
    with pytest.raises(TrainingDiverged):
        run_two_phase_training(*given, save_dir=tmp_path, wandb_run=Poison())
    (path,) = tmp_path.iterdir()
    assert math.isfinite(load_checkpoint(path)["model_state_dict"]["log_dt"].item())


@pytest.mark.parametrize("speed", [10.0, 1000.0])
def test_10_a_boost_does_not_turn_a_failing_step_into_a_passing_one(speed: float) -> None:
    config, model = original(), ConstantStep(0.05)
    boosted = kepler()
    boosted.velocity = boosted.velocity + torch.tensor([speed, -speed], dtype=torch.float64)
    errors = []
    for particle in (kepler(), boosted):
        _, _, before, after = attempt_single_step(model, particle, config, ModelAdapter(config))
        passed, error = check_energy_threshold(before, after, config.energy_threshold)
        assert passed is False
        errors.append(error.item())
    assert errors[1] == pytest.approx(errors[0], rel=1e-4)


@pytest.mark.slow
def test_11_converged_is_one_full_pass_with_the_final_weights() -> None:
    config = original(replay_batch_size=1, replay_steps=1)
    trajectory = [(kepler(0.01), 0.01)] * 200 + [(kepler(0.9), 0.001)]
    for seed in range(5):
        torch.manual_seed(seed)
        model = ConstantStep(0.02)
        assert relative_error(kepler(0.01), 0.02) < config.energy_threshold
        converged, _, metrics = generalize_on_trajectory(
            model, trajectory, frozen(model), config, ModelAdapter(config)
        )
        assert converged is False
        assert metrics["final_pass_rate"] == pytest.approx(200 / 201)


def test_12_a_seed_covers_every_generator() -> None:
    def drawn() -> tuple[float, float, float]:
        TrainingRun.start(original(seed=4, hidden_dims=[8]))
        return random.random(), np.random.rand(), torch.rand(1).item()

    assert drawn() == drawn()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)],
)
def test_12_the_choice_of_optimizer_is_honoured(name: str, kind: type) -> None:
    config = original(optimizer=name, hidden_dims=[8], lr=0.25, weight_decay=0.125, momentum=0.5)
    optimizer = TrainingRun.start(config).optimizer
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["lr"] == 0.25
    assert optimizer.param_groups[0]["weight_decay"] == 0.125
    if name == "sgd":
        assert optimizer.param_groups[0]["momentum"] == 0.5


def test_12_a_checkpoint_is_not_read_as_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"model_state_dict": {}, "extra": Anything()}, path)
    with pytest.raises(CheckpointUnreadable):
        load_checkpoint(path)
    save_checkpoint(path, ConstantStep(0.1), config=original())
    assert torch.load(path, weights_only=True)["config"]["feature_type"] == "basic"


def test_12_the_external_field_acts_in_training_and_in_reported_energies() -> None:
    config = original(
        initial_conditions="kepler",
        eccentricity=0.5,
        external_field_mass=4.0,
        external_field_position=[3.0, 0.0],
    )
    particle = initial_particle(config)
    assert particle.external_field is not None
    bare = particle.clone_detached()
    bare.external_field = None
    assert particle.total_energy_batch().item() != pytest.approx(bare.total_energy_batch().item())

    field = field_from_config(config)
    assert field is not None
    expected = bare.get_acceleration() + field.acceleration(bare.position)
    torch.testing.assert_close(particle.get_acceleration(), expected)

    model = ConstantStep(0.002)
    trajectory, metrics = collect_trajectory(
        model, particle, frozen(model), config, ModelAdapter(config)
    )
    assert trajectory[0][0].external_field is not None
    errors = [relative_error(state, dt) for state, dt in trajectory]
    assert metrics["max_energy_error"] == pytest.approx(max(errors), rel=1e-5)


def test_12_a_simulation_runs_in_the_precision_of_the_config_and_under_the_gate() -> None:
    config = original(integrator_mode="gated", steps=20, dt=0.5)
    result = simulate(config, kepler(0.9), Stepper(ConstantStep(0.5), ModelAdapter(config)))
    assert result.position.dtype == torch.float64
    state = kepler(0.9)
    for dt in result.dt.reshape(-1).tolist():
        assert relative_error(state, dt) < config.energy_threshold
        state.update_dt(torch.tensor(dt, dtype=torch.float64))
        state.evolve_batch()


def test_12_a_simulation_with_fixed_steps_is_in_float64() -> None:
    config = original(integrator_mode="fixed", steps=5, dt=0.01)
    result = simulate(config, kepler())
    assert result.position.dtype == result.dt.dtype == torch.float64
