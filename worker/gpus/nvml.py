"""NVML, the driver's own library: one question, and an answer or none."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import pynvml

logger = logging.getLogger(__name__)
T = TypeVar("T")


def ask(question: Callable[[], T]) -> T | None:
    """What the driver says; not every GPU answers every question."""
    try:
        return question()
    except pynvml.NVMLError:
        return None


def handles() -> list[Any]:
    """Every GPU of this host in the order of their buses, and of one that is divided (MIG) its
    instances; none where there is no driver, or none answers."""
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        logger.debug("no GPUs: %s", error)
        return []
    found = [ask(lambda n=number: pynvml.nvmlDeviceGetHandleByIndex(n)) for number in range(count)]
    return [part for gpu in found if gpu is not None for part in _instances(gpu) or [gpu]]


def uuid(gpu: Any) -> str | None:
    """Its name for good, by which CUDA_VISIBLE_DEVICES can choose it."""
    return _text(ask(lambda: pynvml.nvmlDeviceGetUUID(gpu)))


def name(gpu: Any) -> str:
    """Its model."""
    return _text(ask(lambda: pynvml.nvmlDeviceGetName(gpu))) or "GPU"


def memory(gpu: Any) -> Any:
    """With `total`, `used` and `free` [bytes], or None."""
    return ask(lambda: pynvml.nvmlDeviceGetMemoryInfo(gpu))


def _instances(gpu: Any) -> list[Any]:
    most = ask(lambda: pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)) or 0
    found = [
        ask(lambda n=number: pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, n))
        for number in range(most)
    ]
    return [instance for instance in found if instance is not None]


def _text(said: str | bytes | None) -> str | None:
    return said.decode(errors="replace") if isinstance(said, bytes) else said
