"""What an agent hands to a training process. Free of torch, so that the agent is, too."""

from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection

from nbody.cores import wait_briefly

EXIT_DISK_FULL = 28  # exit code of a process that could not even write its outcome
SMALLER = "use a smaller network, batch or number of orbits (`orrery validate` tells the size)"
CHILD = "worker.child.process"

processes = get_context("forkserver")


@dataclass(frozen=True)
class GpuPlace:
    """What a process has of a GPU.

    Attributes:
        device: for CUDA_VISIBLE_DEVICES.
        must_work: jobs that may use a GPU run on this one, or not at all.
        share: of its memory, that this process may use.
    """

    device: str
    must_work: bool
    share: float


@dataclass(frozen=True)
class Workplace:
    """Where and on what a training process works."""

    assignment: str  # JSON
    data: str
    state: str  # folder of spool, log and progress
    parent: int  # process id of the agent
    patience_s: float  # with an agent that gives no sign of life
    threads: int  # at most
    gpu: GpuPlace | None


def run_child(workplace: Workplace, pulse: Connection) -> None:
    """Entry point of a training process; torch is imported here, or already was."""
    import_module(CHILD).run(workplace, pulse)


def warm_up() -> None:
    """Start the fork server: it imports torch while the worker waits for its first job."""
    wait_briefly()
    # torch's compiler, too: optimizers import it, which takes a second in each new process.
    processes.set_forkserver_preload([__name__, CHILD, "torch._dynamo"])
    processes.Process(target=_nothing).start()


def _nothing() -> None:
    """What the first process does."""
