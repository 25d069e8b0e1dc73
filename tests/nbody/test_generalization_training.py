"""Part 2: random minibatches of the trajectory, until every sample passes."""

import inspect
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn

from nbody.config import Config
from nbody.generalization_training import (
    evaluate_minibatch,
    generalize_on_trajectory,
    sample_minibatch,
)
from nbody.history_buffer import HistoryBuffer
from nbody.model_adapter import ModelAdapter
from nbody.particle import ParticleTorch, make_particle, stack_particles
from nbody.training.trajectory import Trajectory
from nbody.trajectory_collection import collect_trajectory
from tests.nbody.fakes import ConstantStep

Pairs = Sequence[tuple[ParticleTorch, float]]


def kepler(eccentricity: float) -> ParticleTorch:
    """Two unit masses at pericentre, semi-major axis 1."""
    r = (1 - eccentricity) / 2
    v = math.sqrt(2 * (1 + eccentricity) / (1 - eccentricity)) / 2
    return make_particle([[1.0, r, 0.0, 0.0, v], [1.0, -r, 0.0, 0.0, -v]])


def config_of(**fields: object) -> Config:
    given = {
        "feature_type": "basic",
        "dt_head": "softplus",
        "loss": "band_failing",
        "device": "cpu",
        "steps_per_epoch": 4,
        "replay_steps": 200,
    }
    return Config.model_validate(given | fields)


def adam(model: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr)


def frozen(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.0)


def relative_error(particle: ParticleTorch, dt: float) -> float:
    state = particle.clone_detached()
    before = state.total_energy_batch()
    state.update_dt(torch.tensor(dt, dtype=torch.float64))
    state.evolve_batch()
    return ((state.total_energy_batch() - before) / before).abs().item()


def collected(config: Config, history: HistoryBuffer | None = None) -> Trajectory:
    """A trajectory of two orbits, gathered with small steps that all pass."""
    model = ConstantStep(0.001)
    particle = stack_particles([kepler(0.5), kepler(0.8)])
    trajectory, _ = collect_trajectory(
        model, particle, frozen(model), config, ModelAdapter(config), history
    )
    return trajectory


def by_hand() -> list[tuple[ParticleTorch, float]]:
    return [(kepler(0.1), 0.01), (kepler(0.5), 0.01), (kepler(0.9), 0.001)]


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (sample_minibatch, "trajectory batch_size"),
        (evaluate_minibatch, "model minibatch config adapter history_buffer"),
        (generalize_on_trajectory, "model trajectory optimizer config adapter history_buffer"),
    ],
)
def test_the_signatures_are_those_of_the_original(
    function: Callable[..., object], parameters: str
) -> None:
    signature = inspect.signature(function).parameters
    positional = [n for n, p in signature.items() if p.kind == p.POSITIONAL_OR_KEYWORD]
    assert positional == parameters.split()


def test_a_minibatch_repeats_no_sample() -> None:
    trajectory = [(kepler(0.01 * k), 0.001 * k) for k in range(1, 21)]
    drawn = sample_minibatch(trajectory, 12)
    assert len({dt for _, dt in drawn}) == len(drawn) == 12


@pytest.mark.parametrize("kind", ["pairs", "trajectory"])
def test_a_minibatch_is_no_larger_than_the_trajectory(kind: str) -> None:
    trajectory: Pairs = by_hand() if kind == "pairs" else collected(config_of())
    drawn = sample_minibatch(trajectory, 512)
    assert len(drawn) == len(trajectory)
    assert sorted(dt for _, dt in drawn) == sorted(dt for _, dt in trajectory)


def test_a_minibatch_is_random_and_follows_the_seed() -> None:
    trajectory = [(kepler(0.01 * k), 0.001 * k) for k in range(1, 41)]

    def draw(seed: int) -> list[float]:
        torch.manual_seed(seed)
        return [dt for _, dt in sample_minibatch(trajectory, 10)]

    assert len({tuple(sorted(draw(seed))) for seed in range(8)}) > 1


@pytest.mark.parametrize("kind", ["pairs", "trajectory"])
def test_a_minibatch_is_judged_sample_by_sample(kind: str) -> None:
    config = config_of()
    minibatch: Pairs = by_hand() if kind == "pairs" else collected(config)
    model = ConstantStep(0.02)
    all_pass, losses, errors, metrics = evaluate_minibatch(
        model, minibatch, config, ModelAdapter(config)
    )
    expected = [relative_error(state, 0.02) for state, _ in minibatch]
    failing = sum(error >= config.energy_threshold for error in expected)
    assert 0 < failing < len(minibatch)
    assert all_pass is False
    assert list(errors) == pytest.approx(expected, rel=1e-5)
    assert all(isinstance(error, float) for error in errors)
    assert len(losses) == failing
    torch.stack(losses).mean().backward()
    assert model.log_dt.grad is not None
    assert model.log_dt.grad.item() > 0
    assert metrics["pass_count"] == len(minibatch) - failing
    assert metrics["fail_count"] == failing
    assert metrics["mean_rel_dE"] == pytest.approx(sum(expected) / len(expected), rel=1e-5)
    assert metrics["max_rel_dE"] == pytest.approx(max(expected), rel=1e-5)


