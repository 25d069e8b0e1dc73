"""What travels over HTTP about sweeps."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from nbody.config import Config
from nbody.metrics import METRIC_NAMES
from server.wire.jobs import Requirements
from server.wire.messages import CLOSED, Identifier, Message, Text, View

SCORES = tuple(
    f"stepper.{name}"
    for name in ("calibrated_efficiency", "efficiency", "violation_rate", "overshoot_rate")
)
OBJECTIVES = (*SCORES, *(name for name in METRIC_NAMES if name != "epoch"))
LARGEST = 2**16  # bytes of what the trials share: each of up to 1000 has a copy
MOST_STEPS, MOST_CHOICES = 10_000, 200  # of a dimension of a grid; of all dimensions together
Finite = Annotated[float, Field(allow_inf_nan=False, ge=-1e300, le=1e300)]
Whole = Annotated[int, Field(strict=True, ge=-(2**53), le=2**53)]


class SweepStatus(StrEnum):
    """Where a sweep is."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"  # all trials are over, and one at least has a value
    FAILED = "failed"  # none has
    CANCELLED = "cancelled"


class TrialState(StrEnum):
    """What became of a trial."""

    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"  # ended early: others are better
    FAILED = "failed"


def _check_objective(name: str) -> str:
    if name not in OBJECTIVES:
        raise ValueError(f"use one of {', '.join(OBJECTIVES)}")
    return name


class _Range(Message):
    log: bool = Field(default=False, strict=True, description="Search the logarithm.")

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        low, high, step = (getattr(self, name) for name in ("low", "high", "step"))
        if not low < high:
            raise ValueError("low must be less than high")
        if self.log and (low <= 0 or step not in {None, 1}):
            raise ValueError("log needs low > 0, and no step")
        return self


class FloatRange(_Range):
    """A number between two others."""

    type: Literal["float"]
    low: Finite
    high: Finite
    step: Annotated[float, Field(gt=0, le=1e300, allow_inf_nan=False)] | None = None


class IntRange(_Range):
    """A whole number between two others, both included."""

    type: Literal["int"]
    low: Whole
    high: Whole
    step: Annotated[int, Field(strict=True, ge=1, le=2**53)] = 1


class Choices(Message):
    """One of several values."""

    type: Literal["choice"]
    values: Annotated[list[JsonValue], Field(min_length=1, max_length=100)]


Dimension = Annotated[FloatRange | IntRange | Choices, Field(discriminator="type")]


def grid_size(dimension: FloatRange | IntRange | Choices) -> int:
    """Values of a dimension in a grid."""
    if isinstance(dimension, Choices):
        return len(dimension.values)
    return int((dimension.high - dimension.low) / (dimension.step or 1) * (1 + 1e-12)) + 1


def _spans_few(dimension: FloatRange | IntRange | Choices) -> bool:
    if isinstance(dimension, Choices):
        return True
    return (dimension.high - dimension.low) <= MOST_STEPS * (dimension.step or 0)


