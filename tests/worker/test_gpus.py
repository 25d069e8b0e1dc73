"""What NVML says, and what of it is told."""

from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from worker.gpus import find_gpus, look_at_gpus, visible_devices


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def unanswered(*_: Any) -> Any:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    answers = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda number: number,
        "nvmlDeviceGetName": lambda gpu: b"NVIDIA H200" if gpu else "NVIDIA H100",
        "nvmlDeviceGetMemoryInfo": lambda gpu: SimpleNamespace(total=80 + gpu, used=10 + gpu),
        "nvmlDeviceGetUtilizationRates": lambda _: SimpleNamespace(gpu=93),
        "nvmlDeviceGetTemperature": unanswered,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)


def test_gpus_are_found_and_looked_at(two_gpus: None) -> None:
    assert [(gpu.name, gpu.memory_bytes) for gpu in find_gpus()] == [
        ("NVIDIA H100", 80),
        ("NVIDIA H200", 81),
    ]
    vitals = look_at_gpus()
    assert [gpu.memory_used_bytes for gpu in vitals] == [10, 11]
    assert vitals[0].utilisation == 0.93
    assert vitals[0].temperature_c is None


def test_a_gpu_that_does_not_answer_is_a_gpu_all_the_same(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unanswered(*_: Any) -> Any:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    for name in ("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetName"):
        monkeypatch.setattr(pynvml, name, unanswered)
    assert [(gpu.name, gpu.memory_bytes) for gpu in find_gpus()] == [("GPU", 0)] * 2
    assert [gpu.memory_used_bytes for gpu in look_at_gpus()] == [0, 0]


def test_a_host_without_a_driver_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    assert find_gpus() == look_at_gpus() == []


def test_jobs_may_use_the_devices_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_devices(2) == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1, GPU-5")
    assert visible_devices(2) == ["1", "GPU-5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_devices(2) == []
