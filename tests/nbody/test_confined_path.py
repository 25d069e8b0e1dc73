"""Paths that lead nowhere but below their folder."""

from pathlib import Path

import pytest

from nbody.confined_path import PathEscapes, confined


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    (root / ".own").mkdir(parents=True)
    (root / ".own" / "secret.txt").write_text("secret")
    (root / "a").mkdir()
    (root / "a" / "plain.txt").write_text("1")
    (root / "inside.txt").symlink_to("a/plain.txt")
    (root / "to_secret.txt").symlink_to(".own/secret.txt")
    (root / "to_own").symlink_to(".own")
    (root / "out").symlink_to(tmp_path)
    (root / "circle").symlink_to("circle")
    return root


@pytest.mark.parametrize("relative", ["a/plain.txt", "inside.txt", "a", "new/file.txt"])
def test_what_stays_below_is_found(folder: Path, relative: str) -> None:
    assert confined(folder, relative).is_relative_to(folder)


@pytest.mark.parametrize(
    "relative",
    [
        *(".own/secret.txt", "to_secret.txt", "to_own/secret.txt", "a/../.own/secret.txt"),
        *("out", "circle", "/etc/passwd", "..", "../data", "", "."),
        *("a/../../data/a/plain.txt", "a/\0", "a/.hidden"),
    ],
)
def test_what_leads_elsewhere_is_refused(folder: Path, relative: str) -> None:
    with pytest.raises(PathEscapes):
        confined(folder, relative)
