"""One epoch, the loop over epochs, and what survives an interruption."""

import inspect
import json
import math
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nbody.checkpoint import load_checkpoint, save_checkpoint
from nbody.config import Config
from nbody.errors import CheckpointUnreadable, TrainingDiverged
from nbody.history_buffer import HistoryBuffer
from nbody.initial_conditions.from_config import initial_particle
from nbody.model import build_model
from nbody.model_adapter import ModelAdapter
from nbody.particle import ParticleTorch, make_particle
from nbody.training.run import TrainingRun
from nbody.unified_training import epochs, run_two_phase_training, train_epoch_two_phase
from tests.nbody.fakes import ConstantStep

METRIC_NAMES = {
    "epoch",
    "epoch_time",
    "part1/trajectory_length",
    "part1/mean_retrain_iterations",
    "part1/max_retrain_iterations",
    "part1/mean_energy_error",
    "part1/min_energy_error",
    "part1/max_energy_error",
    "part1/mean_retrain_loss",
    "part2/efficiency",
    "part1/warmup_discarded",
    "part1/acceptance_rate",
    "part2/converged",
    "part2/iterations",
    "part2/final_pass_rate",
    "part2/mean_rel_dE",
    "part2/max_rel_dE",
}


class Log:
    """A W&B run as far as training knows one."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def log(self, data: dict[str, Any]) -> None:
        self.rows.append(data)


def config_of(**fields: object) -> Config:
    given = {
        "num_orbits": 2,
        "steps_per_epoch": 3,
        "epochs": 4,
        "replay_steps": 3,
        "replay_batch_size": 4,
        "hidden_dims": [8],
        "dropout": 0.0,
        "lr": 1e-2,
        "device": "cpu",
        "seed": 5,
    }
    return Config.model_validate(given | fields)


def parts(config: Config) -> dict[str, Any]:
    """What a user of the original hands to every training function."""
    torch.manual_seed(config.seed or 0)
    adapter, particle = ModelAdapter(config), initial_particle(config, seed=config.seed or 0)
    model = build_model(config, adapter.input_dim_from_state(particle)).double()
    return {
        "model": model,
        "particle": particle,
        "optimizer": torch.optim.Adam(model.parameters(), lr=config.lr),
        "config": config,
        "adapter": adapter,
    }


def kepler() -> ParticleTorch:
    """Two unit masses at pericentre, e = 0.5, a = 1."""
    v = math.sqrt(6) / 2
    return make_particle([[1.0, 0.25, 0.0, 0.0, v], [1.0, -0.25, 0.0, 0.0, -v]])


def constant(config: Config, dt: float = 0.005, lr: float = 0.0) -> dict[str, Any]:
    model = ConstantStep(dt)
    return {
        "model": model,
        "particle": kepler(),
        "optimizer": torch.optim.SGD(model.parameters(), lr=lr),
        "config": config,
        "adapter": ModelAdapter(config),
    }


def weights_of(model: nn.Module) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


def equal(some: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "epoch_time"} for row in rows]


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (train_epoch_two_phase, "model particle optimizer config adapter history_buffer"),
        (
            run_two_phase_training,
            (
                "model particle optimizer config adapter history_buffer save_dir wandb_run "
                "checkpoint_interval"
            ),
        ),
    ],
)
def test_the_signatures_are_those_of_the_seed(
    function: Callable[..., object], parameters: str
) -> None:
    signature = inspect.signature(function).parameters
    positional = [n for n, p in signature.items() if p.kind == p.POSITIONAL_OR_KEYWORD]
    assert positional[: len(parameters.split())] == parameters.split()


def test_an_epoch_is_part_1_and_then_part_2() -> None:
    result = train_epoch_two_phase(**parts(config_of()))
    assert result["trajectory_metrics"]["trajectory_length"] == 6
    assert result["generalization_metrics"].keys() >= {
        "mean_rel_dE",
        "max_rel_dE",
        "final_pass_rate",
    }
    assert isinstance(result["converged"], bool)
    assert isinstance(result["part2_iterations"], int)
    assert isinstance(result["epoch_time"], float)
    assert result["epoch_time"] > 0


def test_an_epoch_leaves_the_particle_where_it_was() -> None:
    given = parts(config_of())
    before = given["particle"].clone_detached()
    train_epoch_two_phase(**given)
    assert torch.equal(given["particle"].position, before.position)
    assert torch.equal(given["particle"].velocity, before.velocity)


def test_every_epoch_is_logged_under_exactly_the_agreed_names() -> None:
    log = Log()
    run_two_phase_training(**parts(config_of()), wandb_run=log)
    assert [row["epoch"] for row in log.rows] == [0, 1, 2, 3]
    for row in log.rows:
        assert set(row) == METRIC_NAMES
        assert row["part2/converged"] in (0, 1)
        retrains = row["part1/mean_retrain_iterations"]
        assert row["part1/acceptance_rate"] == pytest.approx(1 / (1 + retrains))
        assert row["part1/trajectory_length"] == 6


def test_the_generator_reports_under_the_same_names() -> None:
    run = TrainingRun.start(config_of())
    rows = [metrics.named() for metrics in epochs(run)]
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert all(set(row) == METRIC_NAMES for row in rows)


def test_the_summary_of_a_run_has_the_agreed_keys() -> None:
    result = run_two_phase_training(**parts(config_of()))
    assert result.keys() >= {
        "epochs_completed",
        "total_time",
        "convergence_rate",
        "final_metrics",
        "results",
    }
    assert result["epochs_completed"] == 4
    assert result["total_time"] > 0
    assert 0 <= result["convergence_rate"] <= 1
    assert result["final_metrics"]["trajectory_metrics"]["trajectory_length"] == 6


@pytest.mark.parametrize(("debug", "kept"), [(True, 4), (False, 0)])
def test_results_of_epochs_are_kept_only_for_debugging(debug: bool, kept: int) -> None:
    assert len(run_two_phase_training(**parts(config_of(debug=debug)))["results"]) == kept


@pytest.mark.parametrize(("dt", "rate"), [(0.005, 1.0), (0.05, 0.0)])
def test_the_convergence_rate_is_the_share_of_epochs_that_converged(dt: float, rate: float) -> None:
    fields = {"feature_type": "basic", "dt_head": "softplus", "loss": "band_failing"}
    given = constant(config_of(max_retrain_steps=1, **fields), dt=dt)
    assert run_two_phase_training(**given)["convergence_rate"] == rate


@pytest.mark.slow
def test_checkpoints_are_written_every_tenth_epoch_and_after_the_last(tmp_path: Path) -> None:
    config = config_of(epochs=13, replay_steps=1, steps_per_epoch=1)
    run_two_phase_training(**parts(config), save_dir=tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["model_epoch_0000.pt", "model_epoch_0010.pt", "model_epoch_0012.pt"]
    assert load_checkpoint(tmp_path / "model_epoch_0010.pt")["epoch"] == 10


def test_the_interval_between_checkpoints_can_be_chosen(tmp_path: Path) -> None:
    run_two_phase_training(**parts(config_of()), save_dir=str(tmp_path), checkpoint_interval=2)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["model_epoch_0000.pt", "model_epoch_0002.pt", "model_epoch_0003.pt"]


def test_nothing_is_written_where_no_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_two_phase_training(**parts(config_of(save_name="run")))
    assert list(tmp_path.iterdir()) == []


def test_the_last_checkpoint_holds_the_trained_weights(tmp_path: Path) -> None:
    given = parts(config_of())
    run_two_phase_training(**given, save_dir=tmp_path)
    content = load_checkpoint(tmp_path / "model_epoch_0003.pt")
    assert equal(list(content["model_state_dict"].values()), weights_of(given["model"]))
    assert content["optimizer_state_dict"]["state"]
    assert content["config"]["num_orbits"] == 2


def test_training_changes_the_weights_of_the_model_that_was_given() -> None:
    given = parts(config_of())
    before = weights_of(given["model"])
    run_two_phase_training(**given)
    assert not equal(before, weights_of(given["model"]))


def collected_rows(model: ConstantStep) -> list[torch.Tensor]:
    """What the network saw in Part 1 of one system; Part 2 judges several samples at once."""
    return [rows[0] for rows in model.seen if len(rows) == 1]


def inputs_of_three_epochs(reset: bool) -> list[torch.Tensor]:
    """The three inputs that the network sees in Part 1 of each of three epochs."""
    config = config_of(
        feature_type="basic",
        dt_head="softplus",
        loss="band_failing",
        epochs=3,
        min_replay_size=100,
        reset_particle_each_epoch=reset,
    )
    given = constant(config)
    run_two_phase_training(**given)
    return collected_rows(given["model"])


def test_every_epoch_starts_from_the_initial_condition_by_default() -> None:
    seen = inputs_of_three_epochs(reset=True)
    assert len(seen) == 9
    assert torch.equal(seen[0], seen[3])
    assert torch.equal(seen[0], seen[6])


def test_an_epoch_can_go_on_from_the_evolved_state() -> None:
    seen = inputs_of_three_epochs(reset=False)
    assert len({tuple(row.tolist()) for row in seen}) == 9


def test_the_same_history_serves_all_epochs() -> None:
    """Only the first epoch of all sees padding."""
    config = config_of(
        feature_type="basic",
        dt_head="softplus",
        loss="band_failing",
        history_len=1,
        steps_per_epoch=3,
        epochs=2,
        min_replay_size=100,
    )
    given, history = constant(config), HistoryBuffer(1, "basic")
    run_two_phase_training(**given, history_buffer=history)
    padded = [bool((row[:11] == 0).all()) for row in collected_rows(given["model"])]
    assert padded == [True, False, False, False, False, False]
    assert len(history) == 1


def test_the_warm_up_of_every_epoch_is_discarded() -> None:
    log = Log()
    config = config_of(history_len=1, steps_per_epoch=3)
    run_two_phase_training(**parts(config), wandb_run=log)
    assert {row["part1/warmup_discarded"] for row in log.rows} == {2}
    assert {row["part1/trajectory_length"] for row in log.rows} == {4}


def test_an_epoch_with_an_empty_trajectory_is_warned_about_and_counts() -> None:
    log = Log()
    config = config_of(history_len=3, steps_per_epoch=3, epochs=2)
    with pytest.warns(UserWarning, match="empty"):
        result = run_two_phase_training(**parts(config), wandb_run=log)
    assert result["epochs_completed"] == 2
    assert [row["part1/trajectory_length"] for row in log.rows] == [0, 0]
    assert [row["part2/iterations"] for row in log.rows] == [0, 0]


FEATURES_OF_A_RUN: list[dict[str, Any]] = [
    {},
    {"dropout": 0.3, "hidden_dims": [8, 8]},
    {"history_len": 2, "steps_per_epoch": 5},
    {"history_len": 2, "feature_type": "delta_mag", "dt_head": "softplus", "steps_per_epoch": 4},
    {"resample_each_epoch": True, "lr_schedule": "cosine"},
    {"reset_particle_each_epoch": False, "optimizer": "sgd"},
    {"feature_type": "rich", "dt_head": "softplus", "normalize_inputs": True, "loss": "band"},
    {
        "dropout": 0.2,
        "history_len": 1,
        "resample_each_epoch": True,
        "lr_schedule": "cosine",
        "optimizer": "adamw",
    },
]


@pytest.mark.slow
@pytest.mark.parametrize("fields", FEATURES_OF_A_RUN)
def test_a_resumed_run_ends_bit_for_bit_as_an_uninterrupted_one(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    given = {"max_retrain_steps": 20, "epochs": 5} | fields
    config = config_of(**given)
    whole = TrainingRun.start(config)
    rows = [metrics.named() for metrics in epochs(whole)]

    first = TrainingRun.start(config)
    before = []
    for metrics in epochs(first):
        before.append(metrics.named())
        if metrics.epoch == 1:
            break
    path = first.save(tmp_path / "m.pt")
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)
    resumed = TrainingRun.resume(config, path)
    assert resumed.next_epoch == 2
    after = [metrics.named() for metrics in epochs(resumed)]

    assert [row["epoch"] for row in after] == [2, 3, 4]
    assert timeless(before + after) == timeless(rows)
    assert equal(weights_of(resumed.model), weights_of(whole.model))


@pytest.mark.slow
def test_a_run_can_be_resumed_more_than_once(tmp_path: Path) -> None:
    config = config_of(dropout=0.2, history_len=1)
    whole = TrainingRun.start(config)
    rows = [metrics.named() for metrics in epochs(whole)]
    run, seen = TrainingRun.start(config), []
    for _ in range(4):
        seen.append(next(iter(epochs(run))).named())
        run = TrainingRun.resume(config, run.save(tmp_path / "m.pt"))
    assert timeless(seen) == timeless(rows)
    assert equal(weights_of(run.model), weights_of(whole.model))
    assert list(epochs(run)) == []


@pytest.mark.parametrize("fields", [{}, {"dropout": 0.3, "resample_each_epoch": True}])
def test_the_same_seed_gives_the_same_run_bit_for_bit(fields: dict[str, Any]) -> None:
    config = config_of(**fields)
    first = TrainingRun.start(config)
    rows = [metrics.named() for metrics in epochs(first)]
    random.seed(1)
    torch.manual_seed(1)
    np.random.seed(1)
    second = TrainingRun.start(config)
    assert timeless([metrics.named() for metrics in epochs(second)]) == timeless(rows)
    assert equal(weights_of(first.model), weights_of(second.model))


def test_another_seed_gives_another_run() -> None:
    some, other = TrainingRun.start(config_of(seed=1)), TrainingRun.start(config_of(seed=2))
    assert not equal(weights_of(some.model), weights_of(other.model))
    assert not torch.equal(some.particle.position, other.particle.position)


def test_fresh_orbits_are_drawn_each_epoch_where_asked_for() -> None:
    run = TrainingRun.start(config_of(resample_each_epoch=True))
    first = run.begin_epoch().position
    next(iter(epochs(run)))
    assert not torch.equal(run.begin_epoch().position, first)


@pytest.mark.slow
def test_the_cosine_schedule_ends_far_below_where_it_began() -> None:
    run = TrainingRun.start(config_of(lr_schedule="cosine", epochs=20, replay_steps=0))
    rates = [run.optimizer.param_groups[0]["lr"] for _ in epochs(run)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(1e-2, rel=0.02)
    assert rates[-1] < 1e-3


def test_leaving_the_loop_leaves_a_run_that_can_go_on() -> None:
    run = TrainingRun.start(config_of())
    for metrics in epochs(run):
        if metrics.epoch == 1:
            break
    assert run.next_epoch == 2
    assert [metrics.epoch for metrics in epochs(run)] == [2, 3]


def test_weights_that_are_not_finite_end_the_run_and_keep_the_last_checkpoint(
    tmp_path: Path,
) -> None:
    given = parts(config_of(epochs=20))

    class Poison(Log):
        def log(self, data: dict[str, Any]) -> None:
            if data["epoch"] == 2:
                with torch.no_grad():
                    next(iter(given["model"].parameters())).fill_(math.nan)

    with pytest.raises(TrainingDiverged):
        run_two_phase_training(**given, save_dir=tmp_path, wandb_run=Poison())
    assert [path.name for path in tmp_path.iterdir()] == ["model_epoch_0000.pt"]
    content = load_checkpoint(tmp_path / "model_epoch_0000.pt")
    assert all(torch.isfinite(w).all() for w in content["model_state_dict"].values())


MEASURED_RUN = """
import gc, json, sys, tracemalloc
import torch
from nbody.config import Config
from nbody.training.run import TrainingRun
from nbody.unified_training import epochs

