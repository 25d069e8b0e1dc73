"""A training process ends with its agent, and with its agent's silence."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

HOLDS_ON = """
import os, sys
from multiprocessing.connection import Connection
from worker.child.lifeline import hold_on
os.setsid()
hold_on(Connection(int(sys.argv[1]), writable=False), float(sys.argv[2]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):  # a test closed it
            os.close(end)


def _holding_on(pipe: tuple[int, int], patience_s: float) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", HOLDS_ON, str(pipe[0]), str(patience_s)]
    process = subprocess.Popen(
        command, pass_fds=pipe[:1], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_it_ends_at_once_when_its_agent_is_gone(pipe: tuple[int, int]) -> None:
    with _holding_on(pipe, 600.0) as process:
        os.write(pipe[1], b"..")
        os.close(pipe[1])
        assert process.wait(20) == -signal.SIGKILL


def test_it_ends_when_its_agent_is_silent_for_too_long(pipe: tuple[int, int]) -> None:
    with _holding_on(pipe, 0.2) as process:
        assert process.wait(20) == -signal.SIGKILL


def test_it_lives_while_its_agent_does(pipe: tuple[int, int]) -> None:
    with _holding_on(pipe, 600.0) as process:
        for _ in range(3):
            os.write(pipe[1], b"." * 5000)
        process.communicate()
        assert process.returncode == 0
