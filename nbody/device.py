"""From a Config's names to torch's devices and types, and the switches that come with them."""

import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from nbody.config import Config
from nbody.errors import DeviceUnavailable

P = ParamSpec("P")
T = TypeVar("T")
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def resolve_device(config: Config) -> torch.device:
    """The device that `config.device` names; `auto` takes a GPU where there is one.

    Raises:
        DeviceUnavailable
    """
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(config.device)
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise DeviceUnavailable(config.device, count)
    return device


def resolve_dtype(config: Config) -> torch.dtype:
    """The floating-point type of state and network."""
    return DTYPES[config.dtype]


def compile_function(function: Callable[P, T]) -> Callable[P, T]:
    """The function compiled by torch, once for all batch sizes."""
    warnings.filterwarnings("ignore", message="Dynamo detected a call to a `functools.lru_cache`")
    return torch.compile(function, dynamic=True)


def set_process_switches(config: Config) -> None:
    """Set torch's process-wide switches as a config asks: for whoever owns the process to call."""
    torch.autograd.set_detect_anomaly(config.detect_anomaly)
    torch.backends.cuda.matmul.allow_tf32 = config.tf32
    torch.backends.cudnn.allow_tf32 = config.tf32
