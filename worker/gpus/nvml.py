"""NVML, the driver's own library: which GPUs there are, one question, and an answer or none."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

import pynvml

T = TypeVar("T")
FAILURES = pynvml.NVMLError, pynvml.NVMLLibraryMismatchError
_USING, _OPEN = threading.Lock(), threading.Event()
_OPENED = [0]  # how often


def ask(question: Callable[[], T]) -> T | None:
    """What the driver says; not every GPU answers every question, nor every driver."""
    try:
        return question()
    except FAILURES:
        return None


@contextmanager
def gpus(*, anew: bool = False) -> Generator[tuple[list[list[Any]], str | None]]:
    """Every GPU of this host in the order of their buses, each with its instances where it is
    divided (MIG), else alone; and what the driver said in place of an answer.

    The library stays open: a GPU that nobody has open goes to sleep, and takes seconds to wake.

    Args:
        anew: open it again, for a GPU that was reset, or is back, is another one.
    """
    with _USING:
        if anew:
            ask(pynvml.nvmlShutdown)
            _OPEN.clear()
        yield _found()


def times_opened() -> int:
    """What was made before the library was opened again is good no more."""
    return _OPENED[0]


def _found() -> tuple[list[list[Any]], str | None]:
    try:
        if not _OPEN.is_set():
            pynvml.nvmlInit()
            _OPEN.set()
            _OPENED[0] += 1
        count = pynvml.nvmlDeviceGetCount()
    except FAILURES as error:
        _OPEN.clear()
        return [], str(error)
    found = [ask(lambda n=number: pynvml.nvmlDeviceGetHandleByIndex(n)) for number in range(count)]
    return [_instances(gpu) or [gpu] for gpu in found if gpu is not None], None


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
