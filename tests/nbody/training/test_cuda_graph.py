"""Captures on a GPU that is not there: whatever fails, training goes on, and nothing is left."""

import gc
import warnings
import weakref
from collections.abc import Callable, Generator
from typing import Any

import pytest
import torch

from nbody.training import cuda_graph
from nbody.training.cuda_graph import WAITED, WARM_UPS, GraphedCall
from nbody.training.loops import Loops
from nbody.training.random_state import generator_states, set_generator_states
from nbody.training.run import TrainingRun
from tests.nbody.training.test_device_loops import config_of, training_of


class Stream:
    def __init__(self, device: int | None = None) -> None:
        self.device = device

    def wait_stream(self, _: "Stream") -> None: ...


class Graph(torch.cuda.CUDAGraph):
    """As torch's: a capture that was invalidated raises at its end, and so is not tidied up."""

    def __new__(cls, *_: object) -> "Graph":
        return object.__new__(cls)

    def __init__(self, gpu: "Gpu") -> None:
        self._gpu = gpu

    def capture_begin(self, pool: object) -> None:
        gpu = self._gpu
        assert not gpu.capturing
        gpu.capturing = gpu.recording_numbers = True
        gpu.allocating_to.append(pool)
        gpu.captures.append((gpu.device, gpu.stream, pool))

    def capture_end(self) -> None:
        gpu = self._gpu
        if not gpu.capturing:
            raise RuntimeError("no capture to end")
        gpu.capturing = False
        if gpu.invalid:
            gpu.invalid = False
            raise RuntimeError("operation failed due to a previous error during capture")
        gpu.recording_numbers = False
        gpu.allocating_to.pop()

    def replay(self) -> None:
        self._gpu.replays += 1

    def reset(self) -> None: ...


class Gpu:
    """What cuda_graph takes of torch.cuda, with two devices."""

    def __init__(self) -> None:
        self.device, self.stream = 0, Stream()
        self.capturing = self.invalid = self.recording_numbers = False
        self.mode, self.replays = 0, 0
        self.allocating_to: list[object] = []
        self.captures: list[tuple[int, Stream, object]] = []
        self.default_generators = [self, self]
        self.Stream = Stream

    def CUDAGraph(self) -> Graph:  # noqa: N802 - torch's name
        return Graph(self)

    def graph_pool_handle(self) -> object:
        return object()

    def stream_context(self, stream: Stream) -> Any:
        return _Restored(self, "stream", stream)

    def device_context(self, device: torch.device) -> Any:
        return _Restored(self, "device", device.index or 0)

    def current_stream(self) -> Stream:
        return self.stream

    def synchronize(self) -> None:
        assert not self.capturing

    empty_cache = synchronize

    def get_sync_debug_mode(self) -> int:
        return self.mode

    def set_sync_debug_mode(self, mode: int | str) -> None:
        self.mode = {"warn": 1}.get(mode, mode) if isinstance(mode, str) else mode

    def wait(self) -> None:
        """What reading a value does: it waits, or ends a capture."""
        if self.capturing:
            self.invalid = True
            raise RuntimeError("operation not permitted when stream is capturing")
        if self.mode:
            warnings.warn(WAITED, stacklevel=2)

    # the default generator
    def clone_state(self) -> str:
        return "new"

    def graphsafe_set_state(self, _: str) -> None:
        self.recording_numbers = False


class _Restored:
    def __init__(self, gpu: Gpu, name: str, value: Any) -> None:
        self._gpu, self._name, self._value = gpu, name, value

    def __enter__(self) -> None:
        self._before = getattr(self._gpu, self._name)
        setattr(self._gpu, self._name, self._value)

    def __exit__(self, *_: object) -> None:
        setattr(self._gpu, self._name, self._before)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Generator[Gpu]:
    found = Gpu()

    class Cuda:
        def __getattr__(self, name: str) -> Any:
            other = {"stream": found.stream_context, "device": found.device_context}
            return other.get(name) or getattr(found, name)

    def end(device: int, pool: object) -> None:
        found.allocating_to.remove(pool)

    monkeypatch.setattr(cuda_graph, "cuda", Cuda())
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", end, raising=False)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", lambda *_: None, raising=False)
    cuda_graph._captures_on.cache_clear()
    yield found
    cuda_graph._captures_on.cache_clear()


def device(index: int = 0) -> torch.device:
    return torch.device("cuda", index)


def called(function: Callable[[], None], times: int, index: int = 0) -> GraphedCall:
    call = GraphedCall(function, device(index))
    for _ in range(times):
        call()
    return call


def test_calls_are_replayed_once_the_device_is_warm(gpu: Gpu) -> None:
    runs: list[int] = []
    call = called(lambda: runs.append(0), WARM_UPS + 4)
    assert call.is_captured
    assert (len(runs), gpu.replays) == (WARM_UPS + 1, 4)


