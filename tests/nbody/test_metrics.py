"""The record of an epoch."""

import math
from typing import Any

import pytest
from pydantic import ValidationError

from nbody.metrics import EpochMetrics, from_epoch_result

NAMED: dict[str, Any] = dict.fromkeys(EpochMetrics.model_fields, 0)


def result(number: float) -> dict[str, Any]:
    """What an epoch returns, with a number where errors are."""
    part1 = {"trajectory_length": 2, "mean_retrain_iterations": 1.0, "max_retrain_iterations": 1}
    part1 |= {"mean_energy_error": number, "warmup_discarded": 0}
    part1 |= dict.fromkeys(("min_energy_error", "max_energy_error", "mean_retrain_loss"), number)
    part2 = {"final_pass_rate": 1.0, "mean_rel_dE": number, "max_rel_dE": number}
    part2["efficiency"] = number
    parts = {"trajectory_metrics": part1, "generalization_metrics": part2}
    return {**parts, "converged": True, "part2_iterations": 3, "epoch_time": 0.5}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, None])
def test_what_is_not_finite_is_null(number: float) -> None:
    metrics = from_epoch_result(4, result(number)).named()
    names = ("part1/mean_energy_error", "part2/mean_rel_dE", "part2/max_rel_dE")
    assert [metrics[name] for name in names] == [None] * 3
    assert metrics["part1/acceptance_rate"] == 0.5


@pytest.mark.parametrize("number", [3, 3.0])
def test_whole_numbers_may_be_written_with_a_point(number: float) -> None:
    metrics = EpochMetrics(**{**NAMED, "iterations": number})
    assert metrics.iterations == 3
    assert isinstance(metrics.iterations, int)


@pytest.mark.parametrize("number", [3.5, "3", True, None, -1, 2**53, 1e300, math.inf, math.nan])
def test_other_things_are_no_whole_numbers(number: object) -> None:
    with pytest.raises(ValidationError, match=r"iterations\n.*use a whole number from 0 to"):
        EpochMetrics(**{**NAMED, "iterations": number})


@pytest.mark.parametrize("number", ["0.5", True, math.nan, math.inf])
def test_text_truth_and_infinity_are_no_numbers(number: object) -> None:
    with pytest.raises(ValidationError, match="mean_energy_error"):
        EpochMetrics(**{**NAMED, "mean_energy_error": number})
