"""Successive halving: every candidate on a short part of the run, the better ones on longer parts.

A candidate is tried at the roughest accuracy that keeps the error, which is looked for from rung to
rung of its ladder; what falls behind is dropped. The last ones are tried over the whole span, and
what is promised was measured there. As soon as a part has shown that the whole span is affordable
for all that remain, they go there: a quiet beginning says little of the encounters that follow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nbody.advice.candidates import Candidate
from nbody.advice.trials import Trial
from nbody.errors import NothingKeepsTheError
from nbody.native.engine import NativeSystem

SHARES = (1 / 64, 1 / 16, 1 / 4, 1.0)  # of the span
# Of those with steps of one length, and of the others: so many go on, and all so close to the best.
LEAST_KEPT, WITHIN = 4, 4.0
RUNS_EACH = 5  # of a candidate in a part, as a rule
FINEST = 40  # rung
HOPELESS = 8.0  # times the seconds of the best of a part: not looked at any further
MARGIN = 1.2  # of the error, for runs that differ in rounding
REFINEMENTS = 2  # between the rung that keeps the error and the one that does not
REFINED = 2  # candidates, the fastest

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Tried:
    """One run.

    Attributes:
        share: of the span that was run.
        keeps: whether its error was small enough for that part.
    """

    candidate: Candidate
    accuracy: float
    share: float
    trial: Trial
    keeps: bool


@dataclass
class Search:
    """What is looked for, and what was tried so far.

    Attributes:
        error: largest relative energy error that is allowed.
        tell, tick: called with what is going on, and after each run.
        budget: seconds for which all remaining candidates may go to the whole span at once.
    """

    system: NativeSystem
    span: float
    error: float
    tell: Tell
    tick: Callable[[], object] = lambda: None
    budget: float = 60.0
    tried: list[Tried] = field(default_factory=list[Tried])

    def run(self, candidates: Sequence[Candidate]) -> Tried:
        """Try them; the fastest over the whole span that keeps the error.

        Raises:
            NothingKeepsTheError: none does, at any accuracy.
        """
        rungs = {candidate.name: 0.0 for candidate in candidates}
        remaining = list(candidates)
        found: list[Tried] = []
        for share in SHARES:
            if found and share < 1.0 and self._is_affordable(found):
                continue
            self.tell(f"{len(remaining)} ways to integrate, {share:.3g} of the span")
            found = self._part(remaining, share, rungs)
            if not found:
                raise NothingKeepsTheError(self.error, [c.name for c in remaining])
            if share < 1.0 and not self._is_affordable(found):
                remaining = _kept(found)
        refined = [self._refined(tried, rungs) for tried in found[:REFINED]]
        return min([*refined, *found[REFINED:]], key=_seconds)

    def _is_affordable(self, found: list[Tried]) -> bool:
        """Whether the whole span is, for all that were found in a part."""
        seconds = sum(tried.trial.seconds / tried.share for tried in found)
        return RUNS_EACH * seconds <= self.budget

    def _part(
        self, candidates: Sequence[Candidate], share: float, rungs: dict[str, float]
    ) -> list[Tried]:
        """The best run of each that keeps the error, the fastest first; changes the rungs."""
        found: list[Tried] = []
        for candidate in candidates:
            best = min(map(_seconds, found), default=np.inf)
            tried = self._climb(candidate, share, rungs, HOPELESS * best)
            if tried is not None:
                found.append(tried)
        return sorted(found, key=_seconds)

    def _climb(
        self, candidate: Candidate, share: float, rungs: dict[str, float], most_seconds: float
    ) -> Tried | None:
        """Finer until the error is kept; or rougher as long as it is."""
        rung = rungs[candidate.name]
        tried = self._try(candidate, rung, share)
        if tried.keeps:
            while rung > candidate.ladder.roughest:
                rougher = self._try(candidate, rung - 1, share)
                if not rougher.keeps or rougher.trial.seconds > tried.trial.seconds:
                    break
                tried, rung = rougher, rung - 1
        while not tried.keeps:
            slow = np.isfinite(tried.trial.seconds) and tried.trial.seconds > most_seconds
            if rung >= FINEST or slow:
                return None
            rung += 1
            tried = self._try(candidate, rung, share)
        rungs[candidate.name] = rung
        return tried

    def _refined(self, tried: Tried, rungs: dict[str, float]) -> Tried:
        """As rough as the error allows, between a rung that keeps it and the rougher one."""
        fine = rungs[tried.candidate.name]
        rough = fine - 1
        for _ in range(REFINEMENTS):
            middle = 0.5 * (fine + rough)
            between = self._try(tried.candidate, middle, 1.0)
            if between.keeps:
                fine = middle
                tried = min(tried, between, key=_seconds)
            else:
                rough = middle
        return tried

    def _try(self, candidate: Candidate, rung: float, share: float) -> Tried:
        accuracy = candidate.ladder.accuracy(rung)
        trial = candidate.attempt(self.system, accuracy, share * self.span)
        # In the time of a whole run errors grow: of a part, less is allowed.
        allowed = self.error * share**0.5 / MARGIN
        tried = Tried(candidate, accuracy, share, trial, trial.error <= allowed)
        self.tried.append(tried)
        self.tick()
        return tried


def _kept(found: list[Tried]) -> list[Candidate]:
    """Who goes on, of a part's runs, the fastest first."""
    limit = WITHIN * found[0].trial.seconds
    kept: list[Candidate] = []
    for steps_are_fixed in (False, True):
        alike = [t for t in found if t.candidate.fixed_steps is steps_are_fixed]
        near = [t for i, t in enumerate(alike) if i < LEAST_KEPT or t.trial.seconds < limit]
        kept += [tried.candidate for tried in near]
    return kept


def _seconds(tried: Tried) -> float:
    return tried.trial.seconds


def front_of(tried: Sequence[Tried]) -> list[Tried]:
    """Of the runs over the whole span, those that none beats in both seconds and error, the fastest
    first."""
    whole = sorted(
        (t for t in tried if t.share == 1.0 and np.isfinite(t.trial.error)), key=_seconds
    )
    front: list[Tried] = []
    for run in whole:
        if not front or run.trial.error < front[-1].trial.error:
            front.append(run)
    return front
