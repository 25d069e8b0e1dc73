"""Server and workers on this machine, kept running: `orrery up`."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from nbody.cores import usable_cores
from server.cli.connection import EXIT_NO_ANSWER, CommandFailed, connect
from server.client import ServerUnreachable
from server.engines.lifeline import die_with_parent
from server.settings import ServerSettings

STOP_TIMEOUT_S = 20.0
RESTART_DELAY_S = 0.5
STABLE_AFTER_S = 10.0
MOST_QUICK_DEATHS = 5


class ServiceFailed(CommandFailed):
    """A process of the service dies as often as it is started."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(
            f"the {name} ended (exit code {code}); its output says why", EXIT_NO_ANSWER
        )


@dataclass
class Supervised:
    """One process that is started again when it dies."""

    name: str
    command: list[str]
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    quick_deaths: int = 0

    def start(self) -> None:
        """Start it; it gets SIGTERM when this process dies."""
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is ours to pass on
            preexec_fn=die_with_parent,
        )

    def restart_if_dead(self) -> None:
        """Start it again where it died.

        Raises:
            ServiceFailed: it keeps dying right after its start.
        """
        if self.process is None or self.process.poll() is None:
            return
        quick = time.monotonic() - self.started_at < STABLE_AFTER_S
        self.quick_deaths = self.quick_deaths + 1 if quick else 0
        if self.quick_deaths >= MOST_QUICK_DEATHS:
            raise ServiceFailed(self.name, self.process.returncode)
        self.start()

    def stop(self) -> None:
        """Ask it to end, and wait; kill it where it does not."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass
class LocalService:
    """A server and its workers; a context manager that ends them cleanly."""

    settings: ServerSettings
    workers: int
    processes: list[Supervised] = field(default_factory=list)
    failure: ServiceFailed | None = None

    def __post_init__(self) -> None:
        self._stopping, self._stopped = threading.Event(), threading.Event()
        self._changing = threading.Lock()
        self._monitor = threading.Thread(target=self._keep_running, name="supervisor")
        settings = self.settings
        python = [sys.executable, "-P", "-m"]  # not from the current folder
        data, port = str(settings.data), str(settings.port)
        serve = ["server", "serve", "--host", settings.host, "--port", port, "--data", data]
        if not settings.auth:
            serve.append("--no-auth")
        self.processes = [Supervised("server", [*python, *serve])]
        threads = max(1, usable_cores() // max(self.workers, 1))
        for number in range(self.workers):
            work = ["worker", "--server", self.url, "--data", data, "--name", f"up-{number}"]
            work += ["--token-file", str(settings.worker_token_path), "--threads", str(threads)]
            self.processes.append(Supervised(f"worker {number}", [*python, *work]))

    @property
    def url(self) -> str:
        """The server's address."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.settings.host, self.settings.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.settings.port}"

    def start_server(self) -> None:
        """Start the server alone; workers need the token that it makes."""
        self.processes[0].start()

    def wait_until_ready(self, seconds: float) -> None:
        """Return once the server answers.

        Raises:
            ServiceFailed: it ended. CommandFailed: it does not answer in time.
        """
        deadline = time.monotonic() + seconds
        server = self.processes[0].process
        with connect(self.url, None) as client:
            while True:
                if server is not None and server.poll() is not None:
                    raise ServiceFailed("server", server.returncode)
                try:
                    client.health()
                except ServerUnreachable:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
                else:
                    return

    def start_workers(self) -> None:
        """Start the workers, and from now on start again what dies."""
        for worker in self.processes[1:]:
            worker.start()
        self._monitor.start()

    def wait(self) -> int:
        """Until Ctrl-C or SIGTERM (0), or until something keeps failing.

        Raises:
            ServiceFailed
        """
        try:
            while self.failure is None:
                time.sleep(0.2)
        except KeyboardInterrupt:
            return 0
        raise self.failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        try:
            with self._changing:
                for process in reversed(self.processes):  # workers first: they hand back their jobs
                    process.stop()
        finally:
            self._stopped.set()
        if self._monitor.is_alive():
            self._monitor.join()

    def _keep_running(self) -> None:
        """Restart what dies. The thread lives as long as what it started: they die with it."""
        while not self._stopping.wait(RESTART_DELAY_S) and self.failure is None:
            with self._changing:
                if not self._stopping.is_set():
                    self._restart_dead()
        self._stopped.wait()

    def _restart_dead(self) -> None:
        for process in self.processes:
            try:
                process.restart_if_dead()
            except ServiceFailed as error:
                self.failure = error
                return


def free_port(host: str) -> int:
    """A port that nobody listens on right now."""
    with socket.create_server((host, 0), family=_family(host)) as listener:
        return listener.getsockname()[1]


def check_port(host: str, port: int) -> None:
    """Raises OSError where somebody listens on the port already."""
    try:
        socket.create_server((host, port), family=_family(host)).close()
    except OSError as error:
        what = f"cannot listen on {host}:{port}: {error.strerror}"
        raise OSError(f"{what}; end what listens there, or use --port") from error


def check_socket(path: Path) -> None:
    """Raises OSError where somebody listens there already, or nobody can."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):  # nobody, or one that was killed
            pass
        except OSError as error:
            raise OSError(f"cannot listen on {path}: {error.strerror or error}") from error
        else:
            raise OSError(f"cannot listen on {path}: somebody does; end that one first")
    if path.exists() and not path.is_socket():
        raise OSError(f"cannot listen on {path}: it is a file")
    if not os.access(path.absolute().parent, os.W_OK):
        raise OSError(f"cannot listen on {path}: its folder is not there, or not yours to write")


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def on_termination(action: Callable[[], None]) -> None:
    """Call `action` on SIGTERM, as Ctrl-C does on SIGINT."""

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        signal.signal(number, signal.SIG_IGN)  # once is enough: what follows must not be cut short
        action()

    signal.signal(signal.SIGTERM, handle)


def ignore_hangups() -> None:
    """A closed terminal, and logrotate's HUP and USR1, end nothing: the log goes to stderr."""
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
