"""Hosts on one machine: each with a network, processes and a folder that no other one sees.

Needs root, unshare, nsenter and ip. Everything ends with the process that made it.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

TOOLS = ("unshare", "nsenter", "ip", "tc")
OWN = ("--mount", "--net", "--pid")


def why_not() -> str | None:
    """Why there can be none here, if so."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if os.getuid() or missing:
        return f"needs root and {', '.join(TOOLS)}"
    tried = subprocess.run(["unshare", *OWN, "--fork", "true"], capture_output=True, check=False)
    return tried.stderr.decode() if tried.returncode else None


@dataclass(frozen=True)
class Host:
    """One of them.

    Attributes:
        address: in the network of all.
        folder: an empty one; at the same path each host has its own.
        keeper: process that keeps its namespaces.
        started: processes, as this side knows them.
    """

    address: str
    folder: Path
    keeper: int
    started: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def _inside(self) -> list[str]:
        return ["nsenter", "--target", str(self.keeper), *OWN, "--"]

    def run(self, *command: str, **environment: str) -> str:
        """What a command prints there."""
        ran = subprocess.run(
            [*self._inside, *command],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, f"{command}: {ran.stdout}{ran.stderr}"
        return ran.stdout

    def start(self, log: str, *command: str, **environment: str) -> "subprocess.Popen[bytes]":
        """A process there; what it prints is in a file of the host's folder."""
        # The file is opened inside: outside nobody sees the folder.
        shell = ["sh", "-c", 'exec "$@" >> "$0" 2>&1', str(self.folder / log)]
        process = subprocess.Popen(
            [*self._inside, *shell, *command], env={**os.environ, **environment}
        )
        self.started.append(process)
        return process

    def python(self, log: str, *arguments: str, **environment: str) -> "subprocess.Popen[bytes]":
        """The same of Python."""
        return self.start(log, sys.executable, *arguments, **environment)

    def cut_off(self) -> None:
        """Whatever it sends is lost; who sends is not told."""
        self._shape("root", "handle", "1:", "tbf", "rate", "8bit", "burst", "10", "limit", "1")

    def slow_down(self, bits_per_second: int) -> None:
        """It sends no faster."""
        rate = f"{bits_per_second}bit"
        self._shape("root", "handle", "1:", "tbf", "rate", rate, "burst", "32kb", "latency", "50ms")

    def speed_up(self) -> None:
        """As at first."""
        self.run("tc", "qdisc", "del", "dev", "eth0", "root")

    def _shape(self, *how: str) -> None:
        self.run("tc", "qdisc", "replace", "dev", "eth0", *how)

    def lose(self) -> None:
        """All its processes end at once, and what they wrote is gone."""
        os.kill(self.keeper, signal.SIGKILL)


@contextmanager
def hosts(number: int, folder: Path) -> Generator[list[Host]]:
    """Hosts in one network; gone thereafter.

    Args:
        folder: that each has a folder of its own at.
    """
    found: list[Host] = []
    with ExitStack() as stack:
        switch = stack.enter_context(_kept(folder))
        _ip(switch, "link add switch type bridge")
        _ip(switch, "link set switch up")
        for each in range(number):
            keeper = stack.enter_context(_kept(folder))
            _ip(switch, f"link add port{each} type veth peer name eth0 netns {keeper}")
            _ip(switch, f"link set port{each} master switch up")
            address = f"10.77.0.{each + 1}"
            _ip(keeper, f"address add {address}/24 dev eth0")
            _ip(keeper, "link set eth0 up")
            found.append(Host(address, folder, keeper))
        yield found
    for process in (process for host in found for process in host.started):
        process.wait()


@contextmanager
def _kept(folder: Path) -> Generator[int]:
    """The process id of the first process in new namespaces, with an empty folder."""
    enter = 'mount -t tmpfs none "$0" && ip link set lo up && echo ready && exec sleep infinity'
    outer = subprocess.Popen(
        ["unshare", *OWN, "--fork", "--kill-child", "--mount-proc", "sh", "-c", enter, str(folder)],
        stdout=subprocess.PIPE,
    )
    try:
        assert outer.stdout is not None
        assert outer.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        yield int(children[0])
    finally:
        outer.kill()
        outer.wait()
        if outer.stdout is not None:
            outer.stdout.close()


def _ip(keeper: int, arguments: str) -> None:
    inside = ["nsenter", "--target", str(keeper), "--net", "--", "ip"]  # others' ids are outside
    subprocess.run([*inside, *arguments.split()], check=True)
