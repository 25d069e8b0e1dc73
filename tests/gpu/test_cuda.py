"""The same training on a CUDA device."""

import warnings
from pathlib import Path

import pytest
import torch

from nbody.config import Config
from nbody.evaluation.score import evaluate
from nbody.gravity.blocked import blocked_pairwise
from nbody.gravity.force import pairwise_of_many
from nbody.stepper import Stepper
from nbody.training.run import TrainingRun
from nbody.unified_training import epochs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def config(device: str) -> Config:
    return Config(
        num_orbits=16,
        steps_per_epoch=4,
        epochs=3,
        replay_steps=10,
        hidden_dims=[16, 16],
        dropout=0.0,
        device=device,
        seed=3,
    )


def test_training_on_cuda_agrees_with_the_cpu_before_the_draws_differ() -> None:
    runs = [TrainingRun.start(config(device)) for device in ("cpu", "cuda")]
    torch.testing.assert_close(runs[0].initial.position, runs[1].initial.position.cpu())
    features = [run.adapter.build_feature_tensor(run.initial).cpu() for run in runs]
    torch.testing.assert_close(features[0], features[1])


def test_a_run_on_cuda_trains_and_is_scored() -> None:
    run = TrainingRun.start(config("cuda"))
    assert [metrics.epoch for metrics in epochs(run)] == [0, 1, 2]
    assert next(run.model.parameters()).is_cuda
    scores = evaluate(Stepper(run.model, run.adapter), systems=4)
    assert 0 < scores["stepper"]["efficiency"] < 10


def test_a_run_on_cuda_with_history_resumes_bit_for_bit(tmp_path: Path) -> None:
    fields = config("cuda").model_copy(update={"history_len": 2, "epochs": 4})
    run = TrainingRun.start(fields)
    training = epochs(run)
    next(training)
    path = run.save(tmp_path / "checkpoint.pt")
    rest = [metrics.model_dump(exclude={"epoch_time"}) for metrics in training]
    resumed = epochs(TrainingRun.resume(fields, path))
    assert [metrics.model_dump(exclude={"epoch_time"}) for metrics in resumed] == rest


@pytest.mark.parametrize("loss", ["oracle", "band", "band_failing"])
def test_replayed_graphs_train_as_the_loops_that_ask_the_host(loss: str) -> None:
    """One orbit, no dropout, a learning rate that float32 holds: the same numbers."""
    found: list[list[dict[str, object]]] = []
    for graphs in (False, True):
        fields = config("cuda").model_copy(
            update={
                "num_orbits": 1,
                "loss": loss,
                "cuda_graphs": graphs,
                "lr": 2.0**-6,
                "steps_per_epoch": 8,
                "replay_steps": 40,
            }
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a capture that fails only warns
            run = TrainingRun.start(fields)
            found.append([row.model_dump(exclude={"epoch_time"}) for row in epochs(run)])
    for plain, replayed in zip(*found, strict=True):
        for name in plain.keys() - ({"iterations"} if loss == "band_failing" else set()):
            assert replayed[name] == pytest.approx(plain[name], rel=1e-4), name


def test_the_iterations_are_captured() -> None:
    fields = config("cuda").model_copy(update={"replay_steps": 60, "min_efficiency": 1.0})
    run = TrainingRun.start(fields)
    list(epochs(run))
    learner, collection = run.loops._learner, run.loops._collection
    assert learner is not None
    assert collection is not None
    assert learner._learning.is_captured
    assert collection.attempt.is_captured


@pytest.mark.parametrize("graphs", [False, True])
def test_the_same_seed_gives_the_same_bits_with_dropout(graphs: bool) -> None:
    fields = config("cuda").model_copy(update={"dropout": 0.2, "cuda_graphs": graphs})
    first, second = (
        [row.model_dump(exclude={"epoch_time"}) for row in epochs(TrainingRun.start(fields))]
        for _ in range(2)
    )
    assert first == second


def test_the_fused_kernel_is_used_and_agrees() -> None:
    from nbody.gravity.fused import fused_pairwise

    assert pairwise_of_many(torch.device("cuda", 0)) is fused_pairwise
    position = torch.randn(2, 3000, 3, dtype=torch.float64, device="cuda", requires_grad=True)
    mass = torch.rand(2, 3000, dtype=torch.float64, device="cuda")
    found = []
    for function in (fused_pairwise, blocked_pairwise):
        acceleration, potential = function(position, mass, 0.01)
        total = acceleration.sin().sum() + potential.sum()
        found.append((acceleration, potential, *torch.autograd.grad(total, position)))
    for fused, blocked in zip(*found, strict=True):
        torch.testing.assert_close(fused, blocked, rtol=1e-9, atol=1e-9)
