"""load_stepper: a trained network in use, whoever trained it."""

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nbody.checkpoint import save_checkpoint
from nbody.config import Config
from nbody.errors import CheckpointUnreadable
from nbody.history_buffer import HistoryBuffer
from nbody.initial_conditions.from_config import initial_particle
from nbody.model import build_model
from nbody.model_adapter import ModelAdapter
from nbody.particle import ParticleTorch
from nbody.stepper import Stepper, load_stepper

WIDTH_OF_BASIC = 11


class OriginalNetwork(nn.Module):
    """The original's network, written again from its layout: its keys, its order of layers."""

    def __init__(self, inputs: int, *, dropout: float = 0.0, fourier_dim: int = 0) -> None:
        super().__init__()
        self.embedding = nn.Module() if fourier_dim else None
        if self.embedding is not None:
            frequencies = torch.randn(fourier_dim // 2, inputs, dtype=torch.float64)
            self.embedding.B = nn.Parameter(0.3 * frequencies, requires_grad=False)
        layers: list[nn.Module] = []
        width = fourier_dim or inputs
        for hidden in (8, 6):
            layers += [nn.Linear(width, hidden), nn.Tanh()]
            layers += [nn.Dropout(dropout)] if dropout else []
            width = hidden
        self.model = nn.Sequential(*layers, nn.Linear(width, 2), nn.Softplus())
        self.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.embedding is not None:
            projection = 2 * torch.pi * x @ self.embedding.B.T
            x = torch.cat([torch.sin(projection), torch.cos(projection)], dim=-1)
        return self.model(x)


def states(*leading: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Position, velocity and mass of random systems of 3 particles in the plane."""
    generator = torch.Generator().manual_seed(seed)
    position, velocity = torch.randn(2, *leading, 3, 2, generator=generator, dtype=torch.float64)
    mass = 0.5 + torch.rand(*leading, 3, generator=generator, dtype=torch.float64)
    return position, velocity, mass


def expected_dt(network: nn.Module, config: Config, *leading: int) -> torch.Tensor:
    position, velocity, mass = states(*leading)
    particle = ParticleTorch.from_tensors(mass, position, velocity)
    features = ModelAdapter(config).build_feature_tensor(particle)
    with torch.no_grad():
        return network.eval()(features)[..., 0] + 1e-12


def original_file(path: Path, network: nn.Module, config: dict[str, Any] | None) -> Path:
    content: dict[str, Any] = {"epoch": 3, "model_state_dict": network.state_dict()}
    if config is not None:
        content["config"] = config
    torch.save(content, path)
    return path


def quietly(path: Path) -> Stepper:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_stepper(path)


BASIC = Config(feature_type="basic", dt_head="softplus")


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_network_of_the_original_gives_the_steps_it_gave_there(
    tmp_path: Path, dropout: float
) -> None:
    network = OriginalNetwork(WIDTH_OF_BASIC, dropout=dropout)
    config = {"feature_type": "basic", "hidden_dims": [8, 6], "dropout": dropout}
    stepper = quietly(original_file(tmp_path / "m.pt", network, config))
    torch.testing.assert_close(stepper(*states(4)), expected_dt(network, BASIC, 4))


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_config_that_names_no_widths_is_read_from_the_weights(
    tmp_path: Path, dropout: float
) -> None:
    network = OriginalNetwork(WIDTH_OF_BASIC, dropout=dropout)
    config = {"feature_type": "basic", "history_len": 0, "epochs": 5, "dt_bound": 1e-8}
    stepper = quietly(original_file(tmp_path / "m.pt", network, config))
    torch.testing.assert_close(stepper(*states(4)), expected_dt(network, BASIC, 4))


@pytest.mark.parametrize("named", [True, False])
def test_a_fourier_embedding_of_the_original_is_used(tmp_path: Path, named: bool) -> None:
    network = OriginalNetwork(WIDTH_OF_BASIC, dropout=0.1, fourier_dim=10)
    config: dict[str, Any] = {"feature_type": "basic"}
    if named:
        config |= {"hidden_dims": [8, 6], "fourier_scale": 0.3, "fourier_dim": 10, "dropout": 0.1}
    stepper = quietly(original_file(tmp_path / "m.pt", network, config))
    torch.testing.assert_close(stepper(*states(4)), expected_dt(network, BASIC, 4))


def test_delta_mag_without_history_is_basic_in_a_checkpoint_of_the_original(tmp_path: Path) -> None:
    network = OriginalNetwork(WIDTH_OF_BASIC)
    config = {"feature_type": "delta_mag", "history_len": 0, "hidden_dims": [8, 6]}
    stepper = quietly(original_file(tmp_path / "m.pt", network, config))
    torch.testing.assert_close(stepper(*states(4)), expected_dt(network, BASIC, 4))


def test_a_checkpoint_that_has_only_the_short_key_is_read(tmp_path: Path) -> None:
    network = OriginalNetwork(WIDTH_OF_BASIC)
    config = {"feature_type": "basic", "hidden_dims": [8, 6], "dropout": 0.0}
    torch.save({"model_state": network.state_dict(), "config": config}, tmp_path / "m.pt")
    stepper = quietly(tmp_path / "m.pt")
    torch.testing.assert_close(stepper(*states(4)), expected_dt(network, BASIC, 4))


def test_weights_that_do_not_fit_the_features_are_refused_in_words(tmp_path: Path) -> None:
    network = OriginalNetwork(WIDTH_OF_BASIC + 2)
    config = {"feature_type": "basic", "hidden_dims": [8, 6], "dropout": 0.0}
    path = original_file(tmp_path / "m.pt", network, config)
    with pytest.raises(CheckpointUnreadable):
        quietly(path)


def test_a_checkpoint_without_weights_is_refused_in_words(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "config": {"feature_type": "basic"}}, tmp_path / "m.pt")
    with pytest.raises(CheckpointUnreadable):
        quietly(tmp_path / "m.pt")


def our_checkpoint(path: Path, **fields: object) -> tuple[Path, Config, nn.Module]:
    given = {"hidden_dims": [8], "dropout": 0.0, "device": "cpu", "steps_per_epoch": 8}
    config = Config.model_validate(given | fields)
    adapter = ModelAdapter(config)
    model = build_model(config, adapter.input_dim_from_state(initial_particle(config)))
    model = model.to(torch.float32 if config.dtype == "float32" else torch.float64)
    return save_checkpoint(path, model, config=config), config, model


def test_our_checkpoint_gives_the_step_that_training_predicts(tmp_path: Path) -> None:
    path, config, model = our_checkpoint(tmp_path / "m.pt")
    position, velocity, mass = states(4)
    particle = ParticleTorch.from_tensors(mass, position, velocity)
    predicted = ModelAdapter(config).predict_dt(model, particle)
    torch.testing.assert_close(load_stepper(path)(position, velocity, mass), predicted)


@pytest.mark.parametrize("leading", [(), (1,), (5,), (2, 3)])
def test_leading_axes_in_are_leading_axes_out(tmp_path: Path, leading: tuple[int, ...]) -> None:
    stepper = load_stepper(our_checkpoint(tmp_path / "m.pt")[0])
    assert stepper(*states(*leading)).shape == leading


def test_a_batch_gets_the_steps_that_its_systems_get_alone(tmp_path: Path) -> None:
    stepper = load_stepper(our_checkpoint(tmp_path / "m.pt")[0])
    position, velocity, mass = states(2, 3)
    together = stepper(position, velocity, mass)
    for i in range(2):
        for j in range(3):
            alone = stepper(position[i, j], velocity[i, j], mass[i, j])
            torch.testing.assert_close(together[i, j], alone)


def test_one_row_of_masses_serves_every_system(tmp_path: Path) -> None:
    stepper = load_stepper(our_checkpoint(tmp_path / "m.pt")[0])
    position, velocity, mass = states(4)
    same = mass[:1].expand(4, 3)
    torch.testing.assert_close(
        stepper(position, velocity, mass[0]), stepper(position, velocity, same)
    )


def test_no_gradient_leaves_a_stepper(tmp_path: Path) -> None:
    stepper = load_stepper(our_checkpoint(tmp_path / "m.pt")[0])
    position, velocity, mass = states(4)
    assert not stepper(position.requires_grad_(), velocity, mass).requires_grad


def test_dropout_is_off_in_a_stepper(tmp_path: Path) -> None:
    path, _, _ = our_checkpoint(tmp_path / "m.pt", dropout=0.5, hidden_dims=[16, 16])
    stepper = load_stepper(path)
    torch.manual_seed(1)
    first = stepper(*states(4))
    assert all(torch.equal(stepper(*states(4)), first) for _ in range(5))


@pytest.mark.parametrize(
    ("name", "dtype"), [("float32", torch.float32), ("float64", torch.float64)]
)
def test_steps_have_the_dtype_of_the_checkpoint(
    tmp_path: Path, name: str, dtype: torch.dtype
) -> None:
    stepper = load_stepper(our_checkpoint(tmp_path / "m.pt", dtype=name)[0])
    assert stepper(*states(4)).dtype == dtype
    assert stepper(*(tensor.float() for tensor in states(4))).dtype == dtype


def test_the_inputs_of_a_stepper_are_not_changed(tmp_path: Path) -> None:
    stepper = load_stepper(our_checkpoint(tmp_path / "m.pt")[0])
    given = states(4)
    stepper(*given)
    for after, before in zip(given, states(4), strict=True):
        assert torch.equal(after, before)


def test_the_log_head_scales_as_lambda_to_the_three_halves(tmp_path: Path) -> None:
    stepper = load_stepper(our_checkpoint(tmp_path / "m.pt")[0])
    position, velocity, mass = states(6)
    scale = 7.0
    scaled = stepper(scale * position, velocity / scale**0.5, mass)
    torch.testing.assert_close(scaled, scale**1.5 * stepper(position, velocity, mass))


def test_a_history_is_used_where_the_network_was_trained_with_one(tmp_path: Path) -> None:
    path, config, model = our_checkpoint(tmp_path / "m.pt", history_len=2)
    position, velocity, mass = states(4)
    particle = ParticleTorch.from_tensors(mass, position, velocity)
    history = HistoryBuffer(2, config.feature_type)
    past_position, past_velocity, _ = states(4, seed=9)
    history.push(ParticleTorch.from_tensors(mass, past_position, past_velocity))
    stepper = load_stepper(path)
    with_past = stepper(position, velocity, mass, history=history)
    predicted = ModelAdapter(config).predict_dt(model, particle, history_buffer=history)
    torch.testing.assert_close(with_past, predicted)
    assert not torch.allclose(with_past, stepper(position, velocity, mass))


def test_a_stepper_without_its_history_still_gives_finite_steps(tmp_path: Path) -> None:
    path, _, _ = our_checkpoint(tmp_path / "m.pt", history_len=2)
    dt = load_stepper(path)(*states(4))
    assert dt.shape == (4,)
    assert bool((torch.isfinite(dt) & (dt > 0)).all())


COMPILED_BESIDE_EAGER = """
import functools, sys
from pathlib import Path
import torch
from nbody.config import Config
from nbody.initial_conditions import initial_particle
from nbody.stepper import load_stepper
from nbody.training.run import TrainingRun

# What torch traces is run as it is: making machine code of it takes minutes.
torch.compile = functools.partial(torch.compile, backend="eager")
run = TrainingRun.start(Config(hidden_dims=[8], num_orbits=2, seed=1, device="cpu"))
run.end_epoch(run.begin_epoch())
path = run.save(Path(sys.argv[1]))
eager, compiled = load_stepper(path), load_stepper(path, compiled=True)
particle = initial_particle(Config(num_orbits=40), seed=3)
for count in (40, 7, 1):
    batch = (particle.position[:count], particle.velocity[:count], particle.mass[:count])
    assert torch.allclose(compiled(*batch), eager(*batch), rtol=1e-12)
"""


@pytest.mark.slow
def test_a_compiled_stepper_gives_the_same_steps_for_every_batch_size(tmp_path: Path) -> None:
    """In a process of its own: torch cannot trace signatures that are checked."""
    run = [sys.executable, "-c", COMPILED_BESIDE_EAGER, str(tmp_path / "model.pt")]
    subprocess.run(run, check=True)
