"""Part 1: every recorded sample passed the gate, as the state that was tested."""

import inspect
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from nbody.config import Config
from nbody.errors import StepImpossible, TrainingDiverged
from nbody.history_buffer import HistoryBuffer
from nbody.initial_conditions.from_config import initial_particle
from nbody.model import build_model
from nbody.model_adapter import ModelAdapter
from nbody.particle import ParticleTorch, make_particle, stack_particles
from nbody.training.collection import Collection
from nbody.training.setup import TrainingSetup
from nbody.training.trajectory import Trajectory
from nbody.trajectory_collection import (
    attempt_single_step,
    check_energy_threshold,
    collect_trajectory,
    collect_trajectory_step,
    compute_single_step_loss,
)
from nbody.watcher import NoWatcher
from tests.nbody.fakes import ConstantStep

EPOCH_METRICS = {
    "total_steps",
    "warmup_discarded",
    "trajectory_length",
    "mean_retrain_iterations",
    "max_retrain_iterations",
    "mean_energy_error",
    "min_energy_error",
    "max_energy_error",
    "mean_dt",
    "min_dt",
    "max_dt",
}


def kepler(eccentricity: float, semi_major: float = 1.0) -> ParticleTorch:
    """Two unit masses at pericentre of their relative orbit."""
    r = semi_major * (1 - eccentricity) / 2
    v = math.sqrt(2 * (1 + eccentricity) / (semi_major * (1 - eccentricity))) / 2
    return make_particle([[1.0, r, 0.0, 0.0, v], [1.0, -r, 0.0, 0.0, -v]])


def config_of(**fields: object) -> Config:
    given = {
        "feature_type": "basic",
        "dt_head": "softplus",
        "loss": "band_failing",
        "device": "cpu",
        "steps_per_epoch": 3,
    }
    return Config.model_validate(given | fields)


def adam(model: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr)


def frozen(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.0)


def relative_error(particle: ParticleTorch, dt: float | torch.Tensor) -> torch.Tensor:
    """|E1 - E0| / |E0| of one KDK step of dt, taken with the public methods of a particle."""
    state = particle.clone_detached()
    before = state.total_energy_batch()
    state.update_dt(torch.as_tensor(dt, dtype=state.position.dtype))
    state.evolve_batch()
    return ((state.total_energy_batch() - before) / before).abs()


def advanced(particle: ParticleTorch, dt: float) -> ParticleTorch:
    state = particle.clone_detached()
    state.update_dt(torch.tensor(dt, dtype=torch.float64))
    state.evolve_batch()
    return state


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (attempt_single_step, "model particle config adapter history_buffer"),
        (check_energy_threshold, "E0 E1 threshold"),
        (compute_single_step_loss, "E0 E1 config"),
        (
            collect_trajectory_step,
            "model particle optimizer config adapter history_buffer max_retrain_warn",
        ),
        (collect_trajectory, "model particle optimizer config adapter history_buffer"),
    ],
)
def test_the_signatures_are_those_of_the_original(
    function: Callable[..., object], parameters: str
) -> None:
    signature = inspect.signature(function).parameters
    positional = [n for n, p in signature.items() if p.kind == p.POSITIONAL_OR_KEYWORD]
    assert positional == parameters.split()
    if "history_buffer" in positional:
        assert signature["history_buffer"].default is None


def test_an_attempt_gives_the_step_and_the_energies_around_it() -> None:
    particle, config = kepler(0.5), config_of()
    after, dt, before_energy, after_energy = attempt_single_step(
        ConstantStep(0.01), particle, config, ModelAdapter(config)
    )
    assert dt.reshape(-1).tolist() == pytest.approx([0.01])
    assert before_energy.item() == pytest.approx(-0.5)
    torch.testing.assert_close(after.position, advanced(particle, dt.item()).position)
    error = ((after_energy - before_energy) / before_energy).abs()
    assert error.item() == pytest.approx(relative_error(particle, 0.01).item(), rel=1e-6)


