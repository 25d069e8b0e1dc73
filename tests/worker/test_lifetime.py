"""When an agent takes no more jobs."""

import pytest

from worker import lifetime
from worker.lifetime import FAREWELL_S, LEAST_S, Bounds, Lifetime


class Clocks:
    """Both clocks of a host, moved by hand."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        patch.setattr(lifetime.time, "monotonic", lambda: self.now)
        patch.setattr(lifetime.time, "time", lambda: self.now)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def take(of: Lifetime) -> None:
    assert of.ask() is None
    of.got(one=True)


def test_without_bounds_there_is_no_end(clocks: Clocks) -> None:
    of = Lifetime(Bounds())
    for _ in range(3):
        take(of)
        of.done()
        clocks.now += 1e6
    assert of.left_s is None
    assert of.ask() is None


def test_so_many_jobs_whichever_slot_takes_them(clocks: Clocks) -> None:
    of = Lifetime(Bounds(jobs=2))
    take(of)
    assert of.ask() is None  # one slot asks for the last
    assert "2 jobs" in (of.ask() or "")
    of.got(one=False)
    take(of)
    assert of.ask() is not None
    of.done()
    assert of.ask() is not None


def test_idle_is_only_who_has_no_job_in_any_slot(clocks: Clocks) -> None:
    of = Lifetime(Bounds(idle_s=60))
    take(of)
    clocks.now += 1000
    assert of.ask() is None
    of.got(one=False)
    of.done()
    clocks.now += 59
    assert of.ask() is None
    of.got(one=False)
    clocks.now += 1
    assert "60 s" in (of.ask() or "")


def test_what_a_start_takes_is_no_idleness(clocks: Clocks) -> None:
    of = Lifetime(Bounds(idle_s=1))
    clocks.now += 100
    assert of.ask() is None


def test_no_job_is_begun_when_there_is_hardly_time(clocks: Clocks) -> None:
    of = Lifetime(Bounds(until=clocks.now + 100))
    assert of.left_s == 100 - FAREWELL_S
    take(of)
    clocks.now += 100 - FAREWELL_S - LEAST_S + 1
    assert "time" in (of.ask() or "")
    clocks.now += 1000
    assert of.left_s == 0


def test_who_waits_for_a_job_looks_again_before_the_end(clocks: Clocks) -> None:
    assert Lifetime(Bounds()).patience_s > 1000
    idle = Lifetime(Bounds(idle_s=60))
    assert idle.ask() is None
    assert idle.patience_s == 60
    clocks.now += 50
    assert idle.patience_s == 10
    idle.got(one=True)  # one slot works: the others are not idle
    assert idle.patience_s == 60
    until = Lifetime(Bounds(until=clocks.now + 100))
    assert until.patience_s == pytest.approx(100 - FAREWELL_S - LEAST_S)
    clocks.now += 1000
    assert 0 < until.patience_s < 1
