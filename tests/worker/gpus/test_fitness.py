"""Whether jobs may use a GPU, and what is said where they may not."""

import threading
import time
from pathlib import Path

import pynvml
import pytest
import torch

from nbody.device import has_kernels
from server.wire.states import OF_A_GPU, StopReason
from server.wire.workers import Gpu, Outcome
from tests.worker.gpus.conftest import FakeGpu
from worker.gpus import fitness as module
from worker.gpus.devices import Device
from worker.gpus.fitness import Fitness, look_for, probe
from worker.gpus.share import Gpus, GpusGone
from worker.gpus.troubles import FIXES, Trouble, trouble_of

DEVICE = Device("GPU-a", Gpu(name="NVIDIA H200", memory_bytes=80))
GOING = threading.Event()
FAULT = Trouble(StopReason.GPU_FAULT, "it does not add")


class Doctor:
    """Says of each GPU what it was told to, and counts how often it was asked."""

    def __init__(self) -> None:
        self.looked: Trouble | None = None
        self.probed: Trouble | None = None
        self.probes = 0

    def look(self, _: Device) -> Trouble | None:
        return self.looked

    def probe(self, _: Device, __: threading.Event) -> Trouble | None:
        self.probes += 1
        return self.probed


@pytest.fixture
def doctor() -> Doctor:
    return Doctor()


@pytest.fixture
def fitness(doctor: Doctor) -> Fitness:
    return Fitness(GOING, doctor.look, doctor.probe)


def test_a_gpu_is_probed_once_and_again_after_a_doubt(doctor: Doctor, fitness: Fitness) -> None:
    assert fitness.is_fit(DEVICE)
    assert fitness.is_fit(DEVICE)
    assert doctor.probes == 1
    fitness.doubt(DEVICE)
    assert fitness.is_fit(DEVICE)
    assert doctor.probes == 2


def test_one_that_fails_is_tried_until_it_works(doctor: Doctor, fitness: Fitness) -> None:
    doctor.probed = FAULT
    assert not fitness.is_fit(DEVICE)
    assert not fitness.is_fit(DEVICE)
    assert fitness.trouble_of(DEVICE) == FAULT
    doctor.probed = None
    assert fitness.is_fit(DEVICE)
    assert fitness.trouble_of(DEVICE) is None


def test_one_that_the_driver_lost_is_not_probed(doctor: Doctor, fitness: Fitness) -> None:
    assert fitness.is_fit(DEVICE)
    doctor.looked = Trouble(StopReason.GPU_LOST, "gone")
    assert not fitness.is_fit(DEVICE)
    assert doctor.probes == 1
    doctor.looked = None
    assert fitness.is_fit(DEVICE)
    assert doctor.probes == 2  # it came back: is it well?


@pytest.mark.parametrize("how", ["away", "lost"])
def test_the_driver_is_asked_for_a_gpu(driver: list[FakeGpu], how: str) -> None:
    driver.append(FakeGpu("GPU-a"))
    assert look_for(DEVICE) is None
    if how == "away":
        driver.clear()
    else:
        driver[0].is_lost = True
    trouble = look_for(DEVICE)
    assert trouble is not None
    assert trouble.reason == StopReason.GPU_LOST
    assert "nvidia-smi" in str(trouble)


def test_a_child_tries_a_gpu(driver: list[FakeGpu]) -> None:
    trouble = probe(DEVICE, GOING)  # this host has none
    assert trouble is not None
    knows_gpus = torch.version.cuda is not None
    assert trouble.reason == (StopReason.GPU_LOST if knows_gpus else StopReason.DRIVER_MISMATCH)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("CUDA error: no CUDA-capable device is detected", StopReason.GPU_LOST),
        ("No CUDA GPUs are available", StopReason.GPU_LOST),
        ("CUDA error: all CUDA-capable devices are busy or unavailable", StopReason.GPU_LOST),
        ("this host has 0 GPU(s)", StopReason.GPU_LOST),
        ("CUDA error: uncorrectable ECC error encountered", StopReason.GPU_FAULT),
        ("CUDA error: unspecified launch failure\nCUDA kernel errors …", StopReason.GPU_FAULT),
        ("CUDA error: an illegal memory access was encountered", StopReason.GPU_FAULT),
        ("CUDA driver version is insufficient for CUDA runtime", StopReason.DRIVER_MISMATCH),
        ("Failed to initialize NVML: Driver/library version mismatch", StopReason.DRIVER_MISMATCH),
        ("torch 2.13 has no kernels for Tesla K80, of …", StopReason.DRIVER_MISMATCH),
        ("CUDA error: out of memory", StopReason.GPU_MEMORY_TAKEN),
        ("CUDA error: device-side assert triggered", None),
        ("mat1 and mat2 shapes cannot be multiplied", None),
    ],
)
def test_what_a_message_means(said: str, reason: StopReason | None) -> None:
    trouble = trouble_of(said)
    assert (trouble and trouble.reason) == reason
    assert trouble is None or "\n" not in str(trouble)


def test_each_reason_has_its_fix() -> None:
    assert FIXES.keys() == OF_A_GPU
    assert not has_kernels((3, 7), ["sm_50", "sm_90"])  # which the message above is of


