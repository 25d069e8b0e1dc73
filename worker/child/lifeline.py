"""A training process holds on to its agent: without it, nobody would end it when its lease ends.

The agent gives a pulse while it lives; when that stops for nearly the time of a lease, somebody
else may soon begin the job, and the process ends itself. An agent that dies is noticed at once.
"""

import os
import signal
import threading
from multiprocessing import forkserver
from multiprocessing.connection import Connection

MOST_PULSES = 4096  # bytes read at once


def hold_on(pulse: Connection, patience_s: float) -> None:
    """End this process's group when the agent is gone, or silent for too long.

    Args:
        pulse: the end of the pipe that the agent writes to.
    """
    _let_go_of_fork_server()
    threading.Thread(target=_feel, args=(pulse, patience_s), name="lifeline", daemon=True).start()


def _feel(pulse: Connection, patience_s: float) -> None:
    """The group is this process's own: it leads it."""
    while pulse.poll(patience_s) and os.read(pulse.fileno(), MOST_PULSES):
        pass
    os.killpg(0, signal.SIGKILL)


def _let_go_of_fork_server() -> None:
    """The fork server lives as long as anybody holds this descriptor, and all that it forks has it.

    It must end with the agent, and these processes with it, also when they are stopped.
    """
    held: int | None = getattr(forkserver, "_forkserver").__dict__.get("_forkserver_alive_fd")  # noqa: B009 - private
    if held is not None:
        os.close(held)