class SweepRequest(Message):
    """A search for the fields of a config that serve an objective best."""

    name: Text | None = Field(default=None, description="For people; its jobs' names begin so.")
    config: Annotated[dict[str, JsonValue], Field(max_length=200)] = Field(
        default_factory=dict, description="Fields that all trials share."
    )
    space: Annotated[dict[Identifier, Dimension], Field(min_length=1, max_length=20), CLOSED] = (
        Field(description="Fields to search, by name.")
    )
    objective: Annotated[str, AfterValidator(_check_objective)] = Field(
        default=SCORES[0],
        json_schema_extra={"enum": list(OBJECTIVES)},
        description="A score on held-out systems, or a metric of the last epoch.",
    )
    direction: Literal["maximize", "minimize"] = Field(
        default="maximize", description="Which values of the objective are better."
    )
    n_trials: int = Field(default=20, strict=True, ge=1, le=1000, description="Jobs in all.")
    parallelism: int = Field(
        default=1, strict=True, ge=1, le=64, description="Jobs at a time, at most."
    )
    sampler: Literal["tpe", "random", "grid"] = Field(
        default="tpe", description="How the next trial is chosen (Optuna's samplers)."
    )
    pruner: Literal["none", "median", "successive_halving"] = Field(
        default="none",
        description="Ends trials early that are worse than others at the same epoch (Optuna's "
        "pruners); the objective must be a metric of every epoch.",
    )
    warmup_epochs: int = Field(
        default=5, strict=True, ge=0, le=10**9, description="Of each trial, before it is pruned."
    )
    seed: int = Field(default=0, strict=True, ge=0, lt=2**32, description="Of the sampler.")
    priority: int = Field(default=0, strict=True, ge=-100, le=100, description="Of the jobs.")
    max_runtime_s: (
        Annotated[float, Field(strict=True, gt=0, le=1e9, allow_inf_nan=False)] | None
    ) = Field(default=None, description="Of each job [s].")
    metadata: Annotated[dict[Identifier, Text], CLOSED] = Field(
        default_factory=dict, max_length=30, description="Labels of the jobs."
    )
    requires: Requirements = Field(
        default_factory=Requirements, description="Which workers may take the jobs."
    )

    @model_validator(mode="after")
    def _asks_for_a_gpu_to_use_it(self) -> Self:
        if self.config.get("device") == "cpu" and self.requires.gpu_bytes:
            raise ValueError("requires asks for a GPU, and config.device is cpu")
        return self

    @model_validator(mode="after")
    def _is_small(self) -> Self:
        if len(self.model_dump_json(include={"config", "space"})) > LARGEST:
            raise ValueError(
                f"config and space are larger than {LARGEST} bytes; use ic_path for initial "
                "conditions of many particles"
            )
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in self.space:
            if name not in Config.model_fields:
                raise ValueError(f"space: there is no field {name!r} in a config")
        if self.sampler == "grid":
            for name, dimension in self.space.items():
                if isinstance(dimension, FloatRange) and dimension.step is None:
                    raise ValueError(f"space: a grid needs a step, or choices, for {name!r}")
                if not _spans_few(dimension):
                    raise ValueError(f"space: {name!r} has too many steps for a grid")
        if sum(len(d.values) for d in self.space.values() if isinstance(d, Choices)) > MOST_CHOICES:
            raise ValueError(f"space: at most {MOST_CHOICES} choices in all")
        if self.pruner != "none" and self.objective in SCORES:
            raise ValueError(
                f"pruner: {self.objective} is known only at the end of a job; "
                "prune by a metric of every epoch, or not at all"
            )
        if self.objective in SCORES and self.config.get("evaluation_orbits") == 0:
            raise ValueError("objective: without evaluation_orbits there are no scores")
        return self


class TrialView(View):
    """One job of a sweep."""

    object: Literal["trial"] = "trial"
    id: int = Field(description="0 is the first trial.")
    job_id: str | None
    state: TrialState
    params: dict[str, JsonValue]
    value: float | None = Field(description="Of the objective; of a pruned trial, its last.")


class SweepSummary(View):
    """A sweep as lists show it."""

    object: Literal["sweep"] = "sweep"
    id: str
    name: str | None
    status: SweepStatus
    failure: str | None
    objective: str
    direction: str
    n_trials: int
    trials: dict[TrialState, int] = Field(description="How many are in each state.")
    created_at: datetime
    finished_at: datetime | None


class SweepView(SweepSummary):
    """A sweep, whole."""

    request: SweepRequest
    best: TrialView | None = Field(description="The trial with the best value so far.")


class Importance(View):
    """How much each field matters to the objective, by PED-ANOVA; the shares add up to one."""

    object: Literal["importance"] = "importance"
    sweep_id: str
    data: dict[str, float]


class DeletedSweep(View):
    """What is gone; the jobs of the sweep are not."""

    object: Literal["sweep"] = "sweep"
    id: str
    deleted: Literal[True] = True