def test_an_attempt_does_not_change_the_particle() -> None:
    particle, config = kepler(0.5), config_of()
    attempt_single_step(ConstantStep(0.1), particle, config, ModelAdapter(config))
    assert torch.equal(particle.position, kepler(0.5).position)
    assert torch.equal(particle.velocity, kepler(0.5).velocity)


def test_an_attempt_is_differentiable_with_respect_to_the_weights() -> None:
    model, config = ConstantStep(0.05), config_of()
    _, _, before, after = attempt_single_step(model, kepler(0.5), config, ModelAdapter(config))
    loss = compute_single_step_loss(before, after, config)
    assert loss.shape == ()
    loss.backward()
    assert model.log_dt.grad is not None
    assert model.log_dt.grad.item() > 0


def test_the_step_is_the_first_column_and_a_floor() -> None:
    class TwoColumns(ConstantStep):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            step = super().forward(features)[:, :1]
            return torch.cat([0 * step, step + 5], dim=1)

    config = config_of()
    _, dt, _, _ = attempt_single_step(TwoColumns(0.1), kepler(0.5), config, ModelAdapter(config))
    assert dt.item() == pytest.approx(1e-12)


def test_the_gate_passes_only_what_is_under_the_threshold() -> None:
    before = torch.tensor([-1.0, -2.0], dtype=torch.float64)
    passed, error = check_energy_threshold(before, before * 1.0001, 2e-4)
    assert passed is True
    assert error.tolist() == pytest.approx([1e-4, 1e-4])
    passed, error = check_energy_threshold(before, torch.tensor([-1.0, -2.1]).double(), 2e-4)
    assert passed is False
    assert error.tolist() == pytest.approx([0.0, 0.05])


def test_an_error_at_the_threshold_does_not_pass() -> None:
    passed, _ = check_energy_threshold(torch.tensor(-1.0), torch.tensor(-1.5), 0.5)
    assert passed is False


@pytest.mark.parametrize("after", [math.nan, math.inf])
def test_an_energy_that_is_not_finite_does_not_pass(after: float) -> None:
    passed, _ = check_energy_threshold(torch.tensor([-1.0]), torch.tensor([after]), 1e6)
    assert passed is False


def test_the_single_step_loss_is_the_band_loss_of_failing_samples() -> None:
    config = config_of(E_lower=1e-6, E_upper=1e-4)
    before = torch.tensor([-1.0], dtype=torch.float64)
    loss = compute_single_step_loss(before, before * (1 + 1e-2), config)
    assert loss.item() == pytest.approx(math.log(1e-2 / 1e-4) ** 2, rel=1e-6)
    inside = compute_single_step_loss(before, before * (1 + 1e-5), config)
    assert inside.item() == pytest.approx(0.0, abs=1e-9)


def test_a_step_that_passes_is_accepted_without_training() -> None:
    model, config = ConstantStep(0.01), config_of()
    after, dt, metrics = collect_trajectory_step(
        model, kepler(0.5), adam(model), config, ModelAdapter(config)
    )
    assert dt == pytest.approx(0.01)
    assert isinstance(dt, float)
    assert metrics["retrain_iterations"] == 0
    assert metrics["reject_count"] == 0
    expected = relative_error(kepler(0.5), dt).item()
    assert metrics["final_energy_error"] == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(after.position, advanced(kepler(0.5), dt).position)
    assert model.dt == pytest.approx(0.01)


def test_a_step_that_fails_is_trained_on_until_it_passes() -> None:
    model, config = ConstantStep(0.5), config_of()
    optimizer, updates = adam(model), []
    optimizer.register_step_post_hook(lambda *_: updates.append(1))
    _, dt, metrics = collect_trajectory_step(
        model, kepler(0.5), optimizer, config, ModelAdapter(config)
    )
    assert metrics["retrain_iterations"] == len(updates) > 0
    assert metrics["reject_count"] == len(updates)
    assert metrics["final_energy_error"] < config.energy_threshold
    assert relative_error(kepler(0.5), dt).item() < config.energy_threshold
    assert dt == pytest.approx(model.dt)


