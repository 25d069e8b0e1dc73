"""Where an attempt runs, and with what: all that is needed to run it once more."""

import platform
import socket
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import torch

from server.wire.workers import Whereabouts

PACKAGES = ("orrery", "torch", "numpy", "triton")


def whereabouts(seed: int, device: torch.device) -> dict[str, object]:
    """As a record of the spool.

    Args:
        seed: of every random draw of the attempt.
    """
    on_gpu = device.type == "cuda"
    return Whereabouts(
        seed=str(seed),
        host=socket.gethostname(),
        device=str(device),
        gpu=torch.cuda.get_device_name(device) if on_gpu else None,
        versions=_versions() | ({"cuda": torch.version.cuda or "none"} if on_gpu else {}),
    ).model_dump()


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
