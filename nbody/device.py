"""From a Config's names to torch's devices and types, and the switches that come with them."""

import os
import re
import time
import warnings
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import torch

from nbody.config import Config
from nbody.config.size import network_type, useful_threads
from nbody.cores import FreeCores, usable_cores
from nbody.errors import DeviceUnavailable
from nbody.watcher import Phase

P = ParamSpec("P")
T = TypeVar("T")
FIRST_LOOK_S, LOOK_EVERY_S = 0.1, 1.0  # at the cores that are free
ALMOST = 0.3  # of a core that others may have of one that counts as free
_WORKING: set[int] = set()  # GPUs that were tried; one that fails now may work later
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def resolve_device(config: Config) -> torch.device:
    """The device that `config.device` names; `auto` takes a GPU where there is one that works.

    Raises:
        DeviceUnavailable
    """
    if config.device == "auto":
        if not torch.cuda.device_count():
            return torch.device("cpu")
        if reason := why_unusable(torch.device("cuda", 0)):
            warnings.warn(f"training on the CPU, though there is a GPU: {reason}", stacklevel=2)
            return torch.device("cpu")
        return torch.device("cuda")
    device = torch.device(config.device)
    if device.type == "cuda" and (reason := why_unusable(device)):
        raise DeviceUnavailable(config.device, reason)
    return device


def why_unusable(device: torch.device) -> str | None:
    """What is wrong with a GPU, for this build of torch and this driver; None where it works."""
    count, number = torch.cuda.device_count(), device.index or 0
    if number in _WORKING:
        return None
    if number >= count:
        return f"this host has {count} GPU(s)"
    try:
        capability, built_for = torch.cuda.get_device_capability(number), torch.cuda.get_arch_list()
        if not has_kernels(capability, built_for):
            name, (major, minor) = torch.cuda.get_device_name(number), capability
            return (
                f"torch {torch.__version__} has no kernels for {name}, of compute capability "
                f"{major}.{minor}, only for {', '.join(built_for)}: install another build of torch"
            )
        torch.ones(1, device=torch.device("cuda", number)).add_(1)  # the driver has its say
        torch.cuda.synchronize(number)
    except Exception as error:  # noqa: BLE001 - whatever a driver, or torch without CUDA, raises
        return str(error).partition("\n")[0]
    _WORKING.add(number)
    return None


def has_kernels(capability: tuple[int, int], built_for: Sequence[str]) -> bool:
    """Whether a build of torch runs on GPUs of a compute capability.

    Machine code (`sm_86`) runs on the same major version from its minor one on, that of features of
    one architecture (`sm_90a`) there alone; intermediate code (`compute_90`) on all later ones.

    Args:
        built_for: as `torch.cuda.get_arch_list()` has it.
    """
    builds = [re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name) for name in built_for]
    if not any(builds):  # AMD's: their names are not of this kind
        return True
    for match in filter(None, builds):
        built, kind, special = (int(match[2]), int(match[3])), match[1], match[4]
        if built == capability:
            return True
        if special == "a" or built > capability:
            continue
        if kind == "compute" or built[0] == capability[0]:
            return True
    return False


def resolve_dtype(config: Config) -> torch.dtype:
    """The floating-point type of the state, its features and the gate."""
    return DTYPES[config.dtype]


def resolve_network_dtype(config: Config) -> torch.dtype:
    """The floating-point type of the network's weights and arithmetic."""
    return DTYPES[network_type(config)]


def compile_function(function: Callable[P, T]) -> Callable[P, T]:
    """The function compiled by torch, once for all batch sizes."""
    warnings.filterwarnings("ignore", message="Dynamo detected a call to a `functools.lru_cache`")
    return torch.compile(function, dynamic=True)


def set_process_switches(config: Config) -> None:
    """Set torch's process-wide switches as a config asks: for whoever owns the process to call."""
    torch.autograd.set_detect_anomaly(config.detect_anomaly)
    torch.backends.cuda.matmul.allow_tf32 = config.tf32
    torch.backends.cudnn.allow_tf32 = config.tf32


class Threads:
    """A watcher that gives torch as many CPU threads as there are free cores, at most `most`.

    One thread beside a busy core is faster than two that wait for each other on it. OMP_NUM_THREADS
    is the most there are; with OMP_DYNAMIC=false, OpenMP's word for it, there are so many, always.
    """

    def __init__(self, most: int, free: FreeCores | None = None) -> None:
        self._most, self._free = most, FreeCores() if free is None else free
        self._next_look = time.monotonic() + FIRST_LOOK_S
        asked = re.match(r"\s*(\d+)", os.environ.get("OMP_NUM_THREADS", ""))  # "4,2": nested ones
        if asked and os.environ.get("OMP_DYNAMIC", "").strip().lower() == "false":
            self._next_look = float("inf")
            torch.set_num_threads(max(1, int(asked[1])))
        else:
            self._most = min(most, max(1, int(asked[1]))) if asked else most
            torch.set_num_threads(1)  # until the first look

    @classmethod
    def for_run(cls, config: Config, most: int | None = None) -> "Threads":
        """As many as a run is large enough for, on the cores that this process may use."""
        return cls(min(useful_threads(config), usable_cores() if most is None else most))

    def phase(self, phase: Phase) -> None:  # noqa: ARG002 - all are alike
        """The run enters a phase."""
        self.tick()

    def tick(self) -> None:
        """Once a second: look, and take so many threads from here on."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_EVERY_S
        free = self._free.look()
        count = self._most if free is None else max(1, min(self._most, int(free + ALMOST)))
        if count != torch.get_num_threads():
            torch.set_num_threads(count)
