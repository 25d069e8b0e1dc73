"""The advisor's answer: what to use, how, and what else there was."""

from collections.abc import Callable, Sequence
from typing import Any

from nbody.advice.candidates import TrainedStepper, native_candidates, rebound_candidates
from nbody.advice.search import Search, Tell, Tried, front_of
from nbody.native.engine import NativeSystem

DOMINANT = 0.9  # of the mass: then planetary integrators are tried, too


def advice(
    system: NativeSystem,
    span: float,
    error: float,
    steppers: Sequence[TrainedStepper] = (),
    *,
    tell: Tell,
    tick: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """How to integrate a system for a time, with relative energy errors under one that is given.

    Raises:
        NothingKeepsTheError
        CompilerMissing, CompilerFailed: nothing can be tried here.
    """
    planetary = float(system.mass.max() / system.mass.sum()) > DOMINANT
    candidates = [
        candidate
        for candidate in (*native_candidates(steppers), *rebound_candidates())
        if planetary or not candidate.planetary
    ]
    search = Search(system, span, error, tell, tick)
    choice = search.run(candidates)
    return {
        "choice": _told(choice),
        "code": choice.candidate.lines(system, choice.accuracy),
        "front": [_told(tried) for tried in front_of(search.tried)],
        "best_of_each": [_told(tried) for tried in _best_of_each(search.tried)],
        "span": span,
        "error": error,
    }


def _best_of_each(tried: Sequence[Tried]) -> list[Tried]:
    """The fastest run over the whole span of each way that keeps the error, the fastest first."""
    best: dict[str, Tried] = {}
    for run in sorted(tried, key=lambda t: t.trial.seconds):
        if run.share == 1.0 and run.keeps:
            best.setdefault(run.candidate.name, run)
    return list(best.values())


def _told(tried: Tried) -> dict[str, Any]:
    return {
        "name": tried.candidate.name,
        "learned": tried.candidate.learned,
        "accuracy": tried.accuracy,
        "seconds": tried.trial.seconds,
        "error": tried.trial.error,
        "passes": tried.trial.passes,
    }


def advice_text(told: dict[str, Any]) -> str:
    """The same, for people."""
    choice = told["choice"]
    cost = f"{choice['seconds']:.3g} s for the whole span, max |ΔE/E| {choice['error']:.1e}"
    lines = [
        f"Use {choice['name']}, accuracy {choice['accuracy']:.3g}: {cost}, measured on one thread.",
        "",
        *told["code"].splitlines(),
        "",
        f"{'seconds':>10} {'max |ΔE/E|':>11}  over the whole span",
    ]
    runs = told["best_of_each"]
    lines += [f"{t['seconds']:10.4g} {t['error']:11.1e}  {t['name']}" for t in runs]
    return "\n".join(lines)
