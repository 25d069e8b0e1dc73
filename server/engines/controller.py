"""Keeps as many workers as there is work for, between two bounds.

It keeps nothing that it would miss: what there is to do the server says, what runs the engine.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence

from server.engines.engine import Engine, EngineUnavailable, Pilot
from server.engines.plan import Bounds, plan
from server.wire.demand import Demand

logger = logging.getLogger(__name__)
MOST_BACK_OFF_S = 600.0
ABSENCE_S = 60.0  # after which a look judges nobody
LOOK_S = 0.5  # while workers end


class ServerAway(Exception):
    """The server does not answer, so nobody knows what there is to do."""


class Controller:
    """Looks and acts.

    Args:
        ask: what there is to do; raises ServerAway.
        interval_s: between looks [s].
    """

    def __init__(
        self, engine: Engine, ask: Callable[[], Demand], bounds: Bounds, interval_s: float
    ) -> None:
        self._engine, self._ask = engine, ask
        self._bounds, self._interval_s = bounds, interval_s
        self._seen: dict[str, Pilot] = {}  # that there were at the last look
        self._attempts: dict[str, int] = {}  # that they had made by then
        self._looked_at = -math.inf
        self._futile = 0  # looks in a row at which workers had ended without a job
        self._not_before = -math.inf  # more workers are started [s, monotonic]
        self._told: tuple[int, int, int, str] | None = None
        self._away: str | None = None

    def run(self, stopping: threading.Event) -> None:
        """Look again and again, until told to stop; what does not answer is asked again."""
        while not stopping.is_set():
            try:
                self.look()
            except (EngineUnavailable, ServerAway) as error:
                if self._away != str(error):
                    logger.warning("%s; tried again every %g s", error, self._interval_s)
                self._away = str(error)
            else:
                if self._away is not None:
                    logger.info("that is over")
                self._away = None
            stopping.wait(self._interval_s)

    def ask(self) -> None:
        """Ask engine and server once, and change nothing.

        Raises:
            EngineUnavailable, ServerAway
        """
        self._engine.list()
        self._ask()

    def look(self) -> None:
        """Look once, and change what is to be changed.

        Raises:
            EngineUnavailable, ServerAway
        """
        pilots, demand = self._engine.list(), self._ask()
        self._note_ends(pilots, demand)
        change = plan(pilots, demand, self._bounds)
        self._tell(pilots, demand, change.wanted)
        if change.stop:
            self._engine.stop(change.stop)
            logger.info("%d that have not begun are taken back", len(change.stop))
            for pilot in change.stop:
                self._seen.pop(pilot.name, None)
        if time.monotonic() < self._not_before:
            return
        for number, kept in ((change.start_kept, True), (change.start, False)):
            if number:
                started = self._engine.start(number, kept=kept)
                self._seen |= {pilot.name: pilot for pilot in started}
                logger.info("%d more asked for%s", number, ", to stay" if kept else "")

    def end(self, patience_s: float) -> list[Pilot]:
        """End all workers; returns those that are still there after so long.

        Raises:
            EngineUnavailable: it did not answer to the last.
        """
        told: set[tuple[str, str]] = set()
        until = time.monotonic() + patience_s
        while True:
            try:
                pilots = self._engine.list()
                new = [pilot for pilot in pilots if (pilot.name, pilot.state) not in told]
                if new:
                    self._engine.stop(new)
                    logger.info("%d are told to end", len(new))
                told |= {(pilot.name, pilot.state) for pilot in new}
                if not pilots or time.monotonic() > until:
                    return pilots
            except EngineUnavailable as error:
                if time.monotonic() > until:
                    raise
                logger.warning("%s; tried again", error)
            time.sleep(LOOK_S)

    def _note_ends(self, pilots: Sequence[Pilot], demand: Demand) -> None:
        """Workers that end without having had a job, while jobs wait or before the server knew
        them, are not started for ever: they fail, or none of them can take what waits."""
        now = time.monotonic()
        names = {pilot.name for pilot in pilots}
        known = {worker.name: worker.attempts for worker in demand.workers}
        in_vain = [
            (name, known.get(name))
            for name in self._seen.keys() - names
            if name not in known or (not known[name] and demand.waiting)
        ]
        work_was_done = any(number > self._attempts.get(name, 0) for name, number in known.items())
        # Of what happened while nobody looked the server may have forgotten half.
        if now - self._looked_at > ABSENCE_S + self._interval_s:
            in_vain = []
        if work_was_done:
            self._futile, self._not_before = 0, -math.inf
        elif in_vain:
            self._futile += 1
            back_off_s = min(self._interval_s * 2**self._futile, MOST_BACK_OFF_S)
            self._not_before = now + back_off_s
            name, attempts = in_vain[0]
            how = "never came to the server" if attempts is None else "took none of what waits"
            more = f" and {len(in_vain) - 1} more" if len(in_vain) > 1 else ""
            text = "%s%s ended and %s; no more are started for %.0f s"
            logger.warning(text, name, more, how, back_off_s)
        self._seen = {pilot.name: pilot for pilot in pilots}
        self._attempts, self._looked_at = known, now

    def _tell(self, pilots: Sequence[Pilot], demand: Demand, wanted: int) -> None:
        waiting = [pilot for pilot in pilots if pilot.state in {"waits", "held"}]
        reasons = sorted({pilot.why for pilot in waiting if pilot.why})
        why = f" (it says: {', '.join(reasons)})" if reasons else ""
        runs = sum(pilot.state == "runs" for pilot in pilots)
        now = (runs, len(waiting), wanted, why)
        if now == self._told:
            return
        self._told = now
        text = "%d jobs wait for such workers; %d run, %d are to begin%s, %d are wanted"
        logger.info(text, demand.waiting, runs, len(waiting), why, wanted)
