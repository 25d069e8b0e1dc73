"""The GPU of a process: that it is used, that it works, and what went wrong with it."""

import os
from multiprocessing.connection import Connection

import torch

from nbody.device import why_unusable
from server.wire.states import StopReason
from worker.gpus.devices import BY_BUS
from worker.gpus.troubles import Trouble, trouble_of
from worker.workplace import GpuPlace

FIRST = torch.device("cuda", 0)
OF_OTHERS = 0.1  # of a GPU's memory
OF_LIBRARIES = 1.5 * 2**30  # bytes of it that CUDA takes for this process, at most
SPEAKS_OF_GPU = ("cuda", "nvidia", "gpu", "hip error")


class GpuUnusable(Exception):
    """The GPU that this process was given cannot be used; it is not to run on the CPU instead."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(str(trouble))
        self.trouble = trouble


def choose(place: GpuPlace | None) -> None:
    """Let this process see its GPU alone. Before the first use of CUDA."""
    if place is not None:
        os.environ.update(BY_BUS, CUDA_VISIBLE_DEVICES=place.device)


def hold_to(place: GpuPlace | None, device: str) -> None:
    """See that the GPU works, and take no more than a slot's share of its memory.

    Args:
        device: of the job's config.

    Raises:
        GpuUnusable
    """
    if place is None or not place.must_work or device == "cpu":
        return
    if trouble := trouble_of_first():
        raise GpuUnusable(trouble)
    if place.share < 1:
        torch.cuda.set_per_process_memory_fraction(place.share, FIRST)


def try_device(device_id: str, answer: Connection) -> None:
    """Use a GPU once, and say what is wrong with it, or None."""
    choose(GpuPlace(device_id, must_work=True, share=1.0))
    answer.send(trouble_of_first())


def trouble_of_first() -> Trouble | None:
    """What keeps this process from its GPU."""
    reason = why_unusable(FIRST)
    if reason is None:
        return None
    if torch.version.cuda is None and torch.version.hip is None:
        return Trouble(StopReason.DRIVER_MISMATCH, f"torch {torch.__version__} knows no GPUs")
    return trouble_of(reason) or Trouble(StopReason.GPU_FAULT, reason)


def trouble_behind(error: BaseException) -> Trouble | None:
    """What a GPU did to a run that ended with an exception; None: it was not the GPU."""
    if isinstance(error, GpuUnusable):
        return error.trouble
    words = str(error)
    if not isinstance(error, RuntimeError) or not any(w in words.lower() for w in SPEAKS_OF_GPU):
        return None
    return trouble_of(words)


def memory_of_others() -> Trouble | None:
    """Whether other processes hold so much of the GPU that a lack of memory is theirs."""
    if not torch.cuda.is_initialized():
        return None
    try:
        free, total = torch.cuda.mem_get_info(FIRST)
        others = total - free - torch.cuda.memory_reserved(FIRST)
        of_slots = 1 - torch.cuda.get_per_process_memory_fraction(FIRST)  # this worker's others
    except RuntimeError:
        return None
    if others < of_slots * total + max(OF_OTHERS * total, OF_LIBRARIES):
        return None
    what = f"others hold {others / 2**30:.1f} GiB of the GPU's {total / 2**30:.1f}"
    return Trouble(StopReason.GPU_MEMORY_TAKEN, what)
