"""When somebody moves the wall clock: what counts seconds on it goes on as if nobody had."""

import time

from sqlalchemy import Connection, update

from server.database.tables import attempts, deliveries

TOLERATED_S = 1.0  # what a clock may gain on another between two looks


class ClockSteps:
    """By how much the wall clock was moved, and how much of that was seen to."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def look(self) -> float:
        """Seconds by which the wall clock was moved, and nobody has seen to; negative: back."""
        step = time.time() - time.monotonic() - self._offset
        return step if abs(step) > TOLERATED_S else 0.0

    def settle(self, step: float) -> None:
        """Whatever counts on the wall clock knows of the step."""
        self._offset += step


def take_out(connection: Connection, step: float) -> None:
    """No running attempt used those seconds, and no webhook is due earlier or later for them."""
    running, waiting = attempts.c.ended_at.is_(None), deliveries.c.next_at.is_not(None)
    moved = {"clock_steps_s": attempts.c.clock_steps_s + step}
    connection.execute(update(attempts).where(running).values(moved))
    connection.execute(
        update(deliveries).where(waiting).values(next_at=deliveries.c.next_at + step)
    )
