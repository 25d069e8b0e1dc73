"""Whether jobs can use a GPU: the driver is asked for it, and torch tries it in a child."""

import logging
import threading
from collections.abc import Callable
from importlib import import_module
from multiprocessing.connection import Connection

from server.wire.states import StopReason
from worker.gpus import nvml
from worker.gpus.devices import Device
from worker.gpus.troubles import Trouble, trouble_of
from worker.workplace import processes

PROBE_S = 90.0  # for a driver to answer
CHILD = "worker.child.gpu"

logger = logging.getLogger(__name__)


def look_for(device: Device) -> Trouble | None:
    """Whether the driver still knows a GPU."""
    present = {nvml.uuid(handle) for handle in nvml.handles()}
    if device.gpu is None or device.id.isdecimal() or device.id in present:
        return None
    what = f"{device.id} ({device.gpu.name}) was here when the worker began, and is gone"
    return Trouble(StopReason.GPU_LOST, what)


def probe(device: Device) -> Trouble | None:
    """Let torch use a GPU once, in a process that may hang or die of it."""
    answer, for_child = processes.Pipe(duplex=False)
    child = processes.Process(target=_try, args=(device.id, for_child), daemon=True)
    child.start()
    for_child.close()
    try:
        if not answer.poll(PROBE_S):
            what = f"{device.id} does not answer within {PROBE_S:g} s"
            return Trouble(StopReason.GPU_FAULT, what)
        said: str | None = answer.recv()
    except EOFError:
        child.join()
        what = f"a process that tried {device.id} died, with exit code {child.exitcode}"
        return Trouble(StopReason.GPU_FAULT, what)
    finally:
        answer.close()
        child.kill()
        child.join()
    return None if said is None else trouble_of(said) or Trouble(StopReason.GPU_FAULT, said)


def _try(device_id: str, answer: Connection) -> None:
    """Entry point of the child; torch is imported here, or already was."""
    import_module(CHILD).try_device(device_id, answer)


class Fitness:
    """Of the GPUs of one worker. A GPU is probed at first, after each doubt, and while it is unfit.

    Args:
        look, probe: what is wrong with a GPU, cheaply and thoroughly.
    """

    def __init__(
        self,
        look: Callable[[Device], Trouble | None] = look_for,
        probe: Callable[[Device], Trouble | None] = probe,
    ) -> None:
        self._look, self._probe = look, probe
        self._proven: set[str] = set()
        self._troubles: dict[str, Trouble] = {}
        self._asking = threading.Lock()

    def trouble_of(self, device: Device) -> Trouble | None:
        """What was found when a GPU was looked at last."""
        return self._troubles.get(device.id)

    def is_fit(self, device: Device) -> bool:
        """Whether the next job can use a GPU."""
        with self._asking:
            trouble = self._look(device)
            if trouble is None and device.id not in self._proven:
                trouble = self._probe(device)
            self._note(device, trouble)
            return trouble is None

    def doubt(self, device: Device) -> None:
        """Something went wrong on a GPU: it is probed before the next job."""
        with self._asking:
            self._proven.discard(device.id)

    def seen(self, device: Device) -> Trouble | None:
        """What the driver says of a GPU at this moment."""
        return self._look(device)

    def _note(self, device: Device, trouble: Trouble | None) -> None:
        if trouble is None:
            self._proven.add(device.id)
            if self._troubles.pop(device.id, None) is not None:
                logger.info("%s can be used again", device.id)
            return
        self._proven.discard(device.id)
        if self._troubles.get(device.id) != trouble:
            logger.error("no jobs are taken for %s: %s", device.id, trouble)
        self._troubles[device.id] = trouble
