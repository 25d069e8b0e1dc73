"""The job server: queue, HTTP API and its clients. Starts without torch."""

from importlib.metadata import version

__version__ = version("orrery")
