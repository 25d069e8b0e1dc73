"""How the driver spends its time."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from server.queue.changes import Changes
from server.queue.limits import NO_LIMITS
from server.sweeps import driver
from server.sweeps.driver import LOOK_INTERVAL_S, RESTS, SweepDriver


@pytest.mark.parametrize(
    ("took_s", "rests_s"), [(0.01, RESTS * 0.01), (5.0, LOOK_INTERVAL_S), (0.0, 0.0)]
)
def test_an_owners_sweeps_rest_after_each_move(
    monkeypatch: pytest.MonkeyPatch, took_s: float, rests_s: float
) -> None:
    now, rested = [100.0], list[float]()

    async def move(_: Any, sweep_id: str) -> bool:
        now[0] += took_s
        return sweep_id != "swp_still"

    async def sleep(seconds: float) -> None:
        rested.append(seconds)

    monkeypatch.setattr(SweepDriver, "move", move)
    monkeypatch.setattr(driver, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(driver, "asyncio", SimpleNamespace(sleep=sleep))
    sweeps = SweepDriver(cast(Any, None), Changes(), NO_LIMITS)
    work = sweeps._move_each(["swp_a", "swp_still", "swp_b"])
    with pytest.raises(StopIteration):
        work.send(None)
    assert rested == pytest.approx([rests_s, rests_s])
