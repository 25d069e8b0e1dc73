"""How the GPUs of a worker are doing."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pynvml

from server.wire.workers import GpuVitals
from worker.gpus import nvml
from worker.gpus.devices import Device
from worker.gpus.xids import Xids

OF_DRIVER = 2**30  # bytes that a driver may hold of a GPU that nobody uses
SLOWED = (  # clocks that the hardware took back, as bits of the driver's answer
    pynvml.nvmlClocksThrottleReasonHwSlowdown
    | pynvml.nvmlClocksThrottleReasonHwThermalSlowdown
    | pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown
    | pynvml.nvmlClocksThrottleReasonSwThermalSlowdown
)


def look_at(devices: Iterable[Device], xids: Xids | None = None) -> list[GpuVitals]:
    """Memory, utilisation, temperature and what is wrong of those that the driver knows."""
    last = {} if xids is None else xids.last()
    with nvml.gpus() as (found, _):
        known = {nvml.uuid(handle): handle for parts in found for handle in parts}
        return [
            _vitals(known.get(device.id), last.get(device.id))
            for device in devices
            if device.gpu is not None
        ]


def _vitals(gpu: Any, xid: int | None) -> GpuVitals:
    if gpu is None:
        return GpuVitals(memory_used_bytes=0, xid=xid)
    memory = nvml.memory(gpu)
    rates: Any = nvml.ask(lambda: pynvml.nvmlDeviceGetUtilizationRates(gpu))
    slowed: Any = nvml.ask(lambda: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu))
    return GpuVitals(
        memory_used_bytes=memory.used if memory else 0,
        utilisation=None if rates is None else rates.gpu / 100,
        temperature_c=nvml.ask(
            lambda: pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU)
        ),
        is_slowed=None if slowed is None else bool(slowed & SLOWED),
        ecc_errors=nvml.ask(
            lambda: pynvml.nvmlDeviceGetTotalEccErrors(
                gpu, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
            )
        ),
        foreign_memory_bytes=_foreign_memory(gpu, memory.used if memory else 0),
        xid=xid,
    )


def _foreign_memory(gpu: Any, used: int) -> int | None:
    """What processes that are not this worker's hold of a GPU [bytes]; None: it cannot be told.

    In a container the driver's numbers of processes mean nothing, and it mostly lists none.
    """
    running = nvml.ask(lambda: list[Any](pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)))
    if running is None or (not running and used > OF_DRIVER):
        return None
    owners = {each.pid: _is_own(each.pid) for each in running}
    if None in owners.values():
        return None
    return sum(each.usedGpuMemory or 0 for each in running if not owners[each.pid])


def _is_own(pid: int) -> bool | None:
    """Whether a process runs under this one; None where there is none."""
    try:
        while pid > 1 and pid != os.getpid():
            status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
            pid = int(status.rpartition(")")[2].split()[1])
    except OSError:
        return None
    return pid == os.getpid()
