"""The advisor names the fastest way that keeps the error, among ways whose costs are known."""

import numpy as np
import pytest

from nbody.advice.candidates import Candidate, Ladder, native_candidates, rebound_candidates
from nbody.advice.rebound_trials import shortest_free_fall
from nbody.advice.search import Search, front_of
from nbody.advice.trials import Trial
from nbody.errors import NothingKeepsTheError
from nbody.native.engine import NativeSystem

SYSTEM = NativeSystem(np.ones(2), np.eye(2, 3), np.zeros((2, 3)))
NOWHERE = np.zeros((2, 3))


def known(name: str, order: float, seconds: float, drifts: bool = False) -> Candidate:
    """A way whose error is accuracy^order, and whose cost is inverse to the accuracy."""

    def attempt(_: NativeSystem, accuracy: float, span: float) -> Trial:
        error = accuracy**order * (span if drifts else 1.0)
        return Trial(seconds * span / accuracy, None, min(error, 1.0), NOWHERE)

    return Candidate(name, Ladder(0.5, 1.5), attempt, lambda _, accuracy: f"{name} {accuracy}")


def searched(*candidates: Candidate, error: float = 1e-6) -> Search:
    search = Search(SYSTEM, 1.0, error, tell=lambda _: None)
    search.run(candidates)
    return search


def test_the_higher_order_wins_where_the_error_is_small() -> None:
    ways = known("second", 2, 1.0), known("sixth", 6, 9.0)
    choices = {}
    for error in (1e-1, 1e-6):
        search = Search(SYSTEM, 1.0, error, tell=lambda _: None)
        choices[error] = search.run(ways).candidate.name
    assert choices == {1e-1: "second", 1e-6: "sixth"}


def test_what_it_promises_was_measured_over_the_whole_span() -> None:
    search = Search(SYSTEM, 1.0, 1e-6, tell=lambda _: None)
    choice = search.run([known("one", 4, 1.0), known("drifting", 4, 0.8, drifts=True)])
    assert choice.share == 1.0
    assert choice.trial.error <= 1e-6
    best = min(t.trial.seconds for t in search.tried if t.share == 1.0 and t.trial.error <= 1e-6)
    assert choice.trial.seconds <= 1.1 * best


def test_it_is_as_rough_as_the_error_allows() -> None:
    search = Search(SYSTEM, 1.0, 1e-6, tell=lambda _: None)
    choice = search.run([known("one", 4, 1.0)])
    ideal = 1e-6**0.25
    assert ideal / 1.25 < choice.accuracy <= ideal


def test_where_nothing_keeps_the_error_it_says_so() -> None:
    with pytest.raises(NothingKeepsTheError, match="nothing that was tried"):
        searched(known("hopeless", 0.0, 1.0))


def test_the_front_holds_what_nothing_beats() -> None:
    search = searched(known("one", 4, 1.0), known("other", 2, 0.1))
    front = front_of(search.tried)
    seconds = [t.trial.seconds for t in front]
    errors = [t.trial.error for t in front]
    assert seconds == sorted(seconds)
    assert errors == sorted(errors, reverse=True)


def test_slow_ways_are_not_run_over_the_whole_span() -> None:
    slow = [known(f"slow {i}", 4, 50.0 + i) for i in range(6)]
    search = searched(*[known(f"fast {i}", 4, 1.0 + 0.01 * i) for i in range(5)], *slow)
    whole = {t.candidate.name for t in search.tried if t.share == 1.0}
    assert not any(name.startswith("slow") for name in whole)


def test_fixed_steps_are_told_in_the_simulation_s_own_time() -> None:
    third = NativeSystem(np.array([8.0, 0.0]), np.array([[0.0, 0, 0], [2, 0, 0]]), np.zeros((2, 3)))
    assert shortest_free_fall(third) == pytest.approx((1.0**3 / 8.0) ** 0.5)  # it falls: a = r/2


@pytest.mark.slow
def test_a_real_system_gets_an_integrator_whose_lines_keep_the_promise() -> None:
    rebound = pytest.importorskip("rebound", minversion="5")
    mass = np.array([1.0, 1e-3])
    places, speeds = np.array([[0.0, 0, 0], [1, 0, 0]]), np.array([[0.0, 0, 0], [0, 0.6, 0]])
    system = NativeSystem(
        mass, places - mass @ places / mass.sum(), speeds - mass @ speeds / mass.sum()
    )
    search = Search(system, 60.0, 1e-6, tell=lambda _: None)
    choice = search.run([*native_candidates(), *rebound_candidates()])
    sim = rebound.Simulation()
    for m, x, v in zip(mass, system.position, system.velocity, strict=True):
        sim.add(m=m, x=x[0], y=x[1], z=x[2], vx=v[0], vy=v[1], vz=v[2])
    exec(choice.candidate.lines(system, choice.accuracy), {"sim": sim})
    energy, worst = sim.energy(), 0.0
    for time in np.linspace(1, 60, 60):
        sim.integrate(time, exact_finish_time=0)
        worst = max(worst, abs(sim.energy() / energy - 1))
    assert worst <= 1e-6
