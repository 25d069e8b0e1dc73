"""Which trial comes next, which should end early, which fields matter: Optuna, without its storage.

A sweep's trials are rows of the service's database; a study is made of them whenever one is asked.
So there is one truth, and a restart of the server changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

from server.wire.sweeps import (
    Choices,
    Dimension,
    FloatRange,
    SweepRequest,
    TrialState,
    grid_size,
)

STARTUP_TRIALS = 5  # complete ones, before any is pruned
LEAST_FOR_IMPORTANCE = 4  # complete trials
STATES = {
    TrialState.RUNNING: OptunaState.RUNNING,
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.PRUNED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
}

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass
class StudyTrial:
    """A trial as a study sees it."""

    number: int
    state: TrialState
    params: dict[str, Any]
    value: float | None = None
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])  # the pruner's own memory
    series: dict[int, float] = field(default_factory=dict[int, float])  # the objective, by epoch


def suggest(request: SweepRequest, trials: Sequence[StudyTrial]) -> dict[str, Any] | None:
    """Values of the space for the next trial; None where a grid has no more."""
    number = len(trials)
    if request.sampler == "grid":
        return _grid_point(request, number)
    study = _study(request, trials, (request.seed + number) % 2**32)
    asked = study.ask({name: _distribution(d) for name, d in request.space.items()})
    return {name: _outer(request.space[name], value) for name, value in asked.params.items()}


def should_prune(request: SweepRequest, trials: Sequence[StudyTrial], trial: StudyTrial) -> bool:
    """Whether a running trial should end, because others were better at its last epoch.

    What the pruner must remember of it is put in its attributes.
    """
    if request.pruner == "none" or not trial.series:
        return False
    if max(trial.series) < request.warmup_epochs:
        return False
    study = _study(request, trials, request.seed)
    pruner = (
        optuna.pruners.MedianPruner(STARTUP_TRIALS, request.warmup_epochs)
        if request.pruner == "median"
        else optuna.pruners.SuccessiveHalvingPruner(min_resource=request.warmup_epochs + 1)
    )
    frozen = study.trials[[t.number for t in trials].index(trial.number)]
    ends = pruner.prune(study, frozen)
    trial.attributes = dict(study.trials[frozen.number].system_attrs)
    return ends


def importance(request: SweepRequest, trials: Sequence[StudyTrial]) -> dict[str, float]:
    """The share of each field in what the objective depends on; empty with too few trials."""
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    if len(complete) < LEAST_FOR_IMPORTANCE or len({trial.value for trial in complete}) < 2:
        return {}
    study = _study(request, trials, request.seed)
    return dict(get_param_importances(study, evaluator=PedAnovaImportanceEvaluator()))


def _study(request: SweepRequest, trials: Sequence[StudyTrial], seed: int) -> optuna.Study:
    sampler = (
        optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        if request.sampler == "tpe"
        else optuna.samplers.RandomSampler(seed=seed)
    )
    study = optuna.create_study(direction=request.direction, sampler=sampler)
    study.add_trials([_frozen(request, trial) for trial in trials])
    return study


def _frozen(request: SweepRequest, trial: StudyTrial) -> FrozenTrial:
    return create_trial(
        state=STATES[trial.state],
        value=trial.value if trial.state is TrialState.COMPLETE else None,
        params={name: _inner(request.space[name], value) for name, value in trial.params.items()},
        distributions={name: _distribution(request.space[name]) for name in trial.params},
        intermediate_values=trial.series,
        system_attrs=trial.attributes,
    )


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choices):  # by place: Optuna's own choices cannot be lists
        return CategoricalDistribution(range(len(dimension.values)))
    if isinstance(dimension, FloatRange):
        return FloatDistribution(dimension.low, dimension.high, dimension.log, dimension.step)
    return IntDistribution(dimension.low, dimension.high, dimension.log, dimension.step)


def _outer(dimension: Dimension, value: Any) -> Any:
    return dimension.values[value] if isinstance(dimension, Choices) else value


def _inner(dimension: Dimension, value: Any) -> Any:
    return dimension.values.index(value) if isinstance(dimension, Choices) else value


def _grid_point(request: SweepRequest, number: int) -> dict[str, Any] | None:
    """The point of a number, the last dimension counting fastest; the grid itself is never made."""
    point: dict[str, Any] = {}
    for name, dimension in reversed(request.space.items()):
        number, place = divmod(number, grid_size(dimension))
        point[name] = _grid_value(dimension, place)
    return None if number else {name: point[name] for name in request.space}


def _grid_value(dimension: Dimension, place: int) -> Any:
    if isinstance(dimension, Choices):
        return dimension.values[place]
    return dimension.low + place * (dimension.step or 0)
