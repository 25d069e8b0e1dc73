"""Workers as processes of this machine: found again by whoever asks next."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.engines.engine import PilotTerms
from server.engines.local import LocalEngine
from tests.patience import until

pytestmark = pytest.mark.slow
NOBODY = ("--server", "http://127.0.0.1:9")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    made = engine_of(tmp_path)
    yield made
    made.stop(made.list())
    until(lambda: not made.list())


def engine_of(data: Path, pool: str = "here", gpus: tuple[str, ...] = ()) -> LocalEngine:
    token = data / "token"
    token.write_text("orrery_x")
    return LocalEngine(PilotTerms(pool, NOBODY, 60.0, 3600.0), data, token, gpus)


def test_whoever_asks_next_finds_them(engine: LocalEngine, tmp_path: Path) -> None:
    started = engine.start(2, kept=False)
    started += engine.start(1, kept=True)
    assert [pilot.name for pilot in started] == ["here-1", "here-2", "here.kept-1"]
    assert [pilot.is_kept for pilot in started] == [False, False, True]
    other = engine_of(tmp_path)
    assert sorted(pilot.name for pilot in other.list()) == ["here-1", "here-2", "here.kept-1"]
    assert engine_of(tmp_path, pool="her").list() == []
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert engine_of(elsewhere).list() == []

    # One is killed: its name is free again.
    os.kill(int(started[0].id), signal.SIGKILL)
    until(lambda: len(engine.list()) == 2)
    assert [pilot.name for pilot in engine.start(1, kept=False)] == ["here-1"]

    # Who told them to end need not have started them.
    other.stop(other.list())
    until(lambda: not engine.list())
    assert engine.list() == []


def test_one_that_has_ended_is_not_mistaken_for_another_process(engine: LocalEngine) -> None:
    (pilot,) = engine.start(1, kept=False)
    engine.stop([pilot])
    until(lambda: not engine.list())
    engine.stop([pilot])  # by then nobody's number
    own = replace(pilot, id=str(os.getpid()))
    engine.stop([own])  # or another's
    assert os.getpid() == int(own.id)


def test_gpus_are_for_one_worker_each(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, gpus=("0", "GPU-abc"))
    try:
        first, second = engine.start(2, kept=False)
        chosen = [
            variable
            for pilot in (first, second)
            for variable in Path(f"/proc/{pilot.id}/environ").read_text().split("\0")
            if variable.startswith("CUDA_VISIBLE_DEVICES=")
        ]
        assert chosen == ["CUDA_VISIBLE_DEVICES=0", "CUDA_VISIBLE_DEVICES=GPU-abc"]
        assert engine.start(1, kept=False) == []  # as many as there are GPUs for
    finally:
        engine.stop(engine.list())
        until(lambda: not engine.list())