@pytest.mark.parametrize(
    ("slots", "gpus", "shares"), [(1, 1, [1.0]), (4, 2, [0.5] * 4), (3, 2, [0.5, 1.0, 0.5])]
)
def test_slots_share_gpus(
    driver: list[FakeGpu], slots: int, gpus: int, shares: list[float]
) -> None:
    driver += [FakeGpu(f"GPU-{number}") for number in range(gpus)]
    shared = Gpus(slots, Fitness(GOING))
    places = [place for slot in range(slots) if (place := shared.place_of(slot))]
    assert [place.share for place in places] == shares
    assert [place.device for place in places] == [f"GPU-{slot % gpus}" for slot in range(slots)]


def test_a_failure_is_explained_by_the_gpu_that_went_away(
    driver: list[FakeGpu], doctor: Doctor, fitness: Fitness
) -> None:
    driver.append(FakeGpu("GPU-a"))
    gpus = Gpus(1, fitness)
    assert gpus.is_fit(0)
    crash = Outcome(status="failed", stop_reason=StopReason.WORKER_LOST, detail="died")
    assert gpus.explain(0, crash) == crash
    assert gpus.is_fit(0)
    assert doctor.probes == 2
    doctor.looked = Trouble(StopReason.GPU_LOST, "gone")
    assert gpus.explain(0, crash).stop_reason == StopReason.GPU_LOST
    for reason in (StopReason.DIVERGED, StopReason.OOM):
        own = Outcome(status="failed", stop_reason=reason, detail="x")
        assert gpus.explain(0, own) == own


def test_one_of_two_that_fails_is_told_and_the_worker_works_on(driver: list[FakeGpu]) -> None:
    driver += [FakeGpu("GPU-a"), FakeGpu("GPU-b")]
    gpus = Gpus(2, Fitness(GOING, look_for, lambda *_: None))
    assert [gpus.is_fit(slot) for slot in (0, 1)] == [True, True]
    driver[0].is_lost = True
    assert [gpus.is_fit(slot) for slot in (0, 1)] == [False, True]
    vitals = gpus.vitals()
    assert [each.trouble is None for each in vitals.gpus] == [False, True]
    assert vitals.trouble is None
    driver[1].is_lost = True
    assert not gpus.is_fit(1)
    assert (gpus.vitals().trouble or "").startswith("gpu_lost: GPU-a")


def test_a_worker_that_had_gpus_does_not_start_without(
    driver: list[FakeGpu], tmp_path: Path
) -> None:
    driver.append(FakeGpu("GPU-a"))
    Gpus(1, Fitness(GOING)).remember(tmp_path, "here")
    driver.clear()
    Gpus(1, Fitness(GOING)).remember(tmp_path, "elsewhere")
    with pytest.raises(GpusGone, match="NVIDIA H200") as gone:
        Gpus(1, Fitness(GOING)).remember(tmp_path, "here")
    note = str(gone.value).rpartition(" ")[2]
    Path(note).unlink()
    Gpus(1, Fitness(GOING)).remember(tmp_path, "here")


def test_a_gpu_that_is_named_and_missing_takes_no_jobs(
    driver: list[FakeGpu], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.append(FakeGpu("GPU-a"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    gpus = Gpus(2, Fitness(GOING, probe=lambda *_: None))
    assert [gpus.is_fit(slot) for slot in (0, 1)] == [True, False]
    place = gpus.place_of(1)
    assert place is not None
    assert place.must_work
    assert gpus.vitals().trouble is None


def test_a_gpu_whose_memory_others_take_rests(
    driver: list[FakeGpu], fitness: Fitness, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.append(FakeGpu("GPU-a"))
    gpus = Gpus(1, fitness)
    detail = "gpu_memory_taken: others hold 70 GiB; end them"
    taken = Outcome(status="failed", stop_reason=StopReason.GPU_MEMORY_TAKEN, detail=detail)
    assert gpus.explain(0, taken) == taken
    assert not gpus.is_fit(0)
    assert (gpus.vitals().trouble or "").startswith("gpu_memory_taken: others hold 70 GiB; ")
    later = time.monotonic() + module.TAKEN_S + 1
    monkeypatch.setattr(module.time, "monotonic", lambda: later)
    assert gpus.is_fit(0)


def test_a_worker_that_stops_waits_for_no_probe(driver: list[FakeGpu]) -> None:
    stopping = threading.Event()
    stopping.set()
    assert not Fitness(stopping, lambda _: None).is_fit(DEVICE)


def test_a_driver_that_hangs_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(module, "LOOK_S", 0.05)
    monkeypatch.setattr(module, "_look_for", lambda _: over.wait(20))
    trouble = look_for(DEVICE)
    over.set()
    assert trouble is not None
    assert trouble.reason == StopReason.GPU_FAULT


def test_a_driver_that_was_replaced_is_told_as_that(
    driver: list[FakeGpu], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)

    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    trouble = look_for(DEVICE)
    assert trouble is not None
    assert trouble.reason == StopReason.DRIVER_MISMATCH


def test_the_driver_is_opened_again_only_where_a_gpu_is_missing(
    driver: list[FakeGpu], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: opened.append(1))
    driver.append(FakeGpu("GPU-a"))
    for _ in range(3):
        assert look_for(DEVICE) is None
    assert len(opened) == 1
    driver.clear()
    assert look_for(DEVICE) is not None
    assert len(opened) == 2


def test_a_slot_whose_gpu_fails_is_all_that_a_worker_of_one_slot_has(
    driver: list[FakeGpu],
) -> None:
    driver += [FakeGpu("GPU-a"), FakeGpu("GPU-b")]
    gpus = Gpus(1, Fitness(GOING, probe=lambda *_: None))
    driver.pop(0)
    assert not gpus.is_fit(0)
    assert (gpus.vitals().trouble or "").startswith("gpu_lost")
