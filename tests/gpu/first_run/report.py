"""What the checks of the first run share: where they write, on what device, a run, a stopwatch."""

import contextlib
import json
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from nbody.config import Config
from nbody.training.collection_on_device import DeviceCollection
from nbody.training.cuda_graph import GraphedCall
from nbody.training.generalization_on_device import DeviceLearner
from nbody.training.loops import Loops
from nbody.training.run import TrainingRun
from nbody.training.samples import Samples
from nbody.training.setup import TrainingSetup
from nbody.unified_training import epochs
from tests.gpu.first_run.configs import BASE

LEAST_LEFT_S = 15.0  # of the budget, for another check


class FirstRun:
    """Where the checks write, and on what device they run."""

    def __init__(self, out: Path, device: str, budget_s: float) -> None:
        self.out, self.device, self.gpu = out, device, device.startswith("cuda")
        self.failed: list[str] = []
        self._started, self._budget_s = time.monotonic(), budget_s
        out.mkdir(parents=True, exist_ok=True)

    def say(self, check: str, **fields: Any) -> None:
        """A line of the report."""
        at = round(time.monotonic() - self._started, 1)
        line = json.dumps({"t": at, "check": check, **fields}, default=str)
        print(line, flush=True)
        with (self.out / "run.jsonl").open("a") as file:
            file.write(line + "\n")

    def expect(self, check: str, holds: bool, **fields: Any) -> None:
        """A line of the report on something that must hold."""
        if not holds:
            self.failed.append(check)
        self.say(check, ok=holds, **fields)

    def run(self, check: Callable[["FirstRun"], None], *, needs_gpu: bool = False) -> None:
        """One check, whatever happens in it."""
        name = check.__name__
        if needs_gpu and not self.gpu:
            self.say(name, skipped="only on a GPU")
            return
        if time.monotonic() - self._started > self._budget_s - LEAST_LEFT_S:
            self.failed.append(name)
            self.say(name, skipped="no time left")
            return
        with self.recorded(name):
            check(self)

    @contextlib.contextmanager
    def recorded(self, name: str) -> Iterator[None]:
        """What is raised inside is a line of the report."""
        started = time.monotonic()
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the next check must run
            self.failed.append(name)
            where = traceback.format_exc().splitlines()[-8:]
            self.say(name, ok=False, error=f"{type(error).__name__}: {error}"[:600], where=where)
            with contextlib.suppress(Exception):
                self.wait()
        else:
            self.say(name + " done", seconds=round(time.monotonic() - started, 1))

    def wait(self) -> None:
        """Until the device has done all."""
        if self.gpu:
            torch.cuda.synchronize()

    def start(self, **fields: Any) -> TrainingRun:
        """A run whose loops stay on the device, with a network that begins boldly."""
        run = TrainingRun.start(Config(**{**BASE, "device": self.device, **fields}))
        if not self.gpu:
            run.loops = Loops(on_device=not run.config.detect_anomaly)
        with torch.no_grad():
            last = [weight for weight in run.model.parameters() if weight.dim() == 1][-1]
            last.add_(4.0 if run.config.dt_head == "log" else 0.0)
        return run

    def time_us(self, function: Callable[[], object], calls: int) -> float:
        """Best mean time of a call, of five rounds of them [µs]."""
        for _ in range(6):
            function()
        best = float("inf")
        for _ in range(5 if self.gpu else 1):
            self.wait()
            started = time.perf_counter()
            for _ in range(calls if self.gpu else 2):
                function()
            self.wait()
            elapsed = time.perf_counter() - started
            best = min(best, 1e6 * elapsed / (calls if self.gpu else 2))
        return round(best, 1)


def rows(run: TrainingRun) -> list[dict[str, Any]]:
    """The metrics of a run's remaining epochs."""
    return [metrics.model_dump(exclude={"epoch_time"}) for metrics in epochs(run)]


def captured(run: TrainingRun) -> dict[str, bool]:
    """Which of a run's iterations are replayed as graphs."""
    collection, learner = run.loops._collection, run.loops._learner
    calls: dict[str, GraphedCall] = {}
    if collection is not None:
        calls |= {"attempt": collection.attempt, "advance": collection.advance}
    if learner is not None:
        calls |= {"learn": learner._learning, "judge": learner._judging}
    return {name: call.is_captured for name, call in calls.items()}


def loops_of(run: TrainingRun, batch: int) -> tuple[DeviceCollection, DeviceLearner, Samples]:
    """A run's iterations, and samples for those of Part 2."""
    training = TrainingSetup(run.model, run.optimizer, run.config, run.adapter, run.history_buffer)
    collection = run.loops.collection(training, run.begin_epoch(), run.config.steps_per_epoch)
    assert isinstance(collection, DeviceCollection)
    collection.descent.begin()
    features = collection.features
    index = torch.arange(batch, device=features.device) % len(features)
    ones = torch.ones(batch, dtype=features.dtype, device=features.device)
    samples = Samples(collection.states.take(index), features[index], ones)
    learner = run.loops.learner(training, samples, batch)
    assert isinstance(learner, DeviceLearner)
    learner.load(samples, index)
    learner.done()
    return collection, learner, samples
