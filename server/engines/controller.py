"""Keeps as many workers as there is work for, between two bounds.

It keeps nothing that it would miss: what there is to do the server says, what runs the engine.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from server.engines.engine import Engine, EngineUnavailable, Pilot
from server.engines.plan import Bounds, plan
from server.wire.demand import Demand, HeldBy

logger = logging.getLogger(__name__)
MOST_BACK_OFF_S = 600.0
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
        self._futile = 0  # workers in a row that ended without a job
        self._not_before = 0.0  # more workers are started [s, monotonic]
        self._told: tuple[int, int, int, str] | None = None
        self._away: str | None = None

    def run(self, stopping: threading.Event) -> None:
        """Look again and again, until told to stop."""
        while not stopping.is_set():
            try:
                self.look()
            except (EngineUnavailable, ServerAway) as error:
                if self._away != str(error):
                    logger.warning("%s; nothing is changed until it answers", error)
                self._away = str(error)
            else:
                if self._away is not None:
                    logger.info("it answers again")
                self._away = None
            stopping.wait(self._interval_s)

    def look(self) -> None:
        """Look once, and change what is to be changed.

        Raises:
            EngineUnavailable, ServerAway
        """
        pilots, demand = self._engine.list(), self._ask()
        self._note_ends(pilots, demand.workers)
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
            EngineUnavailable
        """
        told: set[str] = set()
        until = time.monotonic() + patience_s
        while pilots := self._engine.list():
            if new := [pilot for pilot in pilots if f"{pilot.name} {pilot.runs}" not in told]:
                self._engine.stop(new)
                logger.info("%d are told to end", len(new))
            told |= {f"{pilot.name} {pilot.runs}" for pilot in new}
            if time.monotonic() > until:
                break
            time.sleep(LOOK_S)
        return pilots

    def _note_ends(self, pilots: Sequence[Pilot], workers: Sequence[HeldBy]) -> None:
        """Workers that end without having had a job, one after the other, are not started for
        ever: their jobs may be of a kind that none of them can take, or they fail."""
        names = {pilot.name for pilot in pilots}
        known = {worker.name: worker for worker in workers}
        busy = any(known[name].attempts for name in names & known.keys())
        for pilot in self._seen.values():
            if pilot.name in names:
                continue
            worker = known.get(pilot.name)
            if worker is not None and worker.attempts:
                busy = True
                continue
            self._futile += 1
            back_off_s = min(self._interval_s * 2**self._futile, MOST_BACK_OFF_S)
            self._not_before = time.monotonic() + back_off_s
            how = "had no job" if worker is not None else "never came to the server"
            text = "%s ended and %s; no more are started for %.0f s"
            logger.warning(text, pilot.name, how, back_off_s)
        if busy:
            self._futile, self._not_before = 0, 0.0
        self._seen = {pilot.name: pilot for pilot in pilots}

    def _tell(self, pilots: Sequence[Pilot], demand: Demand, wanted: int) -> None:
        waiting = sorted({pilot.why for pilot in pilots if not pilot.runs and pilot.why})
        why = f" (it says: {', '.join(waiting)})" if waiting else ""
        runs = sum(pilot.runs for pilot in pilots)
        now = (len(pilots), runs, wanted, why)
        if now == self._told:
            return
        self._told = now
        text = "%d jobs wait for such workers; %d run, %d are to begin%s, %d are wanted"
        logger.info(text, demand.waiting, runs, len(pilots) - runs, why, wanted)
