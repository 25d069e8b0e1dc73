"""What one epoch reports, under the same names on every sink (HTTP, W&B, plots)."""

import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import CoreSchema, core_schema


class Whole:
    """Annotates a whole number within bounds. Text and truth are none; 3.0 is one."""

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most

    def __get_pydantic_core_schema__(self, *_: object) -> CoreSchema:
        """What is an integer already is looked at once, without a call of Python."""
        least, most = self._least, self._most
        whole = core_schema.int_schema(ge=least, le=most, strict=False)
        return core_schema.union_schema(
            [
                core_schema.int_schema(ge=least, le=most, strict=True),
                core_schema.chain_schema([core_schema.float_schema(strict=True), whole]),
            ],
            mode="left_to_right",
            custom_error_type="whole_number",
            custom_error_message=f"use a whole number from {least} to {most}",
        )

    def __get_pydantic_json_schema__(self, *_: object) -> dict[str, Any]:
        """One type, as users see it."""
        return {"type": "integer", "minimum": self._least, "maximum": self._most}


Finite = Annotated[float, Field(allow_inf_nan=False)] | None
Count = Annotated[int, Whole(0, 2**53 - 1)]  # what a float holds exactly
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
GOOD_PASS_RATE = 0.9  # of an epoch whose network may be used
MORE_IS_BETTER: dict[str, JsonValue] = {
    "better": "more"
}  # in the schema of a metric; of the others less is


class EpochMetrics(BaseModel):
    """One epoch's metrics. Field aliases are the names that users see.

    `epoch_time` is wall time [s]; energy errors are relative, |E1 - E0| / |E0|; null means that the
    value was not finite, or that there was no sample to take it over.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, strict=True)

    epoch: Annotated[int, Whole(0, 10**9)] = Field(description="Counts from 0.")
    epoch_time: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        description="Wall time of both parts [s]."
    )
    trajectory_length: Count = Field(
        alias="part1/trajectory_length", description="Samples that Part 1 collected."
    )
    mean_retrain_iterations: Finite = Field(
        alias="part1/mean_retrain_iterations",
        description="Rejections of a step before it passed, mean over accepted steps.",
    )
    max_retrain_iterations: Count = Field(
        alias="part1/max_retrain_iterations", description="The most rejections of one step."
    )
    mean_energy_error: Finite = Field(
        alias="part1/mean_energy_error",
        description="Relative energy error of accepted steps, mean.",
    )
    warmup_discarded: Count = Field(
        alias="part1/warmup_discarded", description="Accepted steps that only filled the history."
    )
    acceptance_rate: Fraction = Field(
        alias="part1/acceptance_rate",
        description="1 / (1 + mean_retrain_iterations).",
        json_schema_extra=MORE_IS_BETTER,
    )
    converged: Annotated[int, Whole(0, 1)] = Field(
        alias="part2/converged",
        description="Whether every sample passed in the end: 1 or 0.",
        json_schema_extra=MORE_IS_BETTER,
    )
    iterations: Count = Field(alias="part2/iterations", description="Iterations of Part 2.")
    final_pass_rate: Fraction = Field(
        alias="part2/final_pass_rate",
        description="Share of samples that pass the gate with the final weights.",
        json_schema_extra=MORE_IS_BETTER,
    )
    mean_rel_dE: Finite = Field(  # noqa: N815 - the users' name
        alias="part2/mean_rel_dE",
        description="Relative energy error of all samples with the final weights, mean.",
    )
    max_rel_dE: Finite = Field(  # noqa: N815 - the users' name
        alias="part2/max_rel_dE", description="The largest of them."
    )
    min_energy_error: Finite = Field(
        default=None,
        alias="part1/min_energy_error",
        description="The least energy error of an accepted step.",
    )
    max_energy_error: Finite = Field(
        default=None, alias="part1/max_energy_error", description="The largest of them."
    )
    mean_retrain_loss: Finite = Field(
        default=None,
        alias="part1/mean_retrain_loss",
        description="Loss on the states whose step failed, mean over rejections; null without any.",
    )
    efficiency: Finite = Field(
        default=None,
        alias="part2/efficiency",
        description="Oracle's steps over the network's on the epoch's samples; null where the loss "
        "asks no oracle.",
        json_schema_extra=MORE_IS_BETTER,
    )

    def named(self) -> dict[str, float | int | None]:
        """The metrics as `{name: value}`, with the names that users see."""
        return self.model_dump(by_alias=True)


METRIC_NAMES = tuple(field.alias or name for name, field in EpochMetrics.model_fields.items())
BEST_AT_MOST = frozenset(  # metrics whose best value is the largest
    field.alias or name
    for name, field in EpochMetrics.model_fields.items()
    if field.json_schema_extra == MORE_IS_BETTER
)


def from_epoch_result(epoch: int, result: dict[str, Any]) -> EpochMetrics:
    """The metrics of the dictionary that `train_epoch_two_phase` returns.

    `part1/NAME` is NAME of its `trajectory_metrics`, `part2/NAME` of its `generalization_metrics`.
    """
    part1, part2 = result["trajectory_metrics"], result["generalization_metrics"]
    parts = {
        "": {"epoch": epoch, "epoch_time": result["epoch_time"]},
        "part1": {"acceptance_rate": 1 / (1 + part1["mean_retrain_iterations"]), **part1},
        "part2": {
            "converged": int(result["converged"]),
            "iterations": result["part2_iterations"],
            **part2,
        },
    }
    values: dict[str, Any] = {}
    for name in METRIC_NAMES:
        part, _, key = name.rpartition("/")
        values[name] = _finite(parts[part][key])
    return EpochMetrics.model_validate(values)


def _finite(value: float | int | None) -> float | int | None:
    """JSON has no infinity: what is not finite is null."""
    return value if value is not None and math.isfinite(value) else None