@pytest.mark.parametrize("kind", ["pairs", "trajectory"])
def test_a_minibatch_whose_samples_pass_has_no_losses(kind: str) -> None:
    config = config_of()
    minibatch: Pairs = by_hand() if kind == "pairs" else collected(config)
    all_pass, losses, errors, _ = evaluate_minibatch(
        ConstantStep(0.0005), minibatch, config, ModelAdapter(config)
    )
    assert all_pass is True
    assert losses == []
    assert max(errors) < config.energy_threshold


def test_training_goes_on_until_every_sample_passes() -> None:
    config, model = config_of(), ConstantStep(0.1)
    trajectory = collected(config)
    converged, iterations, metrics = generalize_on_trajectory(
        model, trajectory, adam(model), config, ModelAdapter(config)
    )
    assert converged is True
    assert 0 < iterations < config.replay_steps
    assert metrics["final_pass_rate"] == 1.0
    errors = [relative_error(state, model.dt) for state, _ in trajectory]
    assert max(errors) < config.energy_threshold
    assert metrics["max_rel_dE"] == pytest.approx(max(errors), rel=1e-5)
    assert metrics["mean_rel_dE"] == pytest.approx(sum(errors) / len(errors), rel=1e-5)


def test_a_hand_made_list_of_pairs_is_trained_on_too() -> None:
    config, model = config_of(), ConstantStep(0.1)
    converged, iterations, _ = generalize_on_trajectory(
        model, by_hand(), adam(model), config, ModelAdapter(config)
    )
    assert converged is True
    assert iterations > 0
    assert max(relative_error(state, model.dt) for state, _ in by_hand()) < 2e-4


def test_iterations_are_optimizer_steps() -> None:
    config, model = config_of(), ConstantStep(0.1)
    optimizer, updates = adam(model), []
    optimizer.register_step_post_hook(lambda *_: updates.append(1))
    _, iterations, _ = generalize_on_trajectory(
        model, collected(config), optimizer, config, ModelAdapter(config)
    )
    assert iterations == len(updates)


def test_samples_that_all_pass_need_no_iteration() -> None:
    config, model = config_of(), ConstantStep(0.0005)
    converged, iterations, metrics = generalize_on_trajectory(
        model, collected(config), adam(model), config, ModelAdapter(config)
    )
    assert (converged, iterations) == (True, 0)
    assert metrics["final_pass_rate"] == 1.0
    assert "skipped" not in metrics or metrics["skipped"] is False


@pytest.mark.parametrize("loss", ["band_failing", "band", "oracle"])
def test_training_that_never_passes_ends_at_replay_steps(loss: str) -> None:
    config, model = config_of(replay_steps=7, loss=loss), ConstantStep(0.1)
    converged, iterations, metrics = generalize_on_trajectory(
        model, collected(config), frozen(model), config, ModelAdapter(config)
    )
    assert converged is False
    assert iterations == 7
    assert metrics["final_pass_rate"] < 1
    assert metrics["max_rel_dE"] >= config.energy_threshold


def test_no_replay_steps_means_a_verdict_without_training() -> None:
    config, model = config_of(replay_steps=0), ConstantStep(0.1)
    converged, iterations, metrics = generalize_on_trajectory(
        model, collected(config), adam(model), config, ModelAdapter(config)
    )
    assert (converged, iterations) == (False, 0)
    assert metrics["final_pass_rate"] < 1
    assert model.dt == pytest.approx(0.1)


def test_converged_is_a_full_pass_with_the_final_weights() -> None:
    """Minibatches of one: a lucky draw passes long before the hardest sample does."""
    config, model = config_of(replay_batch_size=1, replay_steps=2000), ConstantStep(0.02)
    easy = [(kepler(0.01), 0.01)] * 30
    trajectory = [*easy, (kepler(0.9), 0.001)]
    converged, iterations, metrics = generalize_on_trajectory(
        model, trajectory, adam(model, 0.3), config, ModelAdapter(config)
    )
    assert relative_error(kepler(0.01), 0.02) < config.energy_threshold
    assert converged is True
    assert iterations > 0
    assert relative_error(kepler(0.9), model.dt) < config.energy_threshold
    assert metrics["final_pass_rate"] == 1.0


