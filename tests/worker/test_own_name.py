"""A worker's name is its own, and the same again after it was made again."""

from dataclasses import replace
from pathlib import Path

import pytest

from worker.own_name import AlreadyRunning, own_name
from worker.settings import WorkerSettings


def named(folder: Path, name: str) -> WorkerSettings:
    return WorkerSettings("http://x", "token", folder, name, slots=1, threads=1)


def test_a_name_is_one_workers(tmp_path: Path) -> None:
    settings = named(tmp_path, "a")
    with own_name(settings) as own:
        assert own == settings
        with pytest.raises(AlreadyRunning, match="another worker named 'a'"), own_name(settings):
            pass
    with own_name(settings):
        pass


def test_a_star_is_the_first_number_that_is_free(tmp_path: Path) -> None:
    settings = named(tmp_path, "worker-*")
    with own_name(settings) as first:
        assert first == replace(settings, name="worker-1")
        with own_name(settings) as second:
            assert second.name == "worker-2"
            assert second.state_folder.is_dir()
        with own_name(settings) as again:
            assert again.name == "worker-2"
    with own_name(settings) as another:
        assert another.name == "worker-1"
