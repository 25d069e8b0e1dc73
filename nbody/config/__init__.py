"""What a run is, before it runs. Torch-free; `Config` itself is loaded when it is asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbody.config.config import Config

__all__ = ["Config"]


def __getattr__(name: str) -> Any:
    if name != "Config":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("nbody.config.config").Config
