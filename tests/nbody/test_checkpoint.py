"""Checkpoints: complete, atomic, and read without running anything that they hold."""

import os
import pickle
import resource
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from nbody.checkpoint import (
    load_checkpoint,
    load_config_from_checkpoint,
    load_model_state,
    save_checkpoint,
)
from nbody.config import Config
from nbody.errors import CheckpointUnreadable
from nbody.model import FullyConnectedNN
from nbody.particle import make_particle
from nbody.stepper import load_stepper

KEYS = {
    "epoch",
    "model_state_dict",
    "optimizer_state_dict",
    "loss",
    "info",
    "logs",
    "config",
    "config_summary",
    "history_len",
    "feature_type",
    "dtype",
    "extra",
}


def small_model() -> FullyConnectedNN:
    return FullyConnectedNN(11, 2, [8], "tanh", 0.0)


def small_config(**fields: object) -> Config:
    given = {"feature_type": "basic", "dt_head": "softplus", "hidden_dims": [8], "dropout": 0.0}
    return Config.model_validate(given | fields)


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.marker),)


@contextmanager
def full_disk(most: int = 600) -> Iterator[None]:
    """No file can grow longer, the test runner's own neither: be short."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.slow
def test_a_checkpoint_has_the_keys_of_the_original(tmp_path: Path) -> None:
    model = small_model()
    optimizer = torch.optim.Adam(model.parameters())
    path = save_checkpoint(
        tmp_path / "m.pt",
        model,
        optimizer,
        epoch=4,
        loss=torch.tensor(0.5),
        info={"a": torch.tensor([1.0, 2.0])},
        logs={"b": 3},
        config=small_config(),
        extra={"c": "d"},
    )
    content = load_checkpoint(path)
    assert content.keys() >= KEYS
    assert content["epoch"] == 4
    assert content["loss"] == 0.5
    assert list(content["info"]["a"]) == [1.0, 2.0]
    assert content["logs"] == {"b": 3}
    assert content["extra"] == {"c": "d"}
    assert content["feature_type"] == "basic"
    assert content["history_len"] == 0
    assert content["dtype"] == "float64"


def test_a_checkpoint_opens_with_torch_alone_and_without_pickle(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "m.pt", small_model(), config=small_config())
    content = torch.load(path, weights_only=True)
    assert set(content["model_state_dict"]) == set(small_model().state_dict())


def test_a_checkpoint_whose_logs_hold_a_particle_opens_without_pickle(tmp_path: Path) -> None:
    particle = make_particle([[1.0, 0.5, 0.0, 0.0, 0.7], [1.0, -0.5, 0.0, 0.0, -0.7]])
    logs = {"final_particle": particle, "pair": (1, 2), "folder": tmp_path}
    path = save_checkpoint(tmp_path / "m.pt", small_model(), logs=logs, extra=dict(logs))
    content = torch.load(path, weights_only=True)
    assert torch.equal(content["logs"]["final_particle"]["position"], particle.position)


def test_the_folder_of_a_checkpoint_is_made(tmp_path: Path) -> None:
    path = tmp_path / "data" / "run" / "model" / "model_epoch_0000.pt"
    assert save_checkpoint(path, small_model()) == path
    assert path.is_file()


def test_the_model_and_the_config_come_back_as_they_were(tmp_path: Path) -> None:
    model, config = small_model(), small_config(lr=0.125, extra={"note": "mine"})
    path = save_checkpoint(tmp_path / "m.pt", model, config=config, epoch=7)
    other = small_model()
    assert load_model_state(other, path)["epoch"] == 7
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)
    assert load_config_from_checkpoint(path) == config


def test_a_checkpoint_without_a_config_has_none(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "m.pt", small_model())
    assert load_config_from_checkpoint(path) is None


def test_a_config_that_names_no_head_is_one_of_the_original(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    config = {"feature_type": "rich", "history_len": 0, "epochs": 3}
    torch.save({"model_state_dict": small_model().state_dict(), "config": config}, path)
    read = load_config_from_checkpoint(path)
    assert read is not None
    assert (read.dt_head, read.feature_type) == ("softplus", "rich")


def test_the_optimizer_comes_back_as_it_was(tmp_path: Path) -> None:
    model = small_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model(torch.ones(3, 11)).sum().backward()
    optimizer.step()
    content = load_checkpoint(save_checkpoint(tmp_path / "m.pt", model, optimizer))
    fresh = torch.optim.Adam(model.parameters(), lr=0.5)
    fresh.load_state_dict(content["optimizer_state_dict"])
    assert fresh.param_groups[0]["lr"] == 0.01
    first = optimizer.state[next(model.parameters())]["exp_avg"]
    assert torch.equal(fresh.state[next(model.parameters())]["exp_avg"], first)


def test_a_write_that_fails_leaves_the_old_checkpoint_whole(
    tmp_path: Path,
) -> None:
    path = save_checkpoint(tmp_path / "m.pt", small_model(), epoch=1)
    before = path.read_bytes()
    with full_disk(), pytest.raises(OSError, match="too large"):
        save_checkpoint(path, small_model(), epoch=2)
    assert path.read_bytes() == before
    assert load_checkpoint(path)["epoch"] == 1


def test_a_write_that_fails_leaves_no_half_file_behind(
    tmp_path: Path,
) -> None:
    with full_disk(), pytest.raises(OSError, match="too large"):
        save_checkpoint(tmp_path / "m.pt", small_model(), epoch=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("most", [600, 100_000])
def test_a_disk_that_takes_no_more_is_told_as_one(tmp_path: Path, most: int) -> None:
    with full_disk(most), pytest.raises(OSError, match="too large"):
        save_checkpoint(tmp_path / "m.pt", torch.nn.Linear(200, 200))


def test_a_second_save_replaces_the_first_and_leaves_one_file(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    for epoch in (1, 2):
        save_checkpoint(path, small_model(), epoch=epoch)
    assert load_checkpoint(path)["epoch"] == 2
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("where", ["logs", "extra", "config", "loss", "model_state_dict"])
def test_a_pickle_bomb_is_refused_and_does_not_go_off(tmp_path: Path, where: str) -> None:
    marker, path = tmp_path / "marker", tmp_path / "m.pt"
    content = {"model_state_dict": small_model().state_dict(), "config": {"history_len": 0}}
    torch.save(content | {where: {"bomb": Bomb(marker)}}, path)
    for read in (load_checkpoint, load_config_from_checkpoint, load_stepper):
        with pytest.raises(CheckpointUnreadable):
            read(path)
    assert not marker.exists()


def test_a_bare_pickle_is_refused_and_does_not_go_off(tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "m.pt"
    path.write_bytes(pickle.dumps({"model_state_dict": Bomb(marker)}))
    with pytest.raises(CheckpointUnreadable):
        load_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 torn"])
def test_a_damaged_file_is_named_as_unreadable(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointUnreadable, match=r"damaged\.pt"):
        load_checkpoint(path)


def test_a_torn_checkpoint_is_unreadable(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "m.pt", small_model(), config=small_config())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointUnreadable):
        load_checkpoint(path)


def test_a_missing_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnreadable, match="absent"):
        load_checkpoint(tmp_path / "absent.pt")


def test_a_checkpoint_that_is_no_dictionary_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "list.pt"
    torch.save([1, 2, 3], path)
    with pytest.raises(CheckpointUnreadable):
        load_checkpoint(path)


class OriginalParticle:
    """Stands for the original's class; says when it is made or filled from a pickle."""

    __module__ = "src.particle"
    __qualname__ = "ParticleTorch"
    ran: ClassVar[list[str]] = []

    def __init__(self) -> None:
        self.position = torch.zeros(2, 2)
        self.velocity = torch.ones(2, 2)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.ran.append("setstate")
        self.__dict__.update(state)


