"""The job server: queue, HTTP API and its clients. Starts without torch."""

from typing import Any


def __getattr__(name: str) -> Any:
    """`__version__`, read when it is asked for: most commands never do."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version  # noqa: PLC0415 - as above

    return version("orrery")