def test_a_step_that_needs_long_training_is_warned_about() -> None:
    model, config = ConstantStep(0.5), config_of()
    with pytest.warns(UserWarning, match="max_retrain_steps"):
        collect_trajectory_step(
            model, kepler(0.5), adam(model), config, ModelAdapter(config), max_retrain_warn=2
        )


def test_at_the_cap_training_stops_and_the_step_still_passes_the_gate() -> None:
    model, config = ConstantStep(0.5), config_of(max_retrain_steps=3)
    _, dt, metrics = collect_trajectory_step(
        model, kepler(0.5), frozen(model), config, ModelAdapter(config)
    )
    assert metrics["retrain_iterations"] == 3
    assert relative_error(kepler(0.5), dt).item() < config.energy_threshold
    assert metrics["final_energy_error"] < config.energy_threshold


def test_every_recorded_sample_passes_the_gate_as_recorded() -> None:
    model, config = ConstantStep(0.5), config_of(steps_per_epoch=6)
    particle = stack_particles([kepler(0.9), kepler(0.1), kepler(0.6)])
    trajectory, _ = collect_trajectory(model, particle, adam(model), config, ModelAdapter(config))
    assert len(trajectory) == 18
    for state, dt in trajectory:
        assert isinstance(state, ParticleTorch)
        assert isinstance(dt, float)
        assert state.position.shape == (2, 2)
        assert relative_error(state, dt).item() < config.energy_threshold


def test_the_recorded_state_is_the_one_that_was_tested() -> None:
    model, config = ConstantStep(0.01), config_of(steps_per_epoch=4)
    trajectory, _ = collect_trajectory(
        model, kepler(0.5), adam(model), config, ModelAdapter(config)
    )
    assert torch.equal(trajectory[0][0].position, kepler(0.5).position)
    for (state, dt), (following, _) in pairwise(trajectory):
        torch.testing.assert_close(following.position, advanced(state, dt).position)
        torch.testing.assert_close(following.velocity, advanced(state, dt).velocity)


def test_the_particle_given_is_not_changed() -> None:
    model, config, particle = ConstantStep(0.01), config_of(), kepler(0.5)
    collect_trajectory(model, particle, adam(model), config, ModelAdapter(config))
    assert torch.equal(particle.position, kepler(0.5).position)
    assert torch.equal(particle.velocity, kepler(0.5).velocity)


def test_a_rejected_orbit_does_not_hold_the_others_back() -> None:
    model, config = ConstantStep(0.05), config_of(steps_per_epoch=1)
    assert relative_error(kepler(0.0), 0.05).item() < config.energy_threshold
    assert relative_error(kepler(0.9), 0.05).item() > config.energy_threshold
    particle = stack_particles([kepler(0.0), kepler(0.9)])
    trajectory, metrics = collect_trajectory(
        model, particle, adam(model), config, ModelAdapter(config)
    )
    step = {state.position[0, 0].item(): dt for state, dt in trajectory}
    assert step[kepler(0.0).position[0, 0].item()] == pytest.approx(0.05, rel=1e-9)
    assert step[kepler(0.9).position[0, 0].item()] < 0.05
    assert metrics["max_retrain_iterations"] > 0
    assert metrics["mean_retrain_iterations"] == metrics["max_retrain_iterations"] / 2


def test_an_orbit_that_passes_is_not_counted_as_rejected() -> None:
    model, config = ConstantStep(0.05), config_of(max_retrain_steps=4)
    particle = stack_particles([kepler(0.0), kepler(0.9), kepler(0.1)])
    _, dt, metrics = collect_trajectory_step(
        model, particle, frozen(model), config, ModelAdapter(config)
    )
    assert isinstance(dt, torch.Tensor)
    assert dt.shape == (3,)
    assert dt[0].item() == dt[2].item() == pytest.approx(0.05)
    assert dt[1].item() < 0.05
    assert metrics["retrain_iterations"] == 4
    assert metrics["reject_count"] >= 4