def test_the_trajectory_is_never_changed() -> None:
    config, model = config_of(loss="oracle", replay_steps=5), ConstantStep(0.1)
    trajectory = collected(config)
    before = [(s.position.clone(), s.velocity.clone(), s.dt.clone(), dt) for s, dt in trajectory]
    mine = by_hand()
    for samples in (trajectory, mine):
        generalize_on_trajectory(model, samples, adam(model), config, ModelAdapter(config))
    assert len(trajectory) == len(before)
    for (state, dt), (position, velocity, last_dt, step) in zip(trajectory, before, strict=True):
        assert torch.equal(state.position, position)
        assert torch.equal(state.velocity, velocity)
        assert torch.equal(state.dt, last_dt)
        assert dt == step
    for (state, dt), (fresh, step) in zip(mine, by_hand(), strict=True):
        assert torch.equal(state.position, fresh.position)
        assert torch.equal(state.velocity, fresh.velocity)
        assert dt == step


def test_a_trajectory_below_min_replay_size_is_skipped_and_says_so() -> None:
    config, model = config_of(min_replay_size=9), ConstantStep(0.1)
    _, iterations, metrics = generalize_on_trajectory(
        model, collected(config), adam(model), config, ModelAdapter(config)
    )
    assert iterations == 0
    assert metrics["skipped"] is True
    assert model.dt == pytest.approx(0.1)


def test_a_trajectory_of_exactly_min_replay_size_is_trained_on() -> None:
    config, model = config_of(min_replay_size=8), ConstantStep(0.1)
    _, iterations, metrics = generalize_on_trajectory(
        model, collected(config), adam(model), config, ModelAdapter(config)
    )
    assert iterations > 0
    assert not metrics.get("skipped")


def test_an_empty_trajectory_has_converged_with_a_warning() -> None:
    config, model = config_of(), ConstantStep(0.1)
    with pytest.warns(UserWarning, match="empty"):
        converged, iterations, metrics = generalize_on_trajectory(
            model, [], adam(model), config, ModelAdapter(config)
        )
    assert (converged, iterations) == (True, 0)
    assert metrics.keys() >= {"mean_rel_dE", "max_rel_dE", "final_pass_rate"}


def test_an_empty_trajectory_is_also_said_to_be_skipped() -> None:
    config, model = config_of(), ConstantStep(0.1)
    with pytest.warns(UserWarning, match="empty"):
        _, _, metrics = generalize_on_trajectory(
            model, [], adam(model), config, ModelAdapter(config)
        )
    assert metrics["skipped"] is True


@pytest.mark.parametrize("feature_type", ["basic", "delta_mag"])
def test_each_sample_is_shown_with_its_own_history(feature_type: str) -> None:
    config = config_of(history_len=2, feature_type=feature_type, steps_per_epoch=5)
    history, adapter, collector = (
        HistoryBuffer(2, config.feature_type),
        ModelAdapter(config),
        ConstantStep(0.01),
    )
    trajectory, _ = collect_trajectory(
        collector, kepler(0.5), frozen(collector), config, adapter, history
    )
    shown_in_part_1 = torch.cat(collector.seen)[2:]
    judge = ConstantStep(0.0001)
    generalize_on_trajectory(judge, trajectory, frozen(judge), config, adapter, history)
    for row in torch.cat(judge.seen):
        assert (row == shown_in_part_1).all(dim=1).any()


def test_the_history_is_the_same_after_part_2() -> None:
    config = config_of(history_len=2)
    history, model = HistoryBuffer(2, "basic"), ConstantStep(0.1)
    trajectory = collected(config, history)
    adapter, probe = ModelAdapter(config), stack_particles([kepler(0.3), kepler(0.2)])
    before = adapter.build_feature_tensor(probe, history_buffer=history)
    generalize_on_trajectory(model, trajectory, adam(model), config, adapter, history)
    assert torch.equal(adapter.build_feature_tensor(probe, history_buffer=history), before)


@pytest.mark.parametrize("loss", ["band", "oracle"])
def test_tiny_steps_are_pushed_up_though_they_all_pass(loss: str) -> None:
    config, model = config_of(loss=loss, replay_steps=20), ConstantStep(1e-5)
    converged, iterations, _ = generalize_on_trajectory(
        model, collected(config), adam(model), config, ModelAdapter(config)
    )
    assert iterations > 0
    assert model.dt > 2e-5
    assert converged is True


def test_the_minibatch_size_is_honoured() -> None:
    config, model = config_of(replay_batch_size=3, replay_steps=4), ConstantStep(0.1)
    generalize_on_trajectory(model, collected(config), frozen(model), config, ModelAdapter(config))
    assert 3 in {len(rows) for rows in model.seen}
