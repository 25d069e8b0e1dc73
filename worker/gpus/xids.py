"""Xid errors: the numbers that the driver writes into the kernel's log when a GPU fails, as it
tells them to whoever asks (https://docs.nvidia.com/deploy/xid-errors).
"""

import ctypes
import threading
from collections.abc import Iterable
from typing import Any

import pynvml

from worker.gpus import nvml

KIND = pynvml.nvmlEventTypeXidCriticalError
PATIENCE_S = 2.0
MOST_AT_ONCE = 1000  # of a GPU that fails again and again


class Xids:
    """The last one of each GPU since the first question; a driver that tells none has none."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._events: Any = None
        self._uuids: dict[int, str] = {}  # by the addresses of their handles
        self._opened = -1  # how often the library had been, when `_events` was made
        self._last: dict[str, int] = {}

    def soon(self) -> dict[str, int]:
        """The same, of a driver that may hang: what is known by then."""
        asking = threading.Thread(target=self.last, daemon=True)
        asking.start()
        asking.join(PATIENCE_S)
        return dict(self._last)

    def last(self) -> dict[str, int]:
        """By the GPU's UUID."""
        with self._asking, nvml.gpus() as (found, _):
            if self._opened != nvml.times_opened():
                self._opened = nvml.times_opened()
                self._listen(gpu for parts in found for gpu in parts)
            for _ in range(MOST_AT_ONCE if self._events is not None else 0):
                event: Any = nvml.ask(lambda: pynvml.nvmlEventSetWait_v2(self._events, 0))
                if event is None:
                    break
                if event.eventType == KIND:
                    gpu = self._uuids.get(_address(event.device), "")
                    self._last[gpu] = int(event.eventData)
            return dict(self._last)

    def _listen(self, gpus: Iterable[Any]) -> None:
        self._events = nvml.ask(pynvml.nvmlEventSetCreate)
        self._uuids = {}
        for gpu in gpus if self._events is not None else ():
            # A GPU that has fallen off its bus does not say which one it is.
            self._uuids[_address(gpu)] = nvml.uuid(gpu) or ""
            nvml.ask(lambda gpu=gpu: pynvml.nvmlDeviceRegisterEvents(gpu, KIND, self._events))


def _address(gpu: Any) -> int:
    """What is the same of two handles of one GPU."""
    is_pointer = isinstance(gpu, pynvml.c_nvmlDevice_t)
    return ctypes.cast(gpu, ctypes.c_void_p).value or 0 if is_pointer else id(gpu)
