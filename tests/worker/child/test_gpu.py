"""A process and its GPU: used, or said why not; never the CPU instead."""

import pytest
import torch

from server.wire.states import StopReason
from worker.child import gpu
from worker.child.process import outcome_of
from worker.gpus.troubles import FIXES
from worker.workplace import GpuPlace

PLACE = GpuPlace("GPU-a", must_work=True, share=0.5)
GIB = 2**30


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Of a GPU that works: what was set as this process' part of its memory."""
    found: list[float] = []
    monkeypatch.setattr(gpu, "why_unusable", lambda _: None)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, _: found.append(share)
    )
    return found


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_job_on_a_gpu_worker_runs_on_its_gpu_or_not_at_all(device: str) -> None:
    with pytest.raises(gpu.GpuUnusable) as refused:  # this host has none
        gpu.hold_to(PLACE, device)
    outcome = outcome_of(refused.value)
    knows_gpus = torch.version.cuda is not None
    reason = StopReason.GPU_LOST if knows_gpus else StopReason.DRIVER_MISMATCH
    assert outcome["stop_reason"] == reason
    assert FIXES[reason] in outcome["detail"]


def test_what_needs_no_gpu_does_not_ask_for_it() -> None:
    gpu.hold_to(PLACE, "cpu")
    gpu.hold_to(None, "auto")
    gpu.hold_to(GpuPlace("7", must_work=False, share=1.0), "auto")


def test_a_slot_takes_its_share_of_the_memory(shares: list[float]) -> None:
    gpu.hold_to(PLACE, "auto")
    gpu.hold_to(GpuPlace("GPU-a", must_work=True, share=1.0), "cuda")
    assert shares == [0.5]


def test_the_process_sees_its_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    environment: dict[str, str] = {}
    monkeypatch.setattr(gpu.os, "environ", environment)
    gpu.choose(None)
    assert not environment
    gpu.choose(PLACE)
    assert environment == {
        "CUDA_VISIBLE_DEVICES": "GPU-a",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("CUDA error: unspecified launch failure", StopReason.GPU_FAULT),
        ("CUDA error: no CUDA-capable device is detected", StopReason.GPU_LOST),
        ("the size of tensor a must match: contained", StopReason.ERROR),
    ],
)
def test_what_a_gpu_did_to_a_run_is_told_as_such(said: str, reason: StopReason) -> None:
    assert outcome_of(RuntimeError(said))["stop_reason"] == reason


@pytest.mark.parametrize(
    ("share", "own", "reason"),
    [
        (1.0, 75, StopReason.OOM),
        (1.0, 10, StopReason.GPU_MEMORY_TAKEN),
        (0.5, 39, StopReason.OOM),
        (0.5, 10, StopReason.GPU_MEMORY_TAKEN),
    ],
)
def test_memory_that_others_hold_is_not_the_jobs_fault(
    monkeypatch: pytest.MonkeyPatch, share: float, own: int, reason: StopReason
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: own * GIB)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda _: share)
    outcome = outcome_of(torch.cuda.OutOfMemoryError("full"))
    assert outcome["stop_reason"] == reason


def test_a_gpu_that_does_not_answer_says_nothing_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: torch.device) -> tuple[int, int]:
        raise RuntimeError("CUDA error: unknown error")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", broken)
    assert gpu.memory_of_others() is None
