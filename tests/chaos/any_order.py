"""Users, workers and the clock call the queue in any order: no rule of it may break.

The state machine is the one of the tests, driven far longer.
"""

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from server.queue import reports
from tests.chaos.proof import Counted
from tests.server.queue.test_state_machine import Queue, make_template

STEPS, EXAMPLES = 50, 10  # of an example, and of a stretch with one seed


def run(random: Random, rounds: int, folder: Path, protected: bool) -> Counted:
    """Each round is a call."""
    Queue.template, Queue.steps = make_template(folder), 0
    limits = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        database=None,
        deadline=None,
        print_blob=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    found: list[str] = []
    with nullcontext() if protected else _anybody_reports():
        while Queue.steps < rounds and not found:
            try:
                run_state_machine_as_test(seed(random.getrandbits(64))(Queue), settings=limits)
            except Exception as error:  # noqa: BLE001 - whatever rule was broken
                found.append(f"{type(error).__name__}: {error}"[:500])
    return Counted(Queue.steps, len(found), found=found)


@contextmanager
def _anybody_reports() -> Generator[None]:
    """The control: a lease is not looked at."""
    whole: Any = reports._held

    def unfenced(connection: Any, lease_id: str, token_id: str) -> Any:
        row = reports.driver_of(connection).execute(reports.HELD, (lease_id,)).fetchone()
        return reports.Held(*row)

    reports._held = unfenced
    try:
        yield
    finally:
        reports._held = whole
