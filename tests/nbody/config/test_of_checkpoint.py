"""What a file says of itself is read without torch, and without running anything that it names."""

import contextlib
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from nbody.checkpoint import load_config_from_checkpoint
from nbody.config import Config
from nbody.config.of_checkpoint import read_facts
from nbody.errors import CheckpointUnreadable
from nbody.training.run import TrainingRun
from tests.nbody.fakes import CONFIG

LAYER = {"model_state_dict": {"model.0.weight": 1}}


def archive(path: Path, pickled: bytes) -> Path:
    """A file as torch writes it, around a pickle."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = TrainingRun.start(CONFIG)
    run.end_epoch(run.begin_epoch(), {"pass_rate": 1.0})
    return run.save(tmp_path_factory.mktemp("saved") / "model.pt")


def test_it_says_what_torch_reads(saved: Path) -> None:
    facts = read_facts(saved)
    assert facts.config == load_config_from_checkpoint(saved)
    assert facts.epoch == 0


def test_a_process_prints_it_as_json_and_loads_no_torch(saved: Path) -> None:
    script = (
        "import runpy, sys; sys.argv[1:] = [sys.argv[1]]\n"
        "try: runpy.run_module('nbody.config.of_checkpoint', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", script, str(saved)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert Config.model_validate(said["config"]) == load_config_from_checkpoint(saved)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, Any]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["config", "epoch", "model_state_dict"])
def test_what_a_pickle_names_is_never_run(tmp_path: Path, place: str) -> None:
    mark = tmp_path / "ran"
    content: dict[str, Any] = {"model_state_dict": {"model.0.weight": 1}, place: Bomb(mark)}
    read_or_refuse(archive(tmp_path / "bomb.pt", pickle.dumps(content)))
    assert not mark.exists()


def read_or_refuse(path: Path) -> None:
    with contextlib.suppress(CheckpointUnreadable):
        read_facts(path)


def bomb_of_lists() -> bytes:
    """Lists of lists that are one another: a million million times the same."""
    inner: list[Any] = [1.0]
    for _ in range(40):
        inner = [inner, inner]
    config = CONFIG.model_dump(mode="json") | {"extra": {"a": inner}}
    return pickle.dumps({"model_state_dict": {"model.0.weight": 1}, "config": config})


def bomb_of_memory() -> bytes:
    """Keeps one number at place two thousand million."""
    return b"\x80\x02K\x01r\xff\xff\xff\x7f."


@pytest.mark.parametrize("bomb", [bomb_of_lists, bomb_of_memory])
def test_a_file_that_asks_for_too_much_ends_its_own_process_alone(
    tmp_path: Path, bomb: Any
) -> None:
    path = archive(tmp_path / "bomb.pt", bomb())
    limited = "import resource, runpy, sys; sys.argv = sys.argv[1:]\n"
    limited += "from nbody.config import told_apart; told_apart.MOST_SECONDS = 2\n"
    limited += "runpy.run_module('nbody.config.of_checkpoint', run_name='__main__')"
    command = [sys.executable, "-c", limited, "-", str(path)]
    assert subprocess.run(command, capture_output=True).returncode != 0


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no checkpoint"),
        (pickle.dumps([1, 2]), "no dictionary"),
        (pickle.dumps({"config": {}}), "model_state_dict"),
        (pickle.dumps({"model_state_dict": [1, 2]}), "model_state_dict"),
        (pickle.dumps({"model_state_dict": {"a": 1}}), "no fully connected network"),
        (
            pickle.dumps({**LAYER, "config": {"dt_head": "log", "lr": -1}}),
            "its config: lr",
        ),
    ],
)
def test_what_is_no_checkpoint_is_refused_in_words(
    tmp_path: Path, content: bytes, told: str
) -> None:
    with pytest.raises(CheckpointUnreadable, match=told):
        read_facts(archive(tmp_path / "a.pt", content))


def test_other_files_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no archive")
    torch.save({"model_state_dict": {}}, tmp_path / "empty.pt")
    buffer = io.BytesIO()
    torch.save({"a": 1}, buffer, _use_new_zipfile_serialization=False)
    (tmp_path / "old.pt").write_bytes(buffer.getvalue())
    for name in ("text.pt", "empty.pt", "old.pt", "nothing.pt"):
        with pytest.raises(CheckpointUnreadable):
            read_facts(tmp_path / name)
