"""The same training on a CUDA device."""

from pathlib import Path

import pytest
import torch

from nbody.config import Config
from nbody.evaluation import evaluate
from nbody.stepper import Stepper
from nbody.training_run import TrainingRun
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