def test_an_iteration_that_waits_is_found_before_a_capture(gpu: Gpu) -> None:
    runs: list[int] = []

    def waits() -> None:
        runs.append(0)
        gpu.wait()

    with pytest.warns(UserWarning, match="waits for the device"):
        call = called(waits, 8)
    assert not call.is_captured
    assert not gpu.captures
    assert len(runs) == 8  # each call's work once
    assert gpu.mode == 0


def test_other_warnings_of_the_trial_are_passed_on(gpu: Gpu) -> None:
    def speaks() -> None:
        warnings.warn("mind the step", stacklevel=1)

    with pytest.warns(UserWarning, match="mind the step"):
        call = called(speaks, WARM_UPS + 1)
    assert call.is_captured


def test_a_capture_that_fails_leaves_stream_allocator_and_random_numbers(gpu: Gpu) -> None:
    runs: list[bool] = []

    def fails_in_a_capture() -> None:
        if gpu.capturing:
            gpu.invalid = True
            raise RuntimeError("cannot be recorded")
        runs.append(True)

    before = gpu.stream
    with pytest.warns(UserWarning, match="without CUDA graphs: cannot be recorded"):
        call = called(fails_in_a_capture, 8)
    assert not call.is_captured
    assert len(runs) == 8
    assert gpu.stream is before
    assert not gpu.capturing
    assert not gpu.allocating_to
    assert not gpu.recording_numbers
    called(lambda: None, 8)  # and no other is tried
    assert len(gpu.captures) == 1


def test_a_capture_that_cannot_begin_ends_none(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the memory that other graphs share would lose a user that it never had."""
    called(lambda: None, WARM_UPS + 1)

    def busy(*_: object, **__: object) -> None:
        raise RuntimeError("another capture is under way")

    def ended(*_: object) -> None:
        raise AssertionError("ended")

    monkeypatch.setattr(Graph, "capture_begin", busy)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", ended)
    with pytest.warns(UserWarning, match="another capture is under way"):
        called(lambda: None, WARM_UPS + 1)


def test_the_memory_of_graphs_outlives_them(gpu: Gpu) -> None:
    """A pool that no graph uses any more is dead: the last graph of a device is kept."""
    kept = weakref.ref(called(lambda: None, WARM_UPS + 1)._graph)
    gc.collect()
    assert kept() is not None


def test_each_device_has_a_stream_of_its_own(gpu: Gpu) -> None:
    for index in (0, 1):
        called(lambda: None, WARM_UPS + 1, index)
        called(lambda: None, WARM_UPS + 1, index)
    (one, first, a), (_, second, b), (other, third, c), (_, fourth, d) = gpu.captures
    assert (one, other) == (0, 1)
    assert first is second
    assert third is fourth
    assert (first.device, third.device) == (0, 1)
    assert a is b  # one memory, which the graphs of a device share
    assert c is d
    assert a is not c


def test_a_device_that_failed_does_not_stop_another(gpu: Gpu) -> None:
    def fails() -> None:
        if gpu.capturing and gpu.device == 0:
            gpu.invalid = True
            raise RuntimeError("no")

    with pytest.warns(UserWarning, match="without CUDA graphs"):
        called(fails, 5, 0)
    assert called(fails, 5, 1).is_captured


def test_where_a_nan_is_traced_the_loops_ask_the_host() -> None:
    cuda = torch.device("cuda", 0)
    for fields, stays in (({}, True), ({"detect_anomaly": True}, False)):
        run = TrainingRun.start(config_of(**fields))
        assert Loops()._stays(training_of(run), cuda) is stays
    torch.autograd.set_detect_anomaly(False)


def test_a_run_on_the_cpu_leaves_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def initialised(*_: object) -> None:
        raise AssertionError("CUDA was asked")

    for name in ("is_available", "get_rng_state_all", "get_rng_state", "set_rng_state"):
        monkeypatch.setattr(torch.cuda, name, initialised)
    states = generator_states(torch.device("cpu"))
    set_generator_states({**states, "cuda": [torch.zeros(16)] * 4}, torch.device("cpu"))


@pytest.mark.parametrize(("saved", "index", "taken"), [(4, 1, 1), (1, 1, 0), (4, 0, 0), (2, 3, 1)])
def test_a_run_goes_on_where_other_gpus_are_visible(
    saved: int, index: int, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older checkpoints hold the states of every GPU, ours that of the run's own."""
    given: dict[int | None, torch.Tensor] = {}

    def take(state: torch.Tensor, device: torch.device) -> None:
        given[device.index] = state

    monkeypatch.setattr(torch.cuda, "set_rng_state", take)
    states = generator_states(torch.device("cpu"))
    states["cuda"] = [torch.full((16,), k, dtype=torch.uint8) for k in range(saved)]
    set_generator_states(states, torch.device("cuda", index))
    assert list(given) == [index]
    assert int(given[index][0]) == taken
