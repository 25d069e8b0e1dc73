"""An iteration whose tensors stay where they are, launched as one CUDA graph."""

import warnings
from collections.abc import Callable

import torch

WARM_UPS = 3  # calls before the capture, in which libraries choose kernels and take memory


class GraphedCall:
    """Calls a function; on a GPU, from the fourth call on, by replaying the kernels it launched.

    The function must read and write tensors that live as long as this object, in place, and must
    never wait for the device: no decision of the host may depend on a tensor's values. Every call
    does the function's work once, whichever way it is launched. Where the capture fails, a warning
    says why, and the function goes on being called.
    """

    def __init__(self, function: Callable[[], None], device: torch.device) -> None:
        self._function, self._device = function, device
        self._calls_to_capture = WARM_UPS if device.type == "cuda" else -1  # negative: never
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        if self._device.type == "cuda":
            with torch.cuda.device(self._device):  # streams and graphs are those of the current one
                self._call()
        else:
            self._function()

    def _call(self) -> None:
        if self._graph is None and self._calls_to_capture == 0:
            self._graph = self._capture()
        if self._graph is not None:
            self._graph.replay()
        elif self._calls_to_capture > 0:
            self._calls_to_capture -= 1
            self._call_beside()
        else:
            self._function()

    def _call_beside(self) -> None:
        """A call on a stream of its own, as the capture will be."""
        main, beside = torch.cuda.current_stream(), torch.cuda.Stream()
        beside.wait_stream(main)
        with torch.cuda.stream(beside):
            self._function()
        main.wait_stream(beside)

    def _capture(self) -> torch.cuda.CUDAGraph | None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._function()
        except RuntimeError as error:
            self._calls_to_capture = -1
            warnings.warn(f"training goes on without CUDA graphs: {error}", stacklevel=3)
            return None
        return graph
