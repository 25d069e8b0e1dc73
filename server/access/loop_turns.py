"""Turns on the event loop: of one token only so much at a time, while there is work of others."""

import asyncio
from collections import defaultdict, deque

TURN_S = 0.001  # of a processor, in one round of the loop


class LoopTurns:
    """Who has had a turn in a round of the loop waits for the next, behind its own earlier work.

    A round is what the loop does between two looks at its sockets. Nothing is held back that
    could go on: with work of one token only, its next round is the next one.
    """

    def __init__(self) -> None:
        self._spent: dict[str, float] = defaultdict(float)  # in this round [s]
        self._steps: dict[str, int] = defaultdict(int)
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._ends = False

    def is_over(self, principal_id: str) -> bool:
        """Whether the next step has to await `next` before it begins."""
        return principal_id in self._waiting or self._spent.get(principal_id, 0.0) >= TURN_S

    def next(self, principal_id: str) -> "asyncio.Future[None]":
        """Done when the step may begin."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(principal_id, deque()).append(turn)
        self._end_this_round()
        return turn

    def spend(self, principal_id: str, seconds: float) -> None:
        """Count a step."""
        self._spent[principal_id] += seconds
        self._steps[principal_id] += 1
        self._end_this_round()

    def _end_this_round(self) -> None:
        if not self._ends:
            self._ends = True
            asyncio.get_running_loop().call_soon(self._begin_round)

    def _begin_round(self) -> None:
        """Let as many of each go on as fit into a turn, as long as their last steps took."""
        for principal_id, waiting in list(self._waiting.items()):
            steps = self._steps.get(principal_id, 0)
            usual = self._spent[principal_id] / steps if steps else TURN_S
            for _ in range(min(max(1, int(TURN_S / max(usual, 1e-6))), len(waiting))):
                turn = waiting.popleft()
                if not turn.done():  # cancelled: it will not come
                    turn.set_result(None)
            if not waiting:
                del self._waiting[principal_id]
        self._spent.clear()
        self._steps.clear()
        self._ends = False
        if self._waiting:
            self._end_this_round()
