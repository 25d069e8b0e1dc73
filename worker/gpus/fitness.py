"""Whether jobs can use a GPU: the driver is asked for it, and torch tries it in a child."""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection

from server.wire.states import StopReason
from worker.gpus import nvml
from worker.gpus.devices import CHOICE, Device
from worker.gpus.troubles import Trouble, trouble_of
from worker.workplace import processes

LOOK_S, PROBE_S = 20.0, 90.0  # for a driver to answer
SLICE_S = 0.5  # in which somebody who stops is seen
DEATH_S = 5.0  # for a process that is killed; one that hangs in the driver does not die
TAKEN_S = 120.0  # after which a GPU that others use is tried again
CHILD = "worker.child.gpu"

logger = logging.getLogger(__name__)


def look_for(device: Device) -> Trouble | None:
    """Whether the driver still knows a GPU. A driver may hang: the question is another thread's."""
    answers: list[Trouble | None] = []
    asking = threading.Thread(target=lambda: answers.append(_look_for(device)), daemon=True)
    asking.start()
    asking.join(LOOK_S)
    if not answers:
        return Trouble(StopReason.GPU_FAULT, f"the driver does not answer within {LOOK_S:g} s")
    return answers[0]


def _look_for(device: Device) -> Trouble | None:
    if device.gpu is None:
        what = f"{CHOICE} names {device.id}, which the driver did not know when the worker began"
        return Trouble(StopReason.GPU_LOST, what)
    for anew in (False, True):
        with nvml.gpus(anew=anew) as (found, failure):
            present = {nvml.uuid(handle) for parts in found for handle in parts}
        if device.id.isdecimal() or device.id in present:
            return None
    if failure is not None and (trouble := trouble_of(failure)) is not None:
        return trouble
    what = f"{device.id} ({device.gpu.name}) was here when the worker began, and is gone"
    return Trouble(StopReason.GPU_LOST, f"{what}: {failure}" if failure else what)


def probe(device: Device, stopping: threading.Event) -> Trouble | None:
    """Let torch use a GPU once, in a process that may hang or die of it."""
    answer, for_child = processes.Pipe(duplex=False)
    child = processes.Process(target=_try, args=(device.id, for_child), daemon=True)
    child.start()
    for_child.close()
    deadline = time.monotonic() + PROBE_S
    try:
        while not answer.poll(SLICE_S):
            if time.monotonic() > deadline or stopping.is_set():
                what = f"{device.id} does not answer within {PROBE_S:g} s"
                return Trouble(StopReason.GPU_FAULT, what)
        return answer.recv()
    except EOFError:
        child.join(DEATH_S)
        what = f"a process that tried {device.id} died, with exit code {child.exitcode}"
        return Trouble(StopReason.GPU_FAULT, what)
    finally:
        answer.close()
        child.kill()
        child.join(DEATH_S)


def _try(device_id: str, answer: Connection) -> None:
    """Entry point of the child; torch is imported here, or already was."""
    import_module(CHILD).try_device(device_id, answer)


@dataclass
class _State:
    """Of one GPU."""

    asking: threading.Lock = field(default_factory=threading.Lock)
    is_proven: bool = False
    trouble: Trouble | None = None
    held_until: float = 0.0  # [s, monotonic]


class Fitness:
    """Of the GPUs of one worker. A GPU is probed at first, after each doubt, and while it is unfit.

    Args:
        stopping: ends what takes long.
        look, probe: what is wrong with a GPU, cheaply and thoroughly.
    """

    def __init__(
        self,
        stopping: threading.Event,
        look: Callable[[Device], Trouble | None] = look_for,
        probe: Callable[[Device, threading.Event], Trouble | None] = probe,
    ) -> None:
        self._stopping, self._look, self._probe = stopping, look, probe
        self._states: dict[str, _State] = defaultdict(_State)

    def trouble_of(self, device: Device) -> Trouble | None:
        """What was found when a GPU was looked at last."""
        return self._states[device.id].trouble

    def is_fit(self, device: Device) -> bool:
        """Whether the next job can use a GPU."""
        state = self._states[device.id]
        with state.asking:
            if time.monotonic() < state.held_until:
                return False
            trouble = self._look(device)
            if trouble is None and not state.is_proven:
                trouble = self._probe(device, self._stopping)
            if self._stopping.is_set():
                return False
            state.is_proven = trouble is None
            _tell(device, state.trouble, trouble)
            state.trouble = trouble
            return trouble is None

    def doubt(self, device: Device, trouble: Trouble | None = None) -> None:
        """Something went wrong on a GPU: it is probed before the next job.

        Args:
            trouble: that a probe does not see; for a while no job is taken.
        """
        state = self._states[device.id]
        state.is_proven = False
        if trouble is not None:
            _tell(device, state.trouble, trouble)
            state.trouble, state.held_until = trouble, time.monotonic() + TAKEN_S

    def seen(self, device: Device) -> Trouble | None:
        """What the driver says of a GPU at this moment."""
        return self._look(device)


def _tell(device: Device, before: Trouble | None, now: Trouble | None) -> None:
    if now is not None and now != before:
        logger.error("no jobs are taken for %s: %s", device.id, now)
    elif now is None and before is not None:
        logger.info("%s can be used again", device.id)
