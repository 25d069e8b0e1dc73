"""What workers have left that do not come again, as those of a batch system that has numbers."""

import fcntl
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from worker.wandb_journal import untold

LEFT_S = 86400.0  # since anything changed
NOTED_S = 30 * 86400.0  # and so long, where a note says that there were GPUs
logger = logging.getLogger(__name__)


def clear_abandoned(own: Path) -> None:
    """Take away folders of other workers in this data folder that none has used for a day.

    Their leases are long over. What W&B is still to be told stays, and for thirty days a note of
    GPUs.

    Args:
        own: the folder of this worker, beside theirs.
    """
    for folder in own.parent.iterdir():
        with suppress(OSError):  # another one does the same, or it is not ours to take
            age_s = time.time() - max(_changes(folder))
            if folder != own and age_s > LEFT_S and not untold(folder / "scratch"):
                _clear(folder, is_noted=age_s < NOTED_S and any(folder.glob("gpus-*")))


def _clear(folder: Path, *, is_noted: bool) -> None:
    left = [path for path in folder.iterdir() if path.is_dir()]
    if is_noted and not left:
        return
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        logger.info("what %s left is taken away: nobody used it for a day", folder.name)
        for path in left:
            shutil.rmtree(path)
        if not is_noted:
            shutil.rmtree(folder)


def _changes(folder: Path) -> Iterator[float]:
    yield folder.lstat().st_mtime
    for path in folder.rglob("*"):
        yield path.lstat().st_mtime
