"""How GPUs are doing, and what of it is told."""

import os

import pynvml
import pytest

from tests.worker.gpus.conftest import FakeGpu
from worker.gpus import nvml
from worker.gpus.devices import find_devices
from worker.gpus.vitals import look_at
from worker.gpus.xids import Xids


def test_what_is_told_of_a_gpu(driver: list[FakeGpu]) -> None:
    driver.append(FakeGpu("GPU-a", others={os.getpid(): 5, os.getppid(): 3}))
    (vitals,) = look_at(find_devices())
    assert (vitals.memory_used_bytes, vitals.utilisation, vitals.temperature_c) == (10, 0.93, 61)
    assert (vitals.is_slowed, vitals.ecc_errors, vitals.foreign_memory_bytes) == (False, 2, 3)


def test_one_that_is_too_hot_is_slowed(driver: list[FakeGpu]) -> None:
    driver.append(FakeGpu("GPU-a", throttle=pynvml.nvmlClocksThrottleReasonHwThermalSlowdown))
    assert look_at(find_devices())[0].is_slowed


def test_what_is_not_answered_is_not_told(driver: list[FakeGpu]) -> None:
    names = ("CurrentClocksThrottleReasons", "TotalEccErrors", "ComputeRunningProcesses")
    asked = (*names, "UtilizationRates", "Temperature", "MemoryInfo")
    driver.append(FakeGpu("GPU-a", unanswered={f"nvmlDeviceGet{name}" for name in asked}))
    (vitals,) = look_at(find_devices())
    assert vitals.model_dump(exclude_none=True) == {"memory_used_bytes": 0}


def test_processes_of_another_world_are_not_counted(driver: list[FakeGpu]) -> None:
    driver.append(FakeGpu("GPU-a", others={2**22 + 1: 5}))  # beyond any number of a process
    assert look_at(find_devices())[0].foreign_memory_bytes is None


def test_a_list_that_is_empty_of_a_gpu_that_is_used_says_nothing(driver: list[FakeGpu]) -> None:
    driver += [FakeGpu("GPU-a", used=2**35), FakeGpu("GPU-b", used=2**20)]
    assert [each.foreign_memory_bytes for each in look_at(find_devices())] == [None, 0]


def test_one_that_is_gone_keeps_its_place(driver: list[FakeGpu]) -> None:
    driver += [FakeGpu("GPU-a"), FakeGpu("GPU-b", used=7)]
    devices = find_devices()
    driver.pop(0)
    assert [each.memory_used_bytes for each in look_at(devices)] == [0, 7]


def test_the_last_xid_is_told_and_those_before_the_worker_are_not(driver: list[FakeGpu]) -> None:
    driver += [FakeGpu("GPU-a"), FakeGpu("GPU-b", unanswered={"nvmlDeviceRegisterEvents"})]
    xids = Xids()
    assert [each.xid for each in look_at(find_devices(), xids)] == [None, None]
    driver[0].xids += [31, 13]
    driver[1].xids += [13]  # of which this driver tells nothing
    assert [each.xid for each in look_at(find_devices(), xids)] == [13, None]
    driver[0].is_lost = True  # and says nothing any more, not even which one it is
    driver[0].xids += [79]
    assert xids.last() == {"GPU-a": 79}
    with nvml.gpus(anew=True):  # it was reset, and the driver opened again
        driver[0].is_lost = False
    driver[0].xids += [48]
    assert xids.last() == {"GPU-a": 48}


def test_a_driver_that_tells_no_events_has_none(
    driver: list[FakeGpu], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    driver.append(FakeGpu("GPU-a"))
    monkeypatch.setattr(pynvml, "nvmlEventSetCreate", none)
    assert Xids().last() == {}
