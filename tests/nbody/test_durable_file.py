"""What is written is there after a power cut: the file, and every folder that was made for it."""

import os
from pathlib import Path

import pytest

from nbody.durable_file import write_durably


def test_every_new_folder_is_synced_into_the_one_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    whole = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        whole(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    path = tmp_path / "a" / "b" / "c" / "file"
    write_durably(path, lambda temporary: temporary.write_text("x"))
    folders = [place for place in synced if place.is_dir()]
    above = [tmp_path, tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "c"]
    assert folders == above
    synced.clear()
    write_durably(path, lambda temporary: temporary.write_text("y"))
    assert [place for place in synced if place.is_dir()] == [path.parent]
