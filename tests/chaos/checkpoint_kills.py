"""The writer of checkpoints is killed at any moment: what is under its name is whole."""

import hashlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from nbody.durable_file import write_durably
from tests.chaos.proof import Counted

PIECE = 2**14
NAMES = 3
LONGEST_LIFE_S = 0.012


def run(random: Random, rounds: int, folder: Path, protected: bool) -> Counted:
    """Files of 16 to 400 KB, written one over the other by a process that dies."""
    write = _durably if protected else _naively
    broken = 0
    for number in range(rounds):
        child = os.fork()
        if child == 0:
            _write_for_ever(Random(f"{number} {random.random()}"), folder, write)
        time.sleep(random.uniform(0, LONGEST_LIFE_S))  # any moment
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        broken += any(not _is_whole(path) for path in folder.glob("checkpoint_*.pt"))
        for path in folder.iterdir():
            path.unlink()
    return Counted(rounds, broken)


def _write_for_ever(random: Random, folder: Path, write: Callable[[Path, bytes], None]) -> None:
    while True:
        body = random.randbytes(random.randrange(1, 25) * PIECE)
        name = folder / f"checkpoint_{random.randrange(NAMES)}.pt"
        write(name, hashlib.sha256(body).digest() + body)


def _durably(path: Path, content: bytes) -> None:
    write_durably(path, lambda temporary: _in_pieces(temporary, content))


def _naively(path: Path, content: bytes) -> None:
    """The control: as `torch.save` does by itself."""
    _in_pieces(path, content)


def _in_pieces(path: Path, content: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        for begin in range(0, len(content), PIECE):
            file.write(content[begin : begin + PIECE])


def _is_whole(path: Path) -> bool:
    content = path.read_bytes()
    return hashlib.sha256(content[32:]).digest() == content[:32]