@pytest.mark.parametrize("batch", [False, True])
def test_the_epoch_metrics_describe_what_was_collected(batch: bool) -> None:
    model, config = ConstantStep(0.01), config_of(steps_per_epoch=5)
    particle = stack_particles([kepler(0.5), kepler(0.3)]) if batch else kepler(0.5)
    trajectory, metrics = collect_trajectory(
        model, particle, adam(model), config, ModelAdapter(config)
    )
    count = 10 if batch else 5
    assert metrics.keys() >= EPOCH_METRICS
    assert metrics["total_steps"] == count
    assert metrics["trajectory_length"] == len(trajectory) == count
    assert metrics["warmup_discarded"] == 0
    assert metrics["mean_retrain_iterations"] == metrics["max_retrain_iterations"] == 0
    errors = [relative_error(state, dt).item() for state, dt in trajectory]
    assert metrics["mean_energy_error"] == pytest.approx(sum(errors) / count, rel=1e-5)
    assert metrics["min_energy_error"] == pytest.approx(min(errors), rel=1e-5, abs=1e-14)
    assert metrics["max_energy_error"] == pytest.approx(max(errors), rel=1e-5)
    for name in ("mean_dt", "min_dt", "max_dt"):
        assert metrics[name] == pytest.approx(0.01)


def test_retraining_is_counted_in_optimizer_steps() -> None:
    model, config = ConstantStep(0.5), config_of(steps_per_epoch=4)
    optimizer, updates = adam(model), []
    optimizer.register_step_post_hook(lambda *_: updates.append(1))
    _, metrics = collect_trajectory(model, kepler(0.5), optimizer, config, ModelAdapter(config))
    assert metrics["mean_retrain_iterations"] == pytest.approx(len(updates) / 4)
    assert 0 < metrics["max_retrain_iterations"] <= len(updates)


@pytest.mark.parametrize("batch", [False, True])
def test_warm_up_steps_fill_the_history_and_are_left_out(batch: bool) -> None:
    model, config = ConstantStep(0.01), config_of(steps_per_epoch=5, history_len=2)
    particle = stack_particles([kepler(0.5), kepler(0.3)]) if batch else kepler(0.5)
    history = HistoryBuffer(2, "basic")
    trajectory, metrics = collect_trajectory(
        model, particle, adam(model), config, ModelAdapter(config), history
    )
    orbits = 2 if batch else 1
    assert len(trajectory) == metrics["trajectory_length"] == 3 * orbits
    assert metrics["warmup_discarded"] == 2 * orbits
    assert metrics["total_steps"] == 5 * orbits
    assert len(history) == 2
    third = advanced(advanced(kepler(0.5), 0.01), 0.01)
    torch.testing.assert_close(trajectory[0][0].position, third.position, rtol=1e-9, atol=1e-11)


def test_an_epoch_that_is_all_warm_up_gives_an_empty_trajectory() -> None:
    model, config = ConstantStep(0.01), config_of(steps_per_epoch=2, history_len=3)
    with pytest.warns(UserWarning, match="empty"):
        trajectory, metrics = collect_trajectory(
            model, kepler(0.5), adam(model), config, ModelAdapter(config)
        )
    assert len(trajectory) == 0
    assert metrics["trajectory_length"] == 0
    assert metrics["warmup_discarded"] == metrics["total_steps"] == 2


def test_without_a_history_of_the_caller_the_adapter_s_own_is_filled() -> None:
    model, config = ConstantStep(0.01), config_of(history_len=2)
    adapter = ModelAdapter(config)
    particle = initial_particle(config, seed=0)
    for _ in range(2):
        particle, _, _ = collect_trajectory_step(model, particle, adam(model), config, adapter)
    assert adapter.history_buffer is not None
    assert len(adapter.history_buffer) == 2


def test_the_history_of_a_sample_ends_before_its_own_state() -> None:
    model, config = ConstantStep(0.01), config_of(steps_per_epoch=4, history_len=2)
    adapter, seen = ModelAdapter(config), HistoryBuffer(2, "basic")
    collect_trajectory(model, kepler(0.5), adam(model), config, adapter, HistoryBuffer(2, "basic"))
    state = kepler(0.5)
    for row in model.seen[:4]:
        expected = adapter.build_feature_tensor(state, history_buffer=seen)
        torch.testing.assert_close(row.reshape(-1), expected.reshape(-1))
        assert not torch.allclose(row.reshape(-1)[11:22], row.reshape(-1)[22:])
        seen.push(state)
        state = advanced(state, 0.01)


