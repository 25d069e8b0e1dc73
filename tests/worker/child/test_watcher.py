"""What a training process says of where it is."""

from pathlib import Path

import pytest

from nbody.watcher import Phase
from worker.child.watcher import ChildWatcher
from worker.spool import ProgressFile


def test_a_phase_that_lasts_is_told_at_once(tmp_path: Path) -> None:
    progress = ProgressFile(tmp_path / "progress")
    watcher = ChildWatcher(progress)
    watcher.phase(Phase.COLLECT)
    assert progress.read() == (1, Phase.COLLECT)
    watcher.phase(Phase.GENERALIZE)  # comes again in every epoch: told with the next sign of life
    assert progress.read() == (1, Phase.COLLECT)
    watcher.phase(Phase.EVALUATE)  # no sign of life may come for minutes
    assert progress.read() == (3, Phase.EVALUATE)


@pytest.mark.parametrize("phase", [Phase.EVALUATE, Phase.SIMULATE])
def test_what_comes_once_is_told(tmp_path: Path, phase: Phase) -> None:
    progress = ProgressFile(tmp_path / "progress")
    watcher = ChildWatcher(progress)
    watcher.tick()
    watcher.phase(phase)
    assert progress.read() == (2, phase)
