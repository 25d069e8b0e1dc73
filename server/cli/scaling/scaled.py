"""What every engine's command does: look, start, and end in the end.

What it needs of engines and of the server is imported where it is needed.
"""

import inspect
import logging
import re
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.cli.connection import EXIT_NO_ANSWER, EXIT_USAGE, CommandFailed, connect
from server.cli.moving import label
from server.cli.scaling.options import COMMON

if TYPE_CHECKING:
    from server.client import Client
    from server.engines.controller import Controller
    from server.engines.engine import Engine, PilotTerms
    from server.wire.demand import Demand

KEPT_IDLE_S = 3600.0  # so that those of --min end, too, when nobody asks for them any more
END_PATIENCE_S = 120.0  # in which workers hand back what they have
FAREWELL_S = 30.0  # before its end a worker takes no more jobs
ANY_GPU = 2**50  # bytes: as much as a job may ask for

SELF = re.compile(r"https?://(localhost|127\.|\[::1\])")
FINAL = {401, 403, 422}  # answers that stay; anything else may be a proxy's, for a while

logger = logging.getLogger("server.engines")


@dataclass(frozen=True)
class Pool:
    """What workers have in common, whatever runs them.

    Attributes:
        data: folder of workers, as where they run.
        token_file: with the token that they register with.
        slots: of each.
        most: that there may be.
    """

    terms: "PilotTerms"
    data: str
    token_file: Path
    slots: int
    most: int

    @property
    def token(self) -> str:
        """That they register with."""
        return self.token_file.read_text(encoding="utf-8").strip()


@dataclass(frozen=True)
class Ready:
    """An engine, and what its workers are like.

    Attributes:
        have_gpus: whether they have GPUs.
        there_s: how long each is there [s], where there is an end.
        elsewhere: whether they may run on other hosts.
    """

    engine: "Engine"
    have_gpus: bool
    there_s: float | None = None
    elsewhere: bool = True


def autoscaled(command: Callable[..., Ready]) -> Callable[..., None]:
    """Give a command that makes an engine the options that all have, and scale by it."""
    own = list(inspect.signature(command).parameters.values())[1:]

    @wraps(command)
    def run(**options: Any) -> None:
        common = {parameter.name: options.pop(parameter.name) for parameter in COMMON}
        _scale(command, options, **common)

    run.__dict__["__signature__"] = inspect.Signature(own + COMMON)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in own + COMMON}
    return run


def _scale(
    make: Callable[..., Ready],
    options: dict[str, Any],
    *,
    most: int,
    least: int,
    idle_exit: float,
    interval: float,
    once: bool,
    leave: bool,
    name: str,
    slots: int,
    threads: int,
    labels: list[str] | None,
    gpu_memory: float | None,
    url: str,
    data: str,
    token_file: Path | None,
    authorities: Path | None,
) -> None:
    from server.engines.controller import Controller, ServerAway
    from server.engines.engine import POOL, EngineUnavailable, PilotTerms
    from server.engines.plan import Bounds
    from server.log_format import configure

    configure("text")
    if least > most:
        raise CommandFailed("--min is more than --max", EXIT_USAGE)
    if not POOL.fullmatch(name):
        what = "--name: 1 to 32 letters, digits, '_' or '-', not beginning with '-'"
        raise CommandFailed(what, EXIT_USAGE)
    labelled = dict(map(label, labels or []))
    words = [f"--server={url}", f"--slots={slots}"]
    words += [f"--threads={threads}"] if threads else []
    words += [*(f"--label={key}={text}" for key, text in labelled.items())]
    if authorities is not None:
        words.append(f"--ca={authorities.absolute()}")
    terms = PilotTerms(name, tuple(words), idle_exit, max(idle_exit, KEPT_IDLE_S))
    token_file = (token_file or Path(data, ".orrery", "worker.token")).absolute()
    pool = Pool(terms, data, token_file, slots, most)
    try:
        ready = make(pool, **options)
        if ready.elsewhere and SELF.match(url):
            logger.warning("%s is another host where workers run; say --server", url)
        with connect(url, pool.token, str(pool.token_file), authorities) as client:
            _check_is_workers(client, pool.token_file)
            gpu_bytes = ANY_GPU if gpu_memory is None else int(gpu_memory * 2**30) // slots
            asked: dict[str, Any] = {
                "names": name,
                "labels": [f"{key}={text}" for key, text in labelled.items()],
                "gpu_memory": gpu_bytes if ready.have_gpus or gpu_memory else 0,
            }
            if ready.there_s is not None:
                asked["left_s"] = min(max(ready.there_s - FAREWELL_S, 0.0), 1e9)
            controller = Controller(
                ready.engine, _asking(client, asked), Bounds(least, most, slots), interval
            )
            if once:
                controller.look()
            else:
                _run(controller, leave=leave)
    except (EngineUnavailable, ServerAway) as error:
        raise CommandFailed(str(error), EXIT_NO_ANSWER) from error


def _check_is_workers(client: "Client", token_file: Path) -> None:
    """Workers would be refused with any other token, one after the other."""
    session = client.session()
    if session["needs_token"] and session["role"] != "worker":
        what = f"{token_file} has a token of role {session['role']}; workers need a worker's"
        raise CommandFailed(f"{what} (`orrery token create NAME --role worker`)", EXIT_NO_ANSWER)


def _asking(client: "Client", asked: dict[str, Any]) -> "Callable[[], Demand]":
    """What there is to do, again and again; a token that is refused ends it."""
    from server.client import ApiProblem, ServerUnreachable
    from server.engines.controller import ServerAway
    from server.wire.demand import Demand

    def ask() -> Demand:
        try:
            return Demand.model_validate(client.demand(**asked))
        except ServerUnreachable as error:
            raise ServerAway(str(error)) from error
        except ApiProblem as error:
            if error.status in FINAL:
                raise
            raise ServerAway(str(error)) from error

    return ask


def _run(controller: "Controller", *, leave: bool) -> None:
    """Until a signal; a second one leaves workers as they are. Who does not answer at first is not
    asked again: there may be no such cluster, or no such server."""
    stopping = threading.Event()

    def stop(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    controller.ask()
    controller.run(stopping)
    if leave:
        logger.info("workers are left; they end when they find no work")
        return
    if left := controller.end(END_PATIENCE_S):
        names = ", ".join(pilot.name for pilot in left)
        what = f"not ended within {END_PATIENCE_S:.0f} s, and left to it: {names}"
        raise CommandFailed(what, EXIT_NO_ANSWER)
    logger.info("none is left")