@pytest.fixture
def original_module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """`src.particle`, importable, as it is on the machine of a user of the original."""
    OriginalParticle.ran.clear()
    package, module = types.ModuleType("src"), types.ModuleType("src.particle")
    module.ParticleTorch = OriginalParticle  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "src", package)
    monkeypatch.setitem(sys.modules, "src.particle", module)
    return module


def original_checkpoint(path: Path, hidden: nn.Module, **more: object) -> Path:
    """A file as the original's save_checkpoint writes it."""
    state = hidden.state_dict()
    content = {
        "epoch": 10,
        "model_state_dict": state,
        "model_state": state,
        "optimizer_state_dict": None,
        "optimizer_state": None,
        "loss": None,
        "info": None,
        "logs": None,
        "extra": None,
        "config": {"feature_type": "basic", "history_len": 0, "hidden_dims": [8], "dropout": 0.0},
        "config_summary": "epochs=10",
        "history_len": 0,
        "feature_type": "basic",
        "dtype": "float64",
    }
    torch.save(content | more, path)
    return path


@pytest.mark.usefixtures("original_module")
def test_pickled_particles_in_the_logs_of_the_original_are_read_as_inert_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = {"trajectory": [(OriginalParticle(), 0.1), (OriginalParticle(), 0.2)]}
    path = original_checkpoint(tmp_path / "m.pt", small_model(), logs=logs)
    stepper = load_stepper(path)
    dt = stepper(torch.tensor([[0.5, 0.0], [-0.5, 0.0]]), torch.zeros(2, 2), torch.ones(2))
    assert dt.item() > 0
    assert OriginalParticle.ran == []
    monkeypatch.delitem(sys.modules, "src.particle")
    monkeypatch.delitem(sys.modules, "src")
    load_stepper(path)
    assert "src" not in sys.modules


class BombParticle(OriginalParticle):
    """Has the original's name, and makes a folder when it is unpickled."""

    __module__ = "src.particle"
    __qualname__ = "ParticleTorch"

    def __init__(self, marker: Path) -> None:
        super().__init__()
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def test_a_bomb_that_wears_the_original_particle_s_name_is_refused(
    tmp_path: Path, original_module: types.ModuleType
) -> None:
    original_module.ParticleTorch = BombParticle  # type: ignore[attr-defined]
    marker = tmp_path / "marker"
    logs = {"trajectory": [(BombParticle(marker), 0.1)]}
    path = original_checkpoint(tmp_path / "m.pt", small_model(), logs=logs)
    with pytest.raises(CheckpointUnreadable):
        load_stepper(path)
    assert not marker.exists()


def test_data_of_the_user_comes_back_as_it_was(tmp_path: Path) -> None:
    extra = {"paper": {"authors": ["a", "b"]}, "n": 1, "lr": 7, "note": None}
    path = save_checkpoint(tmp_path / "m.pt", small_model(), config=small_config(extra=extra))
    config = load_config_from_checkpoint(path)
    assert config is not None
    assert config.extra == extra
    assert config.lr == small_config().lr
