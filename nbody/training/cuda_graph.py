"""An iteration whose tensors stay where they are, launched as one CUDA graph."""

import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import torch
from torch import cuda

WARM_UPS = 3  # calls before the capture, in which libraries choose kernels and take memory
WAITED = "called a synchronizing CUDA operation"  # in torch's warning of it


class GraphedCall:
    """Calls a function; on a GPU, from the fourth call on, by replaying the kernels it launched.

    The function must read and write tensors that live as long as this object, in place, and must
    never wait for the device: no decision of the host may depend on a tensor's values. Every call
    does the function's work once, whichever way it is launched. Where the function waits after all,
    or a capture fails, a warning says so, and the function goes on being called.
    """

    def __init__(self, function: Callable[[], None], device: torch.device) -> None:
        self._function, self._device = function, device
        self._calls_to_capture = WARM_UPS if device.type == "cuda" else -1  # negative: never
        self._graph: cuda.CUDAGraph | None = None

    @property
    def is_captured(self) -> bool:
        """Whether calls replay a graph."""
        return self._graph is not None

    def __call__(self) -> None:
        if self._device.type == "cuda":
            with cuda.device(self._device):  # streams and graphs are those of the current one
                self._call(_captures_on(self._device.index or 0))
        else:
            self._function()

    def _call(self, captures: "Captures") -> None:
        if self._graph is None and self._calls_to_capture == 0 and not captures.gave_up:
            self._graph = self._capture(captures)
        if self._graph is not None:
            self._graph.replay()
        elif self._calls_to_capture > 0:
            self._calls_to_capture -= 1
            with captures.beside():
                if self._calls_to_capture == 0 and _waits(self._function):
                    self._give_up("an iteration waits for the device")
                elif self._calls_to_capture > 0:
                    self._function()
        else:
            self._function()

    def _capture(self, captures: "Captures") -> cuda.CUDAGraph | None:
        graph = cuda.CUDAGraph()
        try:
            with captures.capturing(graph):
                self._function()
        except RuntimeError as error:
            self._give_up(str(error))
            return None
        return graph

    def _give_up(self, reason: str) -> None:
        self._calls_to_capture = -1
        warnings.warn(f"training goes on without CUDA graphs: {reason}", stacklevel=5)


class Captures:
    """The captures on one device: their stream, and the memory that its graphs share.

    What a graph allocates is scratch, dead at its end: the graphs of a device are replayed one
    after the other, and may use the same memory.

    Attributes:
        gave_up: whether one failed; none is tried after it.
    """

    def __init__(self, device: int) -> None:
        self._device, self._stream = device, cuda.Stream(device)
        self._pool: Any = cuda.graph_pool_handle()
        self._last: cuda.CUDAGraph | None = None  # a pool that no graph uses any more is dead
        self.gave_up = False

    @contextmanager
    def beside(self) -> Generator[None]:
        """Launch on the stream of the captures, in the order of the current one."""
        main = cuda.current_stream()
        self._stream.wait_stream(main)
        with cuda.stream(self._stream):
            yield
        main.wait_stream(self._stream)

    @contextmanager
    def capturing(self, graph: cuda.CUDAGraph) -> Generator[None]:
        """Record what is launched instead of running it.

        Raises:
            RuntimeError: it cannot be recorded. Stream, allocator and random numbers are as before.
        """
        cuda.synchronize()
        cuda.empty_cache()
        with cuda.stream(self._stream):  # which is left, whatever happens
            began = False
            try:
                graph.capture_begin(pool=self._pool)
                began = True
                yield
                graph.capture_end()
            except BaseException:
                self.gave_up = True
                if began:
                    self._abandon(graph)
                raise
        self._last = graph

    def _abandon(self, graph: cuda.CUDAGraph) -> None:
        """Leave a capture that began and failed.

        torch ends it only where it succeeds: else the allocator goes on serving its pool, and the
        generator believes that it is being recorded.
        """
        internals: Any = torch._C  # pyright: ignore[reportPrivateUsage] - as its graph trees
        for step in (
            graph.capture_end,  # of the stream, which raises once more
            lambda: internals._cuda_endAllocateToPool(self._device, self._pool),
            lambda: internals._cuda_releasePool(self._device, self._pool),
            graph.reset,
            self._renew_generator,
        ):
            with suppress(RuntimeError):
                step()

    def _renew_generator(self) -> None:
        """Draw on from the same place, in a state that knows of no recording."""
        generator = cuda.default_generators[self._device]
        generator.graphsafe_set_state(generator.clone_state())


@lru_cache(maxsize=16)
def _captures_on(device: int) -> Captures:
    return Captures(device)


def _waits(function: Callable[[], None]) -> bool:
    """Call a function; whether it waited for the device, which no capture survives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = cuda.get_sync_debug_mode()
        cuda.set_sync_debug_mode("warn")
        try:
            function()
        finally:
            cuda.set_sync_debug_mode(before)
    waited = False
    for warning in caught:
        if WAITED in str(warning.message):
            waited = True
        elif "Synchronization debug mode" not in str(warning.message):
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return waited
