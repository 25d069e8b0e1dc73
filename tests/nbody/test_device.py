"""Which device a run takes, and what is said where it cannot be used."""

import pytest
import torch

from nbody.config import Config
from nbody.device import has_kernels, resolve_device
from nbody.errors import DeviceUnavailable

CUDA_13 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ((9, 0), CUDA_13, True),  # H100, H200
        ((8, 9), CUDA_13, True),  # L40S: machine code of 8.6 and 8.0
        ((7, 0), CUDA_13, False),  # V100, which CUDA 13 left behind
        ((6, 1), CUDA_13, False),
        ((12, 1), CUDA_13, True),  # later than the build: compiled by the driver
        ((13, 0), CUDA_13, True),
        ((13, 0), CUDA_13[:-1], False),  # without intermediate code
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_90a"], True),
        ((10, 0), ["sm_90a"], False),
        ((8, 7), ["compute_80"], True),
        ((9, 4), ["gfx906", "gfx942"], True),  # AMD's: not ours to judge
    ],
)
def test_a_build_runs_on_the_gpus_that_it_has_kernels_for(
    capability: tuple[int, int], built_for: list[str], runs: bool
) -> None:
    assert has_kernels(capability, built_for) is runs


@pytest.fixture
def old_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that the build of torch has no kernels for."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (6, 1))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: CUDA_13)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "GTX 1080")


@pytest.mark.usefixtures("old_gpu")
def test_auto_trains_on_the_cpu_beside_a_gpu_that_has_no_kernels() -> None:
    with pytest.warns(UserWarning, match=r"no kernels for GTX 1080.*another build of torch"):
        assert resolve_device(Config(device="auto")) == torch.device("cpu")


@pytest.mark.usefixtures("old_gpu")
def test_a_gpu_that_was_named_and_has_no_kernels_is_refused_in_words() -> None:
    with pytest.raises(DeviceUnavailable, match=r"no kernels for GTX 1080.*'auto' or 'cpu'"):
        resolve_device(Config(device="cuda"))


@pytest.mark.usefixtures("old_gpu")
def test_a_driver_that_refuses_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))

    def refuses(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: all devices are busy\nCompile with TORCH_USE_CUDA_DSA")

    monkeypatch.setattr(torch, "ones", refuses)
    with pytest.warns(UserWarning, match="all devices are busy$"):
        assert resolve_device(Config(device="auto")) == torch.device("cpu")


@pytest.mark.usefixtures("old_gpu")
def test_a_gpu_beyond_the_last_is_refused() -> None:
    with pytest.raises(DeviceUnavailable, match=r"'cuda:3' cannot be used: this host has 1 GPU"):
        resolve_device(Config(device="cuda:3"))
