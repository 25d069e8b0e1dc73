"""The whole service of real processes, for those who break it: a server, an agent, its children.

What dies is started again at once, as Docker would.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from server.cli.local_service import free_port
from server.client import ApiProblem, Client, ServerUnreachable
from tests.chaos.bad_network import BadNetwork
from tests.process_tree import descendants, leads_session

SLOTS = 3
LEASE_S = 2.0
SERVER = """
import os, sys, time
path, real = sys.argv.pop(1), time.time
time.time = lambda: real() + os.stat(path).st_mtime - 1e9
from server.cli.main import main
main()
"""
AGENT = """
import os, sys
from worker import reporter
from worker.client import Unreachable
if os.environ["MEMORY"] == "forgetful":
    def forget(self):
        try:
            return deliver(self)
        except Unreachable:
            self._spool.confirm()
            raise
    deliver = reporter.Reporter.deliver
    reporter.Reporter.deliver = forget
    from nbody.training import run
    run.set_generator_states = lambda *_: None
from worker.__main__ import main
if __name__ == "__main__":
    sys.exit(main())
"""


class House:
    """A context manager: the processes run inside it.

    Args:
        forgetful: the agent takes what it sent for delivered, whether it was answered or not, and
            a run that goes on draws other random numbers.
    """

    def __init__(self, folder: Path, random: Random, *, forgetful: bool = False) -> None:
        self.data = folder / "data"
        self._clock = folder / "clock"
        self._log = folder / "service.log"
        self._memory = "forgetful" if forgetful else "careful"
        self._script = folder / "agent.py"  # a file: the fork server imports it again
        self.port = free_port("127.0.0.1")
        self.network = BadNetwork(self.port, random)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        self._script.write_text(AGENT, encoding="utf-8")
        self._clock.touch()
        self.move_clock(0.0)
        self.network.open()
        self._closing.callback(self.network.close)
        self.keep_up()
        self._closing.callback(self._end)
        url = f"http://127.0.0.1:{self.port}"
        with Client(url) as stranger:
            stranger.wait_until_ready(60)
        token = (self.data / ".orrery" / "admin.token").read_text(encoding="utf-8").strip()
        self.client = self._closing.enter_context(Client(url, token))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.close()

    def keep_up(self) -> None:
        """Start what does not run."""
        for name, command in self._commands().items():
            process = self.processes.get(name)
            if process is None or process.poll() is not None:
                self.processes[name] = self._start(name, command)

    def move_clock(self, seconds: float) -> None:
        """The server's wall clock differs from the true time by so much."""
        os.utime(self._clock, (0, 1e9 + seconds))

    def answers(self) -> bool:
        """Whether the server does."""
        try:
            return bool(self.client.health())
        except (ServerUnreachable, ApiProblem):
            return False

    def children(self) -> list[int]:
        """Training processes."""
        return [pid for pid in descendants(self.processes["agent"].pid) if leads_session(pid)]

    def pids(self, name: str) -> list[int]:
        """Of the server, the agent or the children."""
        return self.children() if name == "child" else [self.processes[name].pid]

    def _commands(self) -> dict[str, list[str]]:
        url = f"http://127.0.0.1:{self.network.port}"
        data, port = str(self.data), str(self.port)
        serve = ["-c", SERVER, str(self._clock), "serve", "--data", data, "--port", port]
        commands = {"server": serve}
        if (self.data / ".orrery" / "worker.token").exists():
            work = [str(self._script), "--server", url, "--data", data]
            commands["agent"] = [*work, "--name", "house", "--slots", str(SLOTS), "--threads", "1"]
        return commands

    def _start(self, name: str, command: list[str]) -> "subprocess.Popen[bytes]":
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "ORRERY_LEASE_TTL_S": str(LEASE_S),
            "ORRERY_HEARTBEAT_INTERVAL_S": "0.2",
            "ORRERY_WRITES_PER_MINUTE": "0",
            "MEMORY": self._memory,
        }
        with self._log.open("ab") as log:
            log.write(f"--- {time.monotonic():.2f} {name}\n".encode())
            return subprocess.Popen(
                [sys.executable, *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _end(self) -> None:
        for process in reversed(self.processes.values()):
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(60)
