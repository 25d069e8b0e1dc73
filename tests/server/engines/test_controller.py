"""How many workers there are to be, on an engine that only counts."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest

from server.engines import controller as controller_module
from server.engines.controller import Controller, ServerAway
from server.engines.engine import Engine, EngineUnavailable, Pilot
from server.engines.plan import Bounds, plan
from server.wire.demand import Demand, HeldBy


def pilots(runs: int, waiting: int = 0, kept: int = 0) -> list[Pilot]:
    names = [f"p.kept-{n}" for n in range(kept)] + [f"p-{n}" for n in range(runs + waiting - kept)]
    return [Pilot(name, name, runs=place < runs) for place, name in enumerate(names)]


def demand(waiting: int = 0, **jobs: int) -> Demand:
    """Jobs that wait, and those that workers `p_0`, … hold."""
    held = [
        HeldBy(name=name.replace("_", "-"), slots=1, jobs=number, attempts=number)
        for name, number in jobs.items()
    ]
    return Demand(waiting=waiting, workers=held)


@pytest.mark.parametrize(
    ("there", "asked", "bounds", "start", "stop"),
    [
        ([], demand(), Bounds(0, 9), 0, 0),
        ([], demand(3), Bounds(0, 9), 3, 0),
        ([], demand(30), Bounds(0, 9), 9, 0),
        ([], demand(7), Bounds(0, 9, slots=2), 4, 0),
        (pilots(2), demand(3, p_0=1, p_1=1), Bounds(0, 9), 3, 0),
        (pilots(2), demand(1, p_0=1), Bounds(0, 9), 0, 0),  # the other one will take it
        (pilots(0, 2), demand(2), Bounds(0, 9), 0, 0),  # they are about to begin
        (pilots(1, 2), demand(0, p_0=1), Bounds(0, 9), 0, 2),
        (pilots(3), demand(), Bounds(0, 9), 0, 0),  # those that run end by themselves
        (pilots(9), demand(5, p_0=1), Bounds(0, 4), 0, 0),
        (pilots(0, 9), demand(5), Bounds(0, 4), 0, 5),
        (pilots(1), demand(1, p_0=1, other_7=5), Bounds(0, 9), 1, 0),
    ],
)
def test_one_worker_for_so_many_jobs_as_it_takes(
    there: list[Pilot], asked: Demand, bounds: Bounds, start: int, stop: int
) -> None:
    made = plan(there, asked, bounds)
    assert (made.start_kept, made.start, len(made.stop)) == (0, start, stop)
    assert made.stop == there[len(there) - stop :]


@pytest.mark.parametrize(
    ("there", "asked", "start_kept", "start", "stop"),
    [
        ([], demand(), 2, 0, 0),
        ([], demand(1), 2, 0, 0),
        ([], demand(3), 2, 1, 0),
        (pilots(2, kept=2), demand(), 0, 0, 0),
        (pilots(0, 2, kept=2), demand(), 0, 0, 0),  # none of these is taken back
        (pilots(2, kept=1), demand(), 0, 0, 0),  # enough, while they are there
        (pilots(1, kept=1), demand(), 1, 0, 0),
    ],
)
def test_some_stay_without_work(
    there: list[Pilot], asked: Demand, start_kept: int, start: int, stop: int
) -> None:
    made = plan(there, asked, Bounds(2, 9))
    assert (made.start_kept, made.start, len(made.stop)) == (start_kept, start, stop)


@dataclass
class Counting(Engine):
    """Workers that are names."""

    there: list[Pilot] = field(default_factory=list[Pilot])
    started: int = 0
    fails: bool = False

    def start(self, number: int, *, kept: bool) -> list[Pilot]:
        names = [f"p{'.kept' if kept else ''}-{self.started + n}" for n in range(number)]
        self.started += number
        new = [Pilot(name, name, runs=False) for name in names]
        self.there += new
        return new

    def list(self) -> list[Pilot]:
        if self.fails:
            raise EngineUnavailable("squeue: it is away")
        return list(self.there)

    def stop(self, pilots: Sequence[Pilot]) -> None:
        self.there = [pilot for pilot in self.there if pilot not in pilots]


@dataclass
class Clock:
    """Of the controller."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(controller_module, "time", made)
    return made


def test_workers_that_end_without_a_job_are_started_ever_more_rarely(clock: Clock) -> None:
    engine, asked = Counting(), demand(2)
    made = Controller(engine, lambda: asked, Bounds(0, 2), 1.0)
    starts: list[float] = []
    while clock.now < 2000:
        before = engine.started
        made.look()
        starts += [clock.now] * (engine.started > before)
        engine.there = []  # at once, before anybody sees them
        clock.now += 1
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert gaps == sorted(gaps)
    assert len(starts) < 12
    assert max(gaps) <= 601

    # Then somebody mends it: the next one takes a job, and all is as before.
    made.look()
    while not engine.there:
        clock.now += 1
        made.look()
    name = engine.there[0].name
    asked = Demand(waiting=9, workers=[HeldBy(name=name, slots=1, jobs=1, attempts=1)])
    engine.there = engine.there[:1]
    made.look()
    assert len(engine.there) == 2


def test_workers_that_had_a_job_are_started_again_at_once(clock: Clock) -> None:
    engine = Counting()
    names = [f"p-{n}" for n in range(50)]
    workers = [HeldBy(name=name, slots=1, jobs=0, attempts=1) for name in names]
    made = Controller(engine, lambda: Demand(waiting=1, workers=workers), Bounds(0, 1), 1.0)
    for _ in range(10):
        made.look()
        engine.there = []
    assert engine.started == 10


def test_while_nobody_knows_nothing_is_changed(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    engine, stopping = Counting(pilots(0, 3)), threading.Event()
    looks: list[Any] = [EngineUnavailable, ServerAway, ServerAway, demand(4), None]

    def ask() -> Demand:
        look = looks.pop(0)
        if isinstance(look, Demand):
            return look
        if look is None:
            stopping.set()
            return demand(4)
        assert len(engine.there) == 3
        raise look("no answer")

    Controller(engine, ask, Bounds(0, 9), 0.0).run(stopping)
    assert len(engine.there) == 4
    assert caplog.text.count("nothing is changed") == 1
    assert caplog.text.count("it answers again") == 1


def test_at_the_end_each_is_told_once_and_again_when_it_has_begun(clock: Clock) -> None:
    told: list[Pilot] = []

    class Slow(Counting):
        def stop(self, pilots: Sequence[Pilot]) -> None:
            told.extend(pilots)
            if not self.there[0].runs:  # it began just before it was to be taken back
                self.there = [replace(self.there[0], runs=True)]

    engine = Slow(pilots(0, 1))
    left = Controller(engine, demand, Bounds(0, 1), 1.0).end(5.0)
    assert [pilot.runs for pilot in told] == [False, True]
    assert left == engine.there