@pytest.mark.parametrize("fields", [{"max_retrain_steps": 1}, {"history_len": 2}, {"n_steps": 3}])
def test_orbits_together_give_what_each_gives_alone(fields: dict[str, Any]) -> None:
    base = {"hidden_dims": [8], "dropout": 0.2, "steps_per_epoch": 5, "num_orbits": 4}
    if "history_len" in fields:
        base["feature_type"] = "delta_mag"
    config = config_of(**(base | fields))
    torch.manual_seed(3)
    particle, adapter = initial_particle(config, seed=3), ModelAdapter(config)
    inputs = adapter.input_dim_from_state(particle)
    model = build_model(config.model_copy(update={"dt_head": "softplus"}), inputs).double()
    with (
        torch.no_grad()
    ):  # softplus of this bias is a step that passes for some and fails for others
        final = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
        final.bias.fill_(-3.5)
    capped = config.model_copy(update={"max_retrain_steps": 1})

    def collected(given: ParticleTorch) -> list[tuple[torch.Tensor, float]]:
        length = config.history_len
        history = HistoryBuffer(length, config.feature_type) if length else None
        trajectory, _ = collect_trajectory(model, given, frozen(model), capped, adapter, history)
        return [(state.position, dt) for state, dt in trajectory]

    together = collected(particle)
    steps = len(together) // 4
    for orbit in range(4):
        alone = collected(particle.select(orbit))
        assert len(alone) == steps
        for step in range(steps):
            position, dt = together[4 * step + orbit]
            torch.testing.assert_close(position, alone[step][0], rtol=1e-10, atol=1e-12)
            assert dt == pytest.approx(alone[step][1], rel=1e-10)


def test_energy_is_checked_after_each_of_n_steps() -> None:
    model, config = ConstantStep(0.02), config_of(n_steps=2, steps_per_epoch=1)
    trajectory, metrics = collect_trajectory(
        model, kepler(0.6), adam(model), config, ModelAdapter(config)
    )
    state, dt = trajectory[0]
    first = advanced(state, dt)
    energy = state.total_energy_batch()
    second = advanced(first, dt)
    errors = [((s.total_energy_batch() - energy) / energy).abs().item() for s in (first, second)]
    assert max(errors) < config.energy_threshold
    assert metrics["max_energy_error"] == pytest.approx(max(errors), rel=1e-5)


def test_an_orbit_stops_collecting_at_its_own_period() -> None:
    config = config_of(
        stop_at_period=True,
        steps_per_epoch=300,
        num_orbits=2,
        e_min=0.1,
        e_max=0.2,
        a_min=0.5,
        a_max=2.0,
    )
    particle = initial_particle(config, seed=1)
    assert particle.period is not None
    model = ConstantStep(0.02)
    trajectory, _ = collect_trajectory(model, particle, adam(model), config, ModelAdapter(config))
    covered = sum(dt for _, dt in trajectory)
    assert len(trajectory) < 600
    assert 0 <= covered - particle.period.sum().item() < 2 * 0.02


def test_dropout_does_not_make_the_gate_roll_dice() -> None:
    config = config_of(hidden_dims=[16, 16], dropout=0.5)
    adapter, particle = ModelAdapter(config), kepler(0.5)
    model = build_model(config, adapter.input_dim_from_state(particle)).double()
    model.train()
    capped = config.model_copy(update={"max_retrain_steps": 1})
    steps = {
        collect_trajectory_step(model, particle, frozen(model), capped, adapter)[1]
        for _ in range(6)
    }
    assert len(steps) == 1
    assert model.training


def test_a_state_that_no_step_can_pass_ends_the_run_with_an_error() -> None:
    at_rest = make_particle([[1.0, 1e300, 0.0, 0.0, 0.0], [1.0, -1e300, 0.0, 0.0, 0.0]])
    model, config = ConstantStep(0.1), config_of(max_retrain_steps=2)
    with pytest.raises((StepImpossible, TrainingDiverged)):
        collect_trajectory(model, at_rest, adam(model), config, ModelAdapter(config))


