"""How many workers there are to be, on an engine that only counts."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest

from server.engines import controller as controller_module
from server.engines.controller import Controller, ServerAway
from server.engines.engine import Engine, EngineUnavailable, Pilot, PilotState
from server.engines.plan import Bounds, Plan, plan
from server.wire.demand import Demand, HeldBy


def pilots(runs: int, waiting: int = 0, kept: int = 0) -> list[Pilot]:
    names = [f"p.kept-{n}" for n in range(kept)] + [f"p-{n}" for n in range(runs + waiting - kept)]
    states: list[PilotState] = ["runs"] * runs + ["waits"] * waiting
    return [Pilot(name, name, state) for name, state in zip(names, states, strict=True)]


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


def test_those_that_are_to_stay_are_taken_back_where_there_are_too_many() -> None:
    made = plan(pilots(0, 4, kept=3), demand(), Bounds(2, 9))
    assert [pilot.name for pilot in made.stop] == ["p.kept-0", "p-0"]


def test_one_that_is_known_to_the_server_runs_whatever_the_engine_says() -> None:
    made = plan(pilots(0, 2), demand(0, p_1=1), Bounds(0, 9))
    assert [pilot.name for pilot in made.stop] == ["p-0"]


def test_what_will_never_begin_is_taken_back_and_does_not_count() -> None:
    there = [Pilot("1", "p-1", "held")]
    made = plan(there, demand(1), Bounds(0, 1))
    assert (made.start, made.stop) == (1, there)


def test_one_that_ends_has_its_place_until_it_is_gone() -> None:
    there = [Pilot("1", "p-1", "ends")]  # or comes again, where its node was taken
    assert plan(there, demand(1), Bounds(0, 1)) == Plan(wanted=1)
    assert plan(there, demand(1), Bounds(0, 2)) == Plan(wanted=1, start=1)


@dataclass
class Counting(Engine):
    """Workers that are names."""

    there: list[Pilot] = field(default_factory=list[Pilot])
    started: int = 0
    fails: bool = False

    def start(self, number: int, *, kept: bool) -> list[Pilot]:
        names = [f"p{'.kept' if kept else ''}-{self.started + n}" for n in range(number)]
        self.started += number
        new = [Pilot(name, name, "waits") for name in names]
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


def known(*attempts: tuple[str, int], waiting: int = 9) -> Demand:
    """Workers that the server knows, and how many attempts they made."""
    held = [HeldBy(name=name, slots=1, jobs=0, attempts=number) for name, number in attempts]
    return Demand(waiting=waiting, workers=held)


@pytest.mark.parametrize("number", [1, 8])
def test_workers_that_end_without_a_job_are_started_ever_more_rarely(
    clock: Clock, number: int
) -> None:
    engine, asked = Counting(), known(waiting=number)
    made = Controller(engine, lambda: asked, Bounds(0, number), 1.0)
    starts: list[float] = []
    while clock.now < 2000:
        before = engine.started
        made.look()
        starts += [clock.now] * (engine.started > before)
        engine.there = []  # at once, before anybody sees them
        clock.now += 1
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert gaps[:3] == [3, 5, 9]  # a look and 2, 4, 8 s, however many failed at once
    assert gaps == sorted(gaps)
    assert max(gaps) == 601

    # Then somebody mends it: the next one takes a job, and all is as before.
    while not engine.there:
        made.look()
        clock.now += 1
    asked = known((engine.there[0].name, 1), waiting=number)
    engine.there = []
    made.look()
    assert len(engine.there) == number


def test_a_worker_that_works_does_not_hide_that_others_fail(clock: Clock) -> None:
    engine = Counting()
    made = Controller(engine, lambda: known(("p-0", 1)), Bounds(0, 2), 1.0)
    for _ in range(100):
        made.look()
        engine.there = [pilot for pilot in engine.there if pilot.name == "p-0"]
        clock.now += 1
    assert engine.started < 10


def test_workers_that_do_jobs_are_started_again_at_once(clock: Clock) -> None:
    engine = Counting()
    done: list[tuple[str, int]] = []
    made = Controller(engine, lambda: known(*done), Bounds(0, 1), 1.0)
    for number in range(10):
        made.look()
        done.append((f"p-{number}", 1))
        engine.there = []
        clock.now += 1
    assert engine.started == 10


def test_those_that_found_no_work_because_there_was_none_have_not_failed(clock: Clock) -> None:
    engine = Counting()
    asked = known(("p.kept-0", 0), ("p.kept-1", 0), waiting=0)
    made = Controller(engine, lambda: asked, Bounds(2, 2), 1.0)
    made.look()
    engine.there = []  # after an idle hour
    clock.now += 1
    made.look()
    assert engine.started == 4


def test_nobody_is_judged_by_who_was_away(clock: Clock) -> None:
    engine = Counting()
    made = Controller(engine, known, Bounds(0, 2), 1.0)
    made.look()
    engine.there = []
    clock.now += 3600  # without an answer of the server, which has forgotten them
    made.look()
    assert len(engine.there) == 2


def test_while_nobody_knows_nothing_is_changed(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    engine, stopping = Counting(pilots(0, 3)), threading.Event()
    looks: list[Any] = [ServerAway, ServerAway, demand(4), None]

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
    assert caplog.text.count("tried again every") == 1
    assert caplog.text.count("that is over") == 1


def test_at_the_end_each_is_told_once_and_again_when_it_has_begun(clock: Clock) -> None:
    told: list[Pilot] = []

    class Slow(Counting):
        def stop(self, pilots: Sequence[Pilot]) -> None:
            told.extend(pilots)
            if self.there[0].state == "waits":  # it began just before it was to be taken back
                self.there = [replace(self.there[0], state="runs")]

    engine = Slow(pilots(0, 1))
    left = Controller(engine, demand, Bounds(0, 1), 1.0).end(5.0)
    assert [pilot.state for pilot in told] == ["waits", "runs"]
    assert left == engine.there


def test_an_engine_that_does_not_answer_at_the_end_is_asked_again(clock: Clock) -> None:
    class Shaky(Counting):
        def list(self) -> list[Pilot]:
            self.fails = not self.fails
            return super().list()

        def stop(self, pilots: Sequence[Pilot]) -> None:
            super().stop(pilots[:1])
            if len(pilots) > 1:
                raise EngineUnavailable("scancel: one has just ended")

    engine = Shaky(pilots(3))
    assert Controller(engine, demand, Bounds(0, 1), 1.0).end(60.0) == []
    with pytest.raises(EngineUnavailable):
        Controller(Counting(fails=True), demand, Bounds(0, 1), 1.0).end(5.0)
