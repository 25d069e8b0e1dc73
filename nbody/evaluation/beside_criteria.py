"""A trained stepper beside every criterion in use, on systems that it was not trained on.

Each criterion's constant is found as the network's calibration factor is: on one half of the
held-out systems, for the same rate of violations.

Legend: T held-out states.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.config import Config
from nbody.evaluation.held_out import HeldOut, Predict, known_states, predicted_steps
from nbody.evaluation.score import held_out_for, score_all
from nbody.integrators.states import States
from nbody.simulation.criteria import OWN, Criterion, criteria_of
from nbody.stepper import Stepper
from nbody.watcher import Watcher

BINS = 5  # of eccentricity


def evaluate_beside_criteria(
    stepper: Stepper,
    population: Config | None = None,
    *,
    seed: int = 0,
    systems: int = 256,
    data_folder: Path | None = None,
    watcher: Watcher | None = None,
) -> dict[str, Any]:
    """Scores of the stepper and of every criterion, and of each in bins of eccentricity where the
    population is of two bodies; and the share of states that are not like those of the training.

    Args:
        population: whose systems and thresholds to score on; the stepper's own where none is given.
        seed: of the held-out draw.
        systems: B, at least 2; one fixed system stays one.
        watcher: ticked while it goes on.
    """
    held_out = held_out_for(
        stepper,
        population,
        seed=seed,
        systems=systems,
        data_folder=data_folder,
        watcher=watcher,
    )
    rules = network_and_criteria(stepper)
    scores = score_all(rules, held_out, watcher)
    bins = by_eccentricity(held_out, rules, factors_of(scores))
    return {"seed": seed, **beside_criteria(stepper, population, held_out, scores, bins)}


def network_and_criteria(stepper: Stepper) -> dict[str, Predict]:
    """The network and every criterion that says something of its integrator's steps."""
    criteria = criteria_of(stepper.config.integrator)
    return {
        "network": lambda part: predicted_steps(stepper, part),
        **{
            name: _as_it_is(rule) if name in OWN else _scale_with_threshold(rule)
            for name, rule in criteria.items()
        },
    }


def beside_criteria(
    stepper: Stepper,
    population: Config | None,
    held_out: HeldOut,
    scores: dict[str, dict[str, float]],
    bins: list[dict[str, Any]],
) -> dict[str, Any]:
    """What `evaluate_beside_criteria` reports, of what was found."""
    known = held_out.each(lambda part: known_states(stepper, part).double())
    found: dict[str, Any] = {
        "population": (population or stepper.config).summary(),
        "systems": held_out.systems,
        "states": len(held_out.dt_star),
        "scores": scores,
        "outside_training": 1.0 - float(known.mean()),
    }
    return found | ({"by_eccentricity": bins} if bins else {})


def factors_of(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    """The calibration factor of each rule."""
    return {name: values["calibration_factor"] for name, values in scores.items()}


def _scale_with_threshold(criterion: Criterion) -> Predict:
    """A criterion that knows the thresholds."""
    return lambda part: criterion(part.states) * part.threshold**part.states.threshold_power


def _as_it_is(criterion: Criterion) -> Predict:
    return lambda part: criterion(part.states)


def by_eccentricity(
    held_out: HeldOut, rules: dict[str, Predict], factors: dict[str, float]
) -> list[dict[str, Any]]:
    """η and V of each calibrated rule, on the half that it was not calibrated on; nothing where the
    systems are not of two bodies."""
    if held_out.states.position.shape[-2] != 2:
        return []
    _, testing = held_out.halves()
    e = eccentricity(testing.states)
    ends = torch.linspace(float(e.min()), float(e.max()) + 1e-9, BINS + 1, dtype=torch.float64)
    edges = cast(list[float], ends.tolist())
    rows: list[dict[str, Any]] = []
    for low, high in pairwise(edges):
        part = testing.take((e >= low) & (e < high))
        if not len(part.dt_star):
            continue
        steps = {name: factors[name] * part.each(rule) for name, rule in rules.items()}
        rows.append(
            {
                "from": low,
                "to": high,
                "states": len(part.dt_star),
                "efficiency": {name: part.efficiency(dt) for name, dt in steps.items()},
                "violation_rate": {name: part.violation_rate(dt) for name, dt in steps.items()},
            }
        )
    return rows


def eccentricity(states: States) -> Float[Tensor, " T"]:
    """Osculating eccentricity (T,) of states of two bodies."""
    mass = states.mass.sum(-1)
    r = states.position[:, 1] - states.position[:, 0]
    v = states.velocity[:, 1] - states.velocity[:, 0]
    distance = r.square().sum(-1).sqrt()
    radial = (r * v).sum(-1)
    vector = (
        (v.square().sum(-1) - mass / distance).unsqueeze(-1) * r - radial.unsqueeze(-1) * v
    ) / mass.unsqueeze(-1)
    return vector.square().sum(-1).sqrt()
