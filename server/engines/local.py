"""Workers as processes of this machine, which outlive whoever started them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import count, islice, pairwise
from pathlib import Path

from server.engines.engine import EngineUnavailable, Pilot, PilotTerms, without_tokens

PROCESSES = Path("/proc")
CHOICE = "CUDA_VISIBLE_DEVICES"


class LocalEngine:
    """Finds its workers by their command lines.

    Args:
        data: folder of the workers.
        gpus: each for one worker; none: all see what this process sees.
    """

    def __init__(
        self, terms: PilotTerms, data: Path, token_file: Path, gpus: Sequence[str] = ()
    ) -> None:
        if not PROCESSES.joinpath("self").exists():
            raise EngineUnavailable(f"it needs {PROCESSES}, which this system does not have")
        self._terms, self._data, self._gpus = terms, data, gpus
        self._place = ["--data", str(data), "--token-file", str(token_file)]
        self._own: list[subprocess.Popen[bytes]] = []
        self._logs = data / ".orrery" / "pilots"

    def start(self, number: int, *, kept: bool) -> list[Pilot]:
        """Start processes in sessions of their own."""
        there = self.list()
        names = {pilot.name for pilot in there}
        base, command = self._terms.base(kept=kept), self._terms.command(kept=kept)
        free = (name for name in (f"{base}-{n}" for n in count(1)) if name not in names)
        taken = {_environment(pilot.id).get(CHOICE) for pilot in there}
        gpus = [gpu for gpu in self._gpus if gpu not in taken]
        number = min(number, len(gpus)) if self._gpus else number
        started: list[Pilot] = []
        try:
            self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
            for place, name in enumerate(islice(free, number)):
                with (self._logs / f"{name}.log").open("ab") as log:
                    process = subprocess.Popen(
                        [sys.executable, *command, *self._place, "--name", name],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        env=without_tokens() | ({CHOICE: gpus[place]} if gpus else {}),
                        start_new_session=True,
                    )
                self._own.append(process)
                _await_command_line(process)
                started.append(Pilot(str(process.pid), name, "runs"))
        except OSError as error:
            raise EngineUnavailable(f"cannot start a worker: {error}") from error
        return started

    def list(self) -> list[Pilot]:
        """Those processes that are not over."""
        ids = (folder.name for folder in PROCESSES.iterdir() if folder.name.isdecimal())
        found = ((pid, self._name_of(pid)) for pid in ids)
        pilots = [Pilot(pid, name, "runs") for pid, name in found if name is not None]
        self._own = [process for process in self._own if process.poll() is None]
        return pilots

    def stop(self, pilots: Sequence[Pilot]) -> None:
        """Ask them to end."""
        for pilot in pilots:
            with suppress(ProcessLookupError):
                process = os.pidfd_open(int(pilot.id))
                try:
                    if self._name_of(pilot.id) == pilot.name:  # and not one that has its number now
                        signal.pidfd_send_signal(process, signal.SIGTERM)
                finally:
                    os.close(process)

    def _name_of(self, pid: str) -> str | None:
        """The name of a worker of this pool and folder, if a process is one."""
        words = _read(pid, "cmdline")
        options = dict(pairwise(words))
        name = options.get("--name", "")
        is_ours = (
            options.get("-m") == "worker"
            and options.get("--data") == str(self._data)
            and name.rpartition("-")[0] in {self._terms.base(kept=kept) for kept in (True, False)}
        )
        return name if is_ours and _leads_session(int(pid)) else None


def _await_command_line(process: "subprocess.Popen[bytes]") -> None:
    """Nobody finds it before the system has written that down, a moment after it began."""
    while process.poll() is None and not any(_read(str(process.pid), "cmdline")):
        time.sleep(0.001)


def _leads_session(pid: int) -> bool:
    """What a worker starts does not go by its name."""
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def _environment(pid: str) -> dict[str, str]:
    return {key: value for key, _, value in (word.partition("=") for word in _read(pid, "environ"))}


def _read(pid: str, what: str) -> list[str]:
    """Texts of a process; none where it is over, or another user's."""
    try:
        content = (PROCESSES / pid / what).read_bytes()
    except OSError:
        return []
    return content.decode(errors="replace").rstrip("\0").split("\0")
