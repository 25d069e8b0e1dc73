"""What an agent hands to a training process. Free of torch, so that the agent is, too."""

import os
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection

EXIT_DISK_FULL = 28  # exit code of a process that could not even write its outcome
SMALLER = "use a smaller network, batch or number of orbits (`orrery validate` tells the size)"
CHILD = "worker.child.process"
BRIEFLY = "1000"  # measured: half as slow again on an idle host, half as slow on a busy one

processes = get_context("forkserver")


@dataclass(frozen=True)
class Workplace:
    """Where and on what a training process works."""

    assignment: str  # JSON
    data: str
    state: str  # folder of spool, log and progress
    parent: int  # process id of the agent
    patience_s: float  # with an agent that gives no sign of life
    threads: int
    visible_gpu: str | None  # for CUDA_VISIBLE_DEVICES


def run_child(workplace: Workplace, pulse: Connection) -> None:
    """Entry point of a training process; torch is imported here, or already was."""
    import_module(CHILD).run(workplace, pulse)


def warm_up() -> None:
    """Start the fork server: it imports torch while the worker waits for its first job.

    Threads of a training process spin only briefly while they wait for each other: on a host with
    other work to do, spinning threads make a step several times slower.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", BRIEFLY)
    # torch's compiler, too: optimizers import it, which takes a second in each new process.
    processes.set_forkserver_preload([__name__, CHILD, "torch._dynamo"])
    processes.Process(target=_nothing).start()


def _nothing() -> None:
    """What the first process does."""
