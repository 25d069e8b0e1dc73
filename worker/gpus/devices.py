"""Which GPUs a worker's jobs may use."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from server.wire.workers import Gpu
from worker.gpus import nvml

BY_BUS = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # numbers mean the same as in nvidia-smi


@dataclass(frozen=True)
class Device:
    """A GPU, or an instance of one that is divided.

    Attributes:
        id: for CUDA_VISIBLE_DEVICES; its UUID, where the driver knows it.
        gpu: what is told of it; None: the driver does not know it.
    """

    id: str
    gpu: Gpu | None = None


def find_devices() -> list[Device]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, or all; what it names and nobody knows, too."""
    known: list[Device] = []
    for number, handle in enumerate(nvml.handles()):
        memory = nvml.memory(handle)
        gpu = Gpu(name=nvml.name(handle)[:200], memory_bytes=memory.total if memory else 0)
        known.append(Device(nvml.uuid(handle) or str(number), gpu))
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return known
    names = [name.strip() for name in chosen.split(",") if name.strip()]
    return [_named(name, known) for name in names]


def _named(name: str, known: Sequence[Device]) -> Device:
    """By its number, or by the beginning of its UUID, as CUDA reads them."""
    if name.isdecimal() and int(name) < len(known):
        return known[int(name)]
    return next((device for device in known if device.id.startswith(name)), Device(name))
