"""What a sweep does next: which trials are over, which begin, when it ends or is given up."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from server.sweeps.moves import Move, Settled, is_over
from server.sweeps.optuna_search import StudyTrial, should_prune, suggest
from server.wire.states import JobStatus
from server.wire.sweeps import SCORES, SweepRequest, SweepStatus, TrialState

BEGUN_AT_ONCE = 4  # jobs of a sweep; those of others come between
FAILURES_IN_A_ROW = 5  # of the first trials; then the rest would fail, too


def next_move(
    request: SweepRequest, rows: Sequence[Row[Any]], series: dict[str, dict[int, float]]
) -> Move:
    """What to do with a sweep.

    Args:
        rows: of its trials, each with status, failure, result and epochs of its job.
        series: of the objective, by job and epoch.
    """
    known = [
        StudyTrial(
            number=row.number,
            state=TrialState(row.state),
            params=row.params,
            value=row.value,
            attributes=dict(row.attributes),
            series=series.get(row.job_id, {}),
        )
        for row in rows
    ]
    settled: list[Settled] = []
    remembered: list[tuple[int, dict[str, Any]]] = []
    for trial, row in zip(known, rows, strict=True):
        if trial.state is not TrialState.RUNNING:
            continue
        before = dict(trial.attributes)
        _settle(request, known, trial, row)
        if trial.state is not TrialState.RUNNING:
            settled.append(Settled(trial.number, trial.state, trial.value, trial.attributes))
        elif trial.attributes != before:
            remembered.append((trial.number, trial.attributes))
    if failure := _hopeless(request, known, rows):
        return Move(settled, ends=SweepStatus.FAILED, failure=failure)
    begun = _begin(request, known)
    if any(trial.state is TrialState.RUNNING for trial in known):
        return Move(settled, remembered, begun)
    if any(trial.state is TrialState.COMPLETE for trial in known):
        return Move(settled, remembered, begun, SweepStatus.SUCCEEDED)
    return Move(settled, remembered, begun, SweepStatus.FAILED, "no trial has a value")


def _settle(
    request: SweepRequest, known: Sequence[StudyTrial], trial: StudyTrial, row: Row[Any]
) -> None:
    """What a running trial has become."""
    if is_over(row):
        trial.value = _value(request, row, trial.series)
        trial.state = TrialState.FAILED if trial.value is None else TrialState.COMPLETE
    elif should_prune(request, known, trial):
        trial.value = trial.series[max(trial.series)]
        trial.state = TrialState.PRUNED


def _begin(request: SweepRequest, known: list[StudyTrial]) -> list[dict[str, Any]]:
    """Params of as many trials as may run beside those that do; these are known, too, then."""
    begun: list[dict[str, Any]] = []
    going = sum(trial.state is TrialState.RUNNING for trial in known)
    free = min(request.parallelism - going, request.n_trials - len(known))
    for _ in range(min(free, BEGUN_AT_ONCE)):
        params = suggest(request, known)
        if params is None:
            break
        begun.append(params)
        known.append(StudyTrial(len(known), TrialState.RUNNING, params))
    return begun


def _value(request: SweepRequest, row: Row[Any], series: dict[int, float]) -> float | None:
    """The objective of a job that is over; None where it has none."""
    if row.status != JobStatus.SUCCEEDED:
        return None
    if request.objective not in SCORES:
        return series[max(series)] if series else None
    kind, _, name = request.objective.partition(".")
    result: dict[str, Any] = row.result or {}
    scores: dict[str, Any] = result.get(kind) or {}
    return None if scores.get(name) is None else float(scores[name])


def _hopeless(
    request: SweepRequest, known: Sequence[StudyTrial], rows: Sequence[Row[Any]]
) -> str | None:
    """Why the sweep ends, where its first trials have all failed.

    Points of a grid that are no valid config say nothing of the others.
    """
    grid = request.sampler == "grid"
    first = [
        (trial, row)
        for trial, row in zip(known, rows, strict=True)
        if row.job_id is not None or not grid
    ][:FAILURES_IN_A_ROW]
    if len(first) < FAILURES_IN_A_ROW:
        return None
    if any(trial.state is not TrialState.FAILED for trial, _ in first):
        return None
    if any(row.status == JobStatus.CANCELLED for _, row in first):
        return None  # somebody's choice, which says nothing of the rest
    reasons = [row.failure for row in rows if row.failure]
    last = reasons[-1] if reasons else "it made no valid config"
    return f"the first {FAILURES_IN_A_ROW} trials all failed; the last: {last}"[:1000]
