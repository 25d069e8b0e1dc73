"""A driver that says what a test lets it say."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from worker.gpus import nvml


@dataclass
class FakeGpu:
    """One GPU, or an instance of one.

    Attributes:
        is_lost: it is counted, and answers nothing.
        others: memory of processes, by their numbers.
    """

    uuid: str
    name: str = "NVIDIA H200"
    total: int = 80
    used: int = 10
    is_lost: bool = False
    throttle: int = 0
    instances: list["FakeGpu"] = field(default_factory=list)
    others: dict[int, int] = field(default_factory=dict)
    unanswered: set[str] = field(default_factory=set)
    xids: list[int] = field(default_factory=list)


def _unsupported(*_: Any) -> Any:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> list[FakeGpu]:
    """The GPUs of this host; change the list as you like."""
    gpus: list[FakeGpu] = []
    monkeypatch.setattr(nvml, "_OPEN", threading.Event())

    def of(answer: Callable[..., Any], name: str) -> Callable[..., Any]:
        def asked(gpu: FakeGpu, *more: Any) -> Any:
            if gpu.is_lost:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
            return _unsupported() if name in gpu.unanswered else answer(gpu, *more)

        return asked

    def instance(gpu: FakeGpu, number: int) -> FakeGpu:
        return gpu.instances[number] if number < len(gpu.instances) else _unsupported()

    answers: dict[str, Callable[..., Any]] = {
        "nvmlDeviceGetUUID": lambda gpu: gpu.uuid,
        "nvmlDeviceGetName": lambda gpu: gpu.name.encode(),
        "nvmlDeviceGetMemoryInfo": lambda gpu: SimpleNamespace(total=gpu.total, used=gpu.used),
        "nvmlDeviceGetUtilizationRates": lambda _: SimpleNamespace(gpu=93),
        "nvmlDeviceGetTemperature": lambda *_: 61,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda gpu: gpu.throttle,
        "nvmlDeviceGetTotalEccErrors": lambda *_: 2,
        "nvmlDeviceGetComputeRunningProcesses": lambda gpu: [
            SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in gpu.others.items()
        ],
        "nvmlDeviceGetMaxMigDeviceCount": lambda gpu: 7 if gpu.instances else 0,
        "nvmlDeviceGetMigDeviceHandleByIndex": instance,
    }
    listened: list[FakeGpu] = []

    def next_event(_set: object, _ms: int) -> Any:
        for gpu in listened:
            if gpu.xids:
                kind = pynvml.nvmlEventTypeXidCriticalError
                return SimpleNamespace(device=gpu, eventType=kind, eventData=gpu.xids.pop(0))
        raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT)

    answers["nvmlDeviceRegisterEvents"] = lambda gpu, *_: listened.append(gpu)
    monkeypatch.setattr(pynvml, "nvmlEventSetCreate", object)
    monkeypatch.setattr(pynvml, "nvmlEventSetWait_v2", next_event)
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, of(answer, name))
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: len(gpus))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda number: gpus[number])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return gpus


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", none)
