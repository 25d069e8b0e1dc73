"""The host's NVIDIA GPUs and how they are doing, from NVML, the driver's own library."""

import logging
import os
from typing import Any

import pynvml

from server.wire.workers import Gpu, GpuVitals

logger = logging.getLogger(__name__)


def find_gpus() -> list[Gpu]:
    """The GPUs of this host; none where there is no NVIDIA driver."""
    return [
        Gpu(
            name=_text(_ask(lambda gpu=gpu: pynvml.nvmlDeviceGetName(gpu)) or "GPU")[:200],
            memory_bytes=_ask(lambda gpu=gpu: _memory(gpu).total) or 0,
        )
        for gpu in _handles()
    ]


def look_at_gpus() -> list[GpuVitals]:
    """Memory in use, utilisation and temperature of each GPU, in the order of `find_gpus`."""
    return [
        GpuVitals(
            memory_used_bytes=_ask(lambda gpu=gpu: _memory(gpu).used) or 0,
            utilisation=_ask(lambda gpu=gpu: _utilisation(gpu)),
            temperature_c=_ask(
                lambda gpu=gpu: pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU)
            ),
        )
        for gpu in _handles()
    ]


def visible_devices(gpus: int) -> list[str]:
    """The devices that jobs may use: those that CUDA_VISIBLE_DEVICES leaves, or all."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [device.strip() for device in chosen.split(",") if device.strip()]
    return [str(number) for number in range(gpus)]


def _handles() -> list[Any]:
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        return [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(count)]
    except pynvml.NVMLError as error:
        logger.debug("no GPUs: %s", error)
        return []


def _memory(gpu: Any) -> Any:
    return pynvml.nvmlDeviceGetMemoryInfo(gpu)


def _utilisation(gpu: Any) -> float:
    rates: Any = pynvml.nvmlDeviceGetUtilizationRates(gpu)
    return rates.gpu / 100


def _ask(question: Any) -> Any:
    """What the driver says; not every GPU answers every question."""
    try:
        return question()
    except pynvml.NVMLError:
        return None


def _text(name: str | bytes) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name