fields, (early, late) = json.loads(sys.argv[1]), json.loads(sys.argv[2])
for metrics in epochs(TrainingRun.start(Config(**fields))):
    if metrics.epoch == early // 2:
        tracemalloc.start()
    if metrics.epoch in {early, late}:
        gc.collect()
        living = sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())
        print(tracemalloc.get_traced_memory()[0], living)
"""


@pytest.mark.slow
def test_memory_stays_flat_over_two_thousand_epochs() -> None:
    """In a process of its own, without checked signatures: those would take ten times as long."""
    config = config_of(
        epochs=2000,
        feature_type="dimensionless",  # quick under tracemalloc
        num_orbits=1,
        steps_per_epoch=3,
        history_len=1,
        replay_steps=1,
        loss="band",
        dropout=0.1,
        reset_particle_each_epoch=False,
        max_retrain_steps=2,
    )
    run = [sys.executable, "-c", MEASURED_RUN, json.dumps(config.model_dump()), "[300, 1999]"]
    early, late = subprocess.check_output(run, text=True).splitlines()
    bytes_early, living_early = map(int, early.split())
    bytes_late, living_late = map(int, late.split())
    assert bytes_late - bytes_early < 128 * 1024  # 75 bytes an epoch
    assert living_late - living_early <= 4


def test_fitted_scales_survive_a_resume_without_a_seed(tmp_path: Path) -> None:
    config = Config(
        initial_conditions="random",
        num_particles=3,
        feature_type="rich",
        normalize_inputs=True,
        hidden_dims=[8],
        epochs=3,
        steps_per_epoch=2,
        replay_steps=2,
        max_retrain_steps=5,
        loss="band",
    )
    run = TrainingRun.start(config)
    next(epochs(run))
    path = run.save(tmp_path / "checkpoint.pt")
    rest = [metrics.model_dump(exclude={"epoch_time"}) for metrics in epochs(run)]
    resumed = TrainingRun.resume(config, path)
    assert resumed.adapter.scales == run.adapter.scales
    assert [m.model_dump(exclude={"epoch_time"}) for m in epochs(resumed)] == rest


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"lr": 5e-5}, {"lr": 5e-5}),
        ({"weight_decay": 0.5}, {"weight_decay": 0.5}),
        ({"adam_beta2": 0.9}, {"betas": (0.9, 0.9)}),
        ({"optimizer": "sgd", "momentum": 0.3}, {"momentum": 0.3}),
    ],
)
def test_a_resumed_run_optimizes_as_its_own_config_says(
    tmp_path: Path, changed: dict[str, Any], expected: dict[str, Any]
) -> None:
    before = {"lr": 1e-3, "epochs": 3, "optimizer": changed.get("optimizer", "adam")}
    run = TrainingRun.start(config_of(**before))
    next(epochs(run))
    path = run.save(tmp_path / "checkpoint.pt")
    resumed = TrainingRun.resume(config_of(**{**before, **changed}), path)
    next(epochs(resumed))
    (group,) = resumed.optimizer.param_groups
    assert {name: group[name] for name in expected} == expected


def test_a_checkpoint_of_another_run_is_named_as_such(tmp_path: Path) -> None:
    run = TrainingRun.start(config_of(hidden_dims=[8]))
    path = run.save(tmp_path / "m.pt")
    with pytest.raises(CheckpointUnreadable, match="not of a run with this config"):
        TrainingRun.resume(config_of(hidden_dims=[9]), path)
    bare = save_checkpoint(tmp_path / "bare.pt", run.model, config=run.config)
    with pytest.raises(CheckpointUnreadable, match="not the state of a run"):
        TrainingRun.resume(config_of(hidden_dims=[8]), bare)
