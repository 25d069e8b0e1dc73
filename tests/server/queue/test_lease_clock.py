"""Leases run on a clock that nobody can move."""

import time
from pathlib import Path

import pytest
from sqlalchemy import text

from server.queue.leases import Leases
from server.queue.own_silence import OwnSilence
from tests.server.conftest import Clock, OrreryServer


def test_a_lease_expires_when_its_time_is_over() -> None:
    clock = Clock()
    leases = Leases(30.0, clock)
    leases.renew("lease_a")
    clock.advance(29.0)
    assert leases.expired() == []
    clock.advance(1.0)
    assert leases.expired() == ["lease_a"]


def test_a_renewal_gives_the_full_time_again() -> None:
    clock = Clock()
    leases = Leases(30.0, clock)
    leases.renew("lease_a")
    clock.advance(29.0)
    leases.renew("lease_a")
    clock.advance(29.0)
    assert leases.expired() == []


def test_a_released_lease_does_not_expire() -> None:
    clock = Clock()
    leases = Leases(30.0, clock)
    leases.renew("lease_a")
    leases.renew("lease_b")
    leases.release("lease_a")
    leases.release("lease_a")
    clock.advance(100.0)
    assert leases.expired() == ["lease_b"]


def test_restored_leases_start_with_their_full_time() -> None:
    clock = Clock()
    leases = Leases(30.0, clock)
    leases.restore(["lease_a", "lease_b"])
    clock.advance(29.0)
    assert leases.expired() == []
    clock.advance(2.0)
    assert leases.expired() == ["lease_a", "lease_b"]


@pytest.mark.parametrize("days", [-1, 1], ids=["back", "forward"])
def test_a_wall_clock_moved_by_a_day_expires_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    with OrreryServer(tmp_path) as server:
        job, assignment = server.start()
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 86400 * days)
        server.call(server.service.expire_leases())
        assert server.report(assignment["lease_id"]).status_code == 200
        assert server.job(job["id"])["status"] == "running"


@pytest.mark.parametrize("seconds", [-86400.0, 86400.0])
@pytest.mark.parametrize("end", ["before", "after"])
def test_a_moved_wall_clock_uses_up_no_runtime(
    server: OrreryServer, monkeypatch: pytest.MonkeyPatch, seconds: float, end: str
) -> None:
    real = time.time
    server.submit(max_runtime_s=100)
    if end == "after":  # the attempt begins after the step, and the clock is set right again
        monkeypatch.setattr(time, "time", lambda: real() + seconds)
    assert server.claim() is not None
    monkeypatch.setattr(time, "time", real if end == "after" else lambda: real() + seconds)
    server.lose_leases()
    second = server.claim()
    assert second is not None
    assert second["runtime_left_s"] == pytest.approx(100, abs=5)


def test_an_attempt_that_outlives_its_machine_ran_until_its_worker_was_last_heard_of(
    server: OrreryServer,
) -> None:
    server.start(max_runtime_s=100)
    for change in (
        "UPDATE attempts SET boot_id = 'another', started_at = started_at - 7270",
        "UPDATE workers SET last_seen_at = last_seen_at - 7200",  # for so long the machine was off
    ):
        server.write(lambda connection, change=change: connection.execute(text(change)))
    server.lose_leases()
    second = server.claim()
    assert second is not None
    assert second["runtime_left_s"] == pytest.approx(30, abs=5)


@pytest.mark.slow
def test_a_restarted_server_gives_every_lease_its_full_time(tmp_path: Path) -> None:
    with OrreryServer(tmp_path) as server:
        job, assignment = server.start()
    with OrreryServer(tmp_path) as server:
        ttl_s = server.settings.lease_ttl_s
        leases = server.service.leases
        leases._clock = lambda: time.monotonic() + ttl_s - 5
        assert leases.expired() == []
        leases._clock = lambda: time.monotonic() + ttl_s + 1
        assert leases.expired() == [assignment["lease_id"]]
        leases._clock = time.monotonic
        assert server.report(assignment["lease_id"]).status_code == 200
        assert server.job(job["id"])["status"] == "running"


def test_a_report_renews_the_lease(server: OrreryServer) -> None:
    job, assignment = server.start()
    for _ in range(3):
        server.clock.advance(server.settings.lease_ttl_s - 1)
        assert server.report(assignment["lease_id"]).status_code == 200
        server.call(server.service.expire_leases())
    assert server.job(job["id"])["status"] == "running"


def test_a_lease_is_known_to_have_begun_until_it_is_released() -> None:
    leases = Leases(30.0, Clock())
    leases.renew("lease_a")
    leases.renew("lease_b", has_begun=True)
    leases.renew("lease_b")
    assert (leases.has_begun("lease_a"), leases.has_begun("lease_b")) == (False, True)
    leases.release("lease_b")
    assert not leases.has_begun("lease_b")


def test_the_oldest_silence_is_that_of_the_holder_heard_of_first() -> None:
    clock = Clock()
    leases = Leases(30.0, clock)
    assert leases.oldest_silence_s() == 0.0
    leases.renew("lease_a")
    clock.advance(5.0)
    leases.renew("lease_b")
    clock.advance(2.0)
    assert (leases.oldest_silence_s(), len(leases)) == (7.0, 2)
    leases.renew("lease_a")
    assert leases.oldest_silence_s() == 2.0


# --- the server's own silence -------------------------------------------------------------------


def test_what_the_server_did_not_hear_is_not_held_against_workers() -> None:
    clock = Clock()
    leases, silence = Leases(4.0, clock), OwnSilence(0.5, clock)
    leases.renew("lease_a")
    clock.advance(3.0)  # of these half a second was its own business
    leases.excuse(silence.look(None))
    clock.advance(0.5)
    assert silence.look(None) == 0.0
    clock.advance(60.0)  # stopped
    leases.excuse(silence.look(None))
    assert leases.expired() == []
    for _ in range(4):
        clock.advance(0.5)
        leases.excuse(silence.look(None))
    assert leases.expired() == []
    clock.advance(0.5)
    leases.excuse(silence.look(None))
    assert leases.expired() == ["lease_a"]


def test_a_disk_that_hangs_is_the_servers_own_silence() -> None:
    clock = Clock()
    silence = OwnSilence(0.5, clock)
    clock.advance(0.5)
    assert silence.look(busy_since=clock.now - 0.2) == 0.0  # it began since the last look
    began = clock.now - 0.2
    for _ in range(3):
        clock.advance(0.5)
        assert silence.look(busy_since=began) == 0.5
    clock.advance(0.5)
    assert silence.look(busy_since=None) == 0.0