def test_weights_that_are_not_finite_end_the_run() -> None:
    model, config = ConstantStep(0.1), config_of()
    with torch.no_grad():
        model.log_dt.fill_(math.nan)
    with pytest.raises(TrainingDiverged):
        collect_trajectory(model, kepler(0.5), adam(model), config, ModelAdapter(config))


def test_a_trajectory_is_a_sequence_of_pairs() -> None:
    model, config = ConstantStep(0.01), config_of(steps_per_epoch=4)
    trajectory, _ = collect_trajectory(
        model, kepler(0.5), adam(model), config, ModelAdapter(config)
    )
    pairs = list(trajectory)
    assert len(pairs) == len(trajectory) == 4
    assert torch.equal(trajectory[-1][0].position, pairs[3][0].position)
    assert len(trajectory[1:3]) == 2
    with pytest.raises(IndexError):
        trajectory[4]


def test_what_is_recorded_holds_no_graph() -> None:
    model, config = ConstantStep(0.5), config_of()
    trajectory, _ = collect_trajectory(
        model, kepler(0.5), adam(model), config, ModelAdapter(config)
    )
    for state, _ in trajectory:
        assert not state.position.requires_grad
        assert not state.velocity.requires_grad


@pytest.mark.parametrize("loss", ["band", "band_failing"])
def test_a_gate_below_the_band_is_reached(loss: str) -> None:
    config = config_of(loss=loss, energy_threshold=1e-6, steps_per_epoch=1)
    particle, model = kepler(0.5), ConstantStep(0.02)
    assert 1e-6 < float(relative_error(particle, model.dt)) < config.E_upper
    collect_trajectory(model, particle, adam(model, 0.03), config, ModelAdapter(config))
    assert float(relative_error(particle, model.dt)) < 1e-6
    assert any("the band is moved down" in text for text in config.warnings())


def test_a_step_that_blows_up_leaves_the_gradients_of_the_loss_finite() -> None:
    model, config = ConstantStep(1.0), config_of()
    batch = stack_particles([kepler(0.5), kepler(0.5, semi_major=1e300)])
    with torch.no_grad():
        model.log_dt.fill_(700.0)
    adapter = ModelAdapter(config)
    _, _, before, after = attempt_single_step(model, batch, config, adapter)
    assert not after.isfinite().all()
    compute_single_step_loss(before, after, config).backward()
    assert model.log_dt.grad is not None
    assert model.log_dt.grad.isfinite()


@pytest.mark.slow
def test_no_step_at_all_passes_no_gate() -> None:
    config = config_of(max_retrain_steps=1, energy_threshold=1e-15, loss="band")
    collection = Collection(
        TrainingSetup(model := ConstantStep(0.01), adam(model), config, ModelAdapter(config)),
        kepler(0.9),
        steps=1,
    )
    collection.threshold = torch.zeros(1, dtype=torch.float64)
    with pytest.raises(StepImpossible):
        collection.run(NoWatcher())


def test_thresholds_go_with_the_states() -> None:
    fields = {"energy_threshold": 1e-6, "energy_threshold_max": 1e-2, "num_orbits": 3}
    config = Config.model_validate({**fields, "device": "cpu", "loss": "band"})
    model, adapter = ConstantStep(1e-4), ModelAdapter(config)
    particle = initial_particle(config, seed=1)
    assert particle.energy_threshold is not None
    trajectory, _ = collect_trajectory(model, particle, frozen(model), config, adapter)
    found = [pair.energy_threshold for pair, _ in trajectory]
    assert torch.equal(torch.stack([t for t in found if t is not None]), particle.energy_threshold)
    again = Trajectory.of(list(trajectory), adapter)
    torch.testing.assert_close(again.features, trajectory.features)
    after, *_ = attempt_single_step(model, particle, config, adapter)
    assert after.energy_threshold is particle.energy_threshold
