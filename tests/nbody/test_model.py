"""The networks: layers named as the original's, positive steps, and a head that scales exactly."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from nbody.config import Config
from nbody.history_buffer import HistoryBuffer
from nbody.initial_conditions.from_config import initial_particle
from nbody.model import FullyConnectedNN, build_model
from nbody.model_adapter import ModelAdapter
from nbody.particle import ParticleTorch
from nbody.stepper import load_stepper
from nbody.training.run import TrainingRun


def network(**options: object) -> FullyConnectedNN:
    torch.manual_seed(0)
    fields = {"hidden_dims": [8, 6], "activation": "tanh", "dropout": 0.0, **options}
    return FullyConnectedNN(5, 2, **fields).double()


def inputs(number: int = 64, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return scale * torch.randn(number, 5, generator=generator, dtype=torch.float64)


def scaled(particle: ParticleTorch, scale: float) -> ParticleTorch:
    return ParticleTorch.from_tensors(
        particle.mass, scale * particle.position, scale**-0.5 * particle.velocity
    )


@pytest.mark.parametrize(
    ("dropout", "names"),
    [(0.2, ("model.0", "model.3", "model.6")), (0.0, ("model.0", "model.2", "model.4"))],
)
def test_layers_are_named_as_the_originals(dropout: float, names: tuple[str, ...]) -> None:
    expected = {f"{name}.{kind}" for name in names for kind in ("weight", "bias")}
    assert set(network(dropout=dropout).state_dict()) == expected


def test_the_fourier_embedding_is_saved_under_the_originals_name_and_is_not_trained() -> None:
    model = network(fourier_scale=1.5, fourier_dim=16)
    assert "embedding.B" in model.state_dict()
    assert model.state_dict()["embedding.B"].numel() == 5 * 8
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert not any(name.startswith("embedding") for name in trained)


@pytest.mark.parametrize("fourier_scale", [-1.0, 1.0])
def test_the_network_computes_what_its_layers_say(fourier_scale: float) -> None:
    model = network(dropout=0.3, fourier_scale=fourier_scale, fourier_dim=16).eval()
    weights = model.state_dict()
    x = inputs()
    if fourier_scale > 0:
        B = weights["embedding.B"]
        angle = 2 * math.pi * (x @ (B.T if B.shape[1] == 5 else B))
        x = torch.cat([angle.sin(), angle.cos()], dim=-1)
    for layer in (0, 3):
        x = torch.tanh(x @ weights[f"model.{layer}.weight"].T + weights[f"model.{layer}.bias"])
    x = x @ weights["model.6.weight"].T + weights["model.6.bias"]
    torch.testing.assert_close(model(inputs()), torch.log1p(x.exp()))


def test_outputs_are_positive_unless_they_need_not_be() -> None:
    assert bool((network()(inputs(scale=100.0)) >= 0).all())
    free = network(output_positive=False)
    assert bool((free(inputs(scale=100.0)) < 0).any())


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "silu", "gelu", "isru"])
def test_the_activation_is_the_one_that_was_asked_for(activation: str) -> None:
    model = network(activation=activation)
    kinds = {type(module).__name__.lower() for module in model.modules()}
    assert activation in kinds


def test_dropout_acts_in_training_only() -> None:
    model = network(dropout=0.5)
    model.train()
    assert not torch.equal(model(inputs()), model(inputs()))
    model.eval()
    assert torch.equal(model(inputs()), model(inputs()))


def test_the_predicted_step_does_not_depend_on_dropout_and_leaves_the_mode() -> None:
    config = Config(hidden_dims=[16], dropout=0.5, num_orbits=4)
    particle = initial_particle(config, seed=1)
    adapter = ModelAdapter(config)
    model = build_model(config, adapter.input_dim_from_state(particle)).double()
    model.train()
    first, second = (adapter.predict_dt(model, particle) for _ in range(2))
    assert torch.equal(first, second)
    assert model.training


def test_any_module_from_features_to_steps_is_a_model() -> None:
    class Constant(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(x), 1, dtype=x.dtype) + 0.25

    config = Config(num_orbits=4)
    particle = initial_particle(config, seed=1)
    dt = ModelAdapter(config).predict_dt(Constant(), particle)
    assert torch.equal(dt, torch.full((4,), 0.25 + 1e-12, dtype=torch.float64))
    alone = ModelAdapter(config).predict_dt(Constant(), particle.select(0))
    assert isinstance(alone, float)
    assert alone == 0.25 + 1e-12


@pytest.mark.parametrize("history_len", [0, 2])
@pytest.mark.parametrize("scale", [1e-2, 30.0])
def test_the_log_head_scales_the_step_with_the_power_three_halves(
    scale: float, history_len: int
) -> None:
    config = Config(
        feature_type="dimensionless", hidden_dims=[16, 16], num_orbits=6, history_len=history_len
    )
    particle = initial_particle(config, seed=1)
    steps = []
    for factor in (1.0, scale):
        torch.manual_seed(0)
        adapter = ModelAdapter(config)
        buffer = HistoryBuffer(history_len, "dimensionless") if history_len else None
        system = scaled(particle, factor)
        model = build_model(config, adapter.input_dim_from_state(system, history_buffer=buffer))
        nn.init.normal_(list(model.parameters())[-2])  # an answer that varies from state to state
        model = model.double()
        if buffer is not None:
            buffer.push(system)
            system.update_dt(factor**1.5 * 0.01)
            system.evolve_batch()
        steps.append(adapter.predict_dt(model, system, history_buffer=buffer))
    assert float(steps[0].max() / steps[0].min()) > 1.5
    torch.testing.assert_close(steps[1], scale**1.5 * steps[0], rtol=1e-6, atol=0)


def test_the_log_head_multiplies_the_time_scale_in_the_last_column() -> None:
    model = build_model(Config(hidden_dims=[16]), 12).double().eval()
    x = torch.randn(5, 12, dtype=torch.float64)
    later = x.clone()
    later[:, -1] += math.log(7.0)
    torch.testing.assert_close(model(later)[:, 0], 7.0 * model(x)[:, 0])


@pytest.mark.parametrize("dt_head", ["log", "softplus"])
def test_a_config_builds_the_head_that_it_names(dt_head: str) -> None:
    config = Config(hidden_dims=[16], dt_head=dt_head, dropout=0.2)
    model = build_model(config, 12).double()
    assert {"model.0.weight", "model.3.weight"} <= set(model.state_dict())
    x = torch.randn(50, 12, dtype=torch.float64)
    output = model(x)
    assert output.shape == (50, 2)
    assert bool((output[:, 0] > 0).all())


def test_the_log_head_starts_well_below_the_free_fall_time() -> None:
    """A fresh network answers small steps, so that the first gate is not a wall of failures."""
    torch.manual_seed(0)
    model = build_model(Config(), 12).double().eval()
    x = torch.randn(50, 12, dtype=torch.float64)
    ratio = model(x)[:, 0] / x[:, -1].exp()
    assert bool((ratio < 0.5).all())
    assert bool((ratio > 1e-4).all())


@pytest.mark.parametrize("head", ["log", "softplus"])
@pytest.mark.parametrize("fourier_scale", [-1.0, 1.0])
def test_a_network_in_float32_answers_in_the_states_own_type(
    head: str, fourier_scale: float, tmp_path: Path
) -> None:
    features = "error_series" if head == "log" else "rich"
    fields = {"hidden_dims": [8], "num_orbits": 4, "dt_head": head, "feature_type": features}
    fields |= {"fourier_scale": fourier_scale, "fourier_dim": 8, "network_dtype": "float32"}
    run = TrainingRun.start(Config(**fields, seed=1, device="cpu"))
    assert {weight.dtype for weight in run.model.parameters()} == {torch.float32}
    dt = run.adapter.predict_dt(run.model, run.initial)
    assert isinstance(dt, torch.Tensor)
    assert dt.dtype == torch.float64
    path = run.save(tmp_path / "model.pt")
    stepper = load_stepper(path)
    assert {weight.dtype for weight in stepper.model.parameters()} == {torch.float32}
    found = stepper(run.initial.position, run.initial.velocity, run.initial.mass)
    assert found.dtype == torch.float64
    wide = TrainingRun.start(Config(**{**fields, "network_dtype": None}, seed=1, device="cpu"))
    expected = wide.adapter.predict_dt(wide.model, wide.initial)
    torch.testing.assert_close(dt, expected, rtol=1e-5, atol=0)


def test_a_network_in_float32_still_scales_its_steps_exactly() -> None:
    """The time scale is not the network's: it stays in float64."""
    fields = {"hidden_dims": [8], "num_orbits": 4, "network_dtype": "float32", "seed": 1}
    run = TrainingRun.start(Config(**fields, device="cpu"))
    large = run.adapter.predict_dt(run.model, scaled(run.initial, 4.0))
    small = run.adapter.predict_dt(run.model, run.initial)
    torch.testing.assert_close(large, 8.0 * small, rtol=1e-6, atol=0)
