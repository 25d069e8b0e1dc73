"""Workers as actors of a Ray cluster: one each, detached, so that they outlive whoever asked for
them. Needs the `ray` extra here and Orrery on the cluster's nodes.
"""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from server.engines.engine import EngineUnavailable, Pilot, PilotTerms
from server.engines.lifeline import die_with_parent

NAMESPACE = "orrery"
ANSWER_S = 1.0  # in which an actor that has begun says so, at each look
REACH_S = 10.0
ADVICE = "`pip install 'orrery[ray]'`, the cluster's version of Ray"


class PilotProcess:
    """What an actor does: it keeps one worker, and ends with it, as the worker with it.

    Args:
        command: words after those that run Python, which is this node's.
        data: folder of the worker here; variables of this node are put in.
        token: of the worker, which is in a file for as long as it runs.
    """

    def __init__(self, command: Sequence[str], data: str, token: str) -> None:
        import ray  # noqa: PLC0415 - an extra

        self._process: subprocess.Popen[bytes] | None = None
        self._ray: Any = ray
        self._actor = ray.get_runtime_context().current_actor
        began = threading.Event()
        words = [sys.executable, *command, "--data", os.path.expandvars(data)]
        threading.Thread(target=self._keep, args=(words, token, began)).start()
        began.wait()

    def is_there(self) -> bool:
        """Answers where the actor has begun."""
        return True

    def stop(self) -> None:
        """Ask the worker to hand its jobs back, and to end."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def _keep(self, command: list[str], token: str, began: threading.Event) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="orrery-") as folder:
                secret = Path(folder) / "token"
                secret.touch(mode=0o600)
                secret.write_text(token, encoding="utf-8")
                # It dies with this thread, which lives as long as the actor.
                self._process = subprocess.Popen(
                    [*command, "--token-file", str(secret)],
                    stdin=subprocess.DEVNULL,
                    preexec_fn=die_with_parent,
                )
                began.set()
                self._process.wait()
        finally:
            began.set()
            self._end()

    def _end(self) -> None:
        """An actor that has no worker is none."""
        try:
            self._ray.kill(self._actor)
        except Exception:  # noqa: BLE001 - of whatever kind: it must not stay
            os._exit(1)


class RayEngine:
    """Finds its workers by the names of actors.

    Args:
        data: folder of workers.
        address: of the cluster.
        resources: that each takes, as `num_cpus`, `num_gpus` and `resources` of Ray.
        token: that workers register with.
    """

    def __init__(
        self,
        terms: PilotTerms,
        data: str,
        address: str,
        resources: dict[str, Any],
        token: str,
    ) -> None:
        try:
            import ray  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise EngineUnavailable(f"Ray is not here: {ADVICE}") from error
        self._ray: Any = ray
        self._terms, self._data, self._address = terms, data, address
        self._resources, self._token = resources, token
        # Others of the cluster, and other servers, have workers of the same names.
        whose = f"{os.getuid()} {token}".encode()
        self._namespace = f"{NAMESPACE}-{hashlib.sha256(whose).hexdigest()[:12]}"
        self._begun: set[str] = set()
        self._asked: dict[str, Any] = {}  # whether they have begun; not answered yet

    def start(self, number: int, *, kept: bool) -> list[Pilot]:
        """Ask for actors."""
        base = self._terms.base(kept=kept)
        names = [f"{base}-{uuid4().hex[:12]}" for _ in range(number)]
        with self._cluster() as ray:
            for name in names:
                options = {
                    "name": name,
                    "lifetime": "detached",
                    "max_concurrency": 4,
                    "max_restarts": 0,
                    **self._resources,
                }
                command = [*self._terms.command(kept=kept), "--name", name]
                ray.remote(PilotProcess).options(**options).remote(command, self._data, self._token)
        return [Pilot(name, name, "waits") for name in names]

    def list(self) -> list[Pilot]:
        """Actors of the pool that have not ended; those that have answered once have begun."""
        bases = {self._terms.base(kept=kept) for kept in (False, True)}
        with self._cluster() as ray:
            names = {n for n in ray.util.list_named_actors() if n.rpartition("-")[0] in bases}
            self._begun &= names
            self._asked = {name: ref for name, ref in self._asked.items() if name in names}
            for name in names - self._begun - self._asked.keys():
                with _gone_is_gone(ray):
                    self._asked[name] = ray.get_actor(name).is_there.remote()
            if self._asked:
                refs = list(self._asked.values())
                answered, _ = ray.wait(refs, num_returns=len(refs), timeout=ANSWER_S)
                self._begun |= {name for name, ref in self._asked.items() if ref in answered}
                self._asked = {n: ref for n, ref in self._asked.items() if n not in self._begun}
        begun = self._begun
        return [Pilot(name, name, "runs" if name in begun else "waits") for name in sorted(names)]

    def stop(self, pilots: Sequence[Pilot]) -> None:
        """Take back those that have not begun; tell the others."""
        with self._cluster() as ray:
            for pilot in pilots:
                with _gone_is_gone(ray):
                    actor = ray.get_actor(pilot.id)
                    if pilot.state == "runs":
                        actor.stop.remote()
                    else:
                        ray.kill(actor)

    @contextmanager
    def _cluster(self) -> Generator[Any]:
        """Ray, connected; where it fails it is connected anew the next time."""
        ray = self._ray
        try:
            if not ray.is_initialized():
                _reach(self._address)
                quiet = {"log_to_driver": False, "configure_logging": False}
                with _own_signals():
                    ray.init(address=self._address, namespace=self._namespace, **quiet)
                self._asked = {}
            yield ray
        except (ray.exceptions.RayError, OSError, RuntimeError, ValueError) as error:
            ray.shutdown()
            raise EngineUnavailable(f"Ray at {self._address}: {error}") from error


def _reach(address: str) -> None:
    """Ask a head by its address whether it is there: Ray itself tries for minutes.

    Raises:
        OSError: nobody listens there.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()


@contextmanager
def _own_signals() -> Generator[None]:
    """Ray takes SIGTERM for itself, and would end this process without a word."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _gone_is_gone(ray: Any) -> Generator[None]:
    """An actor that has ended is no error."""
    try:
        yield
    except (ray.exceptions.RayActorError, ValueError):
        return
