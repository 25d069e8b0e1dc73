"""Which GPUs a worker takes for its jobs."""

import pytest

from tests.worker.gpus.conftest import FakeGpu
from worker.gpus.devices import find_devices


def test_all_by_their_uuids(driver: list[FakeGpu]) -> None:
    driver += [FakeGpu("GPU-a", "NVIDIA H100", 80), FakeGpu("GPU-b", "NVIDIA H200", 141)]
    found = [(each.id, each.gpu.name, each.gpu.memory_bytes) for each in find_devices() if each.gpu]
    assert found == [("GPU-a", "NVIDIA H100", 80), ("GPU-b", "NVIDIA H200", 141)]


@pytest.mark.parametrize(
    ("chosen", "taken"),
    [
        ("1", ["GPU-b"]),
        ("GPU-b,0", ["GPU-b", "GPU-a"]),
        ("GPU-", ["GPU-a"]),
        ("", []),
        ("7, GPU-x", ["7", "GPU-x"]),  # nobody knows them: as they are
    ],
)
def test_those_that_are_left_by_number_or_uuid(
    driver: list[FakeGpu], monkeypatch: pytest.MonkeyPatch, chosen: str, taken: list[str]
) -> None:
    driver += [FakeGpu("GPU-a"), FakeGpu("GPU-b")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert [device.id for device in find_devices()] == taken


def test_of_a_divided_gpu_its_instances(
    driver: list[FakeGpu], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [FakeGpu("MIG-1", total=20), FakeGpu("MIG-2", total=40)]
    driver += [FakeGpu("GPU-a", instances=parts), FakeGpu("GPU-b")]
    found = [(each.id, each.gpu.memory_bytes) for each in find_devices() if each.gpu]
    assert found == [("MIG-1", 20), ("MIG-2", 40), ("GPU-b", 80)]
    for chosen, taken in (("1", ["GPU-b"]), ("0", ["MIG-1", "MIG-2"]), ("MIG-2", ["MIG-2"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
        assert [device.id for device in find_devices()] == taken


def test_one_that_is_named_and_missing_must_work_where_there_are_others(
    driver: list[FakeGpu], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,7")
    assert [device.must_work for device in find_devices()] == [False, False]
    driver.append(FakeGpu("GPU-a"))
    assert [(device.id, device.must_work) for device in find_devices()] == [
        ("GPU-a", True),
        ("7", True),
    ]


def test_one_that_does_not_tell_is_one_all_the_same(driver: list[FakeGpu]) -> None:
    driver.append(FakeGpu("GPU-a", unanswered={"nvmlDeviceGetName", "nvmlDeviceGetMemoryInfo"}))
    (device,) = find_devices()
    assert device.gpu is not None
    assert (device.gpu.name, device.gpu.memory_bytes) == ("GPU", 0)


@pytest.mark.usefixtures("no_driver")
def test_a_host_without_a_driver_has_none() -> None:
    assert find_devices() == []
