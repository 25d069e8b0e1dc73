"""Who holds the loop for long has to rest."""

from server.access import loop_time
from server.access.loop_time import LONG_S, MOST_S, SHARE, LoopTime


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_token_has_its_share_of_the_loop_and_no_more() -> None:
    clock = Clock()
    taken = LoopTime(clock)
    worked = 0.0
    while clock.now < 200.0:
        clock.now += max(0.0, taken.rest_s("greedy"))
        clock.now += 0.02
        worked += 0.02
        taken.spend("greedy", 0.02)
    assert SHARE - 0.01 < worked / 100.0 < SHARE + 0.01


def test_pieces_that_came_at_once_are_all_paid_for() -> None:
    clock = Clock()
    taken = LoopTime(clock)
    for _ in range(10):
        taken.spend("greedy", 0.02)
    assert abs(taken.rest_s("greedy") - 0.2 * (1 / SHARE - 1)) < 1e-9


def test_nobody_rests_for_another_or_for_little() -> None:
    taken = LoopTime(Clock())
    taken.spend("greedy", 1.0)
    for _ in range(1000):
        taken.spend("modest", 0.9 * LONG_S)
    assert taken.rest_s("modest") <= 0.0
    assert taken.rest_s("never seen") <= 0.0


def test_those_who_have_rested_are_forgotten() -> None:
    clock = Clock()
    taken = LoopTime(clock)
    for number in range(loop_time.MOST_KEPT):
        taken.spend(f"token {number}", 0.01)
    for _ in range(1000):
        taken.spend("last", 0.01)
    clock.now += 50.0
    taken.spend("another", 0.01)
    assert taken.rest_s("last") > 0.0
    assert taken.rest_s("token 1") <= 0.0


def test_what_is_loaded_at_the_first_request_is_not_paid_for_by_whoever_came_first() -> None:
    taken = LoopTime(Clock())
    taken.spend("first", 2.0)
    assert taken.rest_s("first") <= MOST_S / SHARE
