"""One token's uses of a means wait for each other, not others for them."""

import asyncio

import pytest

from server.access.caller_shares import CallerShares


def test_so_many_uses_of_one_caller_at_a_time_and_nobody_waits_for_another() -> None:
    shares, inside, most = CallerShares(2), dict[str | None, int](), dict[str | None, int]()

    async def use(caller: str | None) -> None:
        async with shares.share(caller):
            inside[caller] = inside.get(caller, 0) + 1
            most[caller] = max(most.get(caller, 0), inside[caller])
            await asyncio.sleep(0)
            inside[caller] -= 1

    async def many() -> None:
        await asyncio.gather(*(use(caller) for caller in ["a"] * 9 + ["b"] + [None] * 5))

    asyncio.run(many())
    assert most == {"a": 2, "b": 1, None: 5}
    assert not shares._here
    assert not shares._gates


def test_errors_and_cancellations_leave_the_place_to_the_next() -> None:
    async def fail(shares: CallerShares) -> None:
        async with shares.share("a"):
            raise KeyError

    async def both() -> None:
        shares = CallerShares(1)
        with pytest.raises(KeyError):
            await fail(shares)
        async with shares.share("a"):
            waiting = asyncio.create_task(fail(shares))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        with pytest.raises(KeyError):
            await asyncio.wait_for(fail(shares), 1)

    asyncio.run(both())
