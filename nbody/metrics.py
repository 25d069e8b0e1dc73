"""What one epoch reports, under the same names on every sink (HTTP, W&B, plots)."""

import math
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

NO_NUMBER: list[None] = []  # what no field of a number takes, so that the error names the field
Finite = Annotated[float, Field(allow_inf_nan=False)] | None
Count = Annotated[int, Field(ge=0, le=2**53)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class EpochMetrics(BaseModel):
    """One epoch's metrics. Field aliases are the names that users see.

    `epoch_time` is wall time [s]; energy errors are relative, |E1 - E0| / |E0|; null means that the
    value was not finite, or that there was no sample to take it over.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    epoch: Annotated[int, Field(ge=0, le=10**9)]
    epoch_time: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    trajectory_length: Count = Field(alias="part1/trajectory_length")
    mean_retrain_iterations: Finite = Field(alias="part1/mean_retrain_iterations")
    max_retrain_iterations: Count = Field(alias="part1/max_retrain_iterations")
    mean_energy_error: Finite = Field(alias="part1/mean_energy_error")
    warmup_discarded: Count = Field(alias="part1/warmup_discarded")
    acceptance_rate: Fraction = Field(alias="part1/acceptance_rate")
    converged: Annotated[int, Field(ge=0, le=1, alias="part2/converged")]
    iterations: Count = Field(alias="part2/iterations")
    final_pass_rate: Fraction = Field(alias="part2/final_pass_rate")
    mean_rel_dE: Finite = Field(alias="part2/mean_rel_dE")  # noqa: N815 - the users' name
    max_rel_dE: Finite = Field(alias="part2/max_rel_dE")  # noqa: N815 - the users' name

    @model_validator(mode="before")
    @classmethod
    def _plain_numbers(cls, given: Any) -> Any:
        """JSON has no infinity: what is not finite is null. Text and truth are no numbers."""
        if not isinstance(given, dict):
            return given
        return {key: _plain(value) for key, value in cast(dict[str, Any], given).items()}

    def named(self) -> dict[str, float | int | None]:
        """The metrics as `{name: value}`, with the names that users see."""
        return self.model_dump(by_alias=True)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return NO_NUMBER if isinstance(value, bool | str) else value


METRIC_NAMES = tuple(field.alias or name for name, field in EpochMetrics.model_fields.items())


def from_epoch_result(epoch: int, result: dict[str, Any]) -> EpochMetrics:
    """The metrics of the dictionary that `train_epoch_two_phase` returns."""
    part1, part2 = result["trajectory_metrics"], result["generalization_metrics"]
    return EpochMetrics.model_validate(
        {
            "epoch": epoch,
            "epoch_time": result["epoch_time"],
            "part1/trajectory_length": part1["trajectory_length"],
            "part1/mean_retrain_iterations": part1["mean_retrain_iterations"],
            "part1/max_retrain_iterations": part1["max_retrain_iterations"],
            "part1/mean_energy_error": part1["mean_energy_error"],
            "part1/warmup_discarded": part1["warmup_discarded"],
            "part1/acceptance_rate": 1.0 / (1.0 + part1["mean_retrain_iterations"]),
            "part2/converged": int(result["converged"]),
            "part2/iterations": result["part2_iterations"],
            "part2/final_pass_rate": part2["final_pass_rate"],
            "part2/mean_rel_dE": part2["mean_rel_dE"],
            "part2/max_rel_dE": part2["max_rel_dE"],
        }
    )
