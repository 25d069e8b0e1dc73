"""Which GPUs a worker's jobs may use."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from server.wire.workers import Gpu
from worker.gpus import nvml

BY_BUS = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # numbers mean the same as in nvidia-smi
CHOICE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Device:
    """A GPU, or an instance of one that is divided.

    Attributes:
        id: for CUDA_VISIBLE_DEVICES; its UUID, where the driver knows it.
        gpu: what is told of it; None: the driver does not know it.
        must_work: no job is to run where this one does not, not even on the CPU.
    """

    id: str
    gpu: Gpu | None = None
    must_work: bool = True


def find_devices() -> list[Device]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, or all; what it names and nobody knows, too: a
    GPU that is missing, where there are others."""
    with nvml.gpus() as (found, _):
        known = [[_device(handle, n) for handle in parts] for n, parts in enumerate(found)]
    chosen = os.environ.get(CHOICE)
    if chosen is None:
        return [device for parts in known for device in parts]
    names = [name.strip() for name in chosen.split(",") if name.strip()]
    return [device for name in names for device in _named(name, known)]


def _device(handle: Any, number: int) -> Device:
    memory = nvml.memory(handle)
    gpu = Gpu(name=nvml.name(handle)[:200], memory_bytes=memory.total if memory else 0)
    return Device(nvml.uuid(handle) or str(number), gpu)


def _named(name: str, known: Sequence[Sequence[Device]]) -> Sequence[Device]:
    """By a GPU's number, which stands for all of its instances, or the beginning of a UUID."""
    if name.isdecimal() and int(name) < len(known):
        return known[int(name)]
    every = [device for parts in known for device in parts]
    found = [device for device in every if device.id.startswith(name)][:1]
    return found or [Device(name, must_work=bool(known))]
