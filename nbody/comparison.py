"""A trained stepper beside every criterion in use, on systems that it was not trained on.

Each criterion's constant is found as the network's calibration factor is: on one half of the
held-out systems, for the same rate of violations.

Legend: T held-out states, C accuracies of a rule, run side by side as one batch.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from nbody.config import Config
from nbody.criteria import CRITERIA, SERIES
from nbody.evaluation import HeldOut, held_out_states, predicted_steps, score
from nbody.ias15 import ias15_run
from nbody.kepler import kepler_orbits
from nbody.long_run import LongRun, long_run
from nbody.states import States
from nbody.stepper import Stepper
from nbody.time_symmetry import time_even_step
from nbody.watcher import Watcher

BINS = 5  # of eccentricity
ACCURACIES = 8  # C
FEWEST, MOST = 150, 450  # force evaluations per orbit, about, between which rules are run
REFERENCE_ERROR = 6e-3  # max |ΔE/E| at which rules are compared in one number
IAS15_TOLERANCES = (1e-6, 1e-9)  # larger ones do not converge
PERIOD = 2 * math.pi / math.sqrt(2.0)  # of two unit masses with a = 1
REVERSIBLE, GATED = ", reversible", ", gated"  # rules' last names
LONG_RUN_RULES = (
    "network",
    "network" + GATED,
    "network" + REVERSIBLE,
    *CRITERIA,
    *(name + REVERSIBLE for name in CRITERIA if name not in {"fixed", SERIES}),
    "IAS15",
)


def compare(
    stepper: Stepper,
    population: Config | None = None,
    *,
    seed: int = 0,
    systems: int = 256,
    data_folder: Path | None = None,
    watcher: Watcher | None = None,
) -> dict[str, Any]:
    """Scores of the stepper and of every criterion, and of each in bins of eccentricity where the
    population is of two bodies.

    Args:
        population: whose systems and thresholds to score on; the stepper's own where none is given.
        seed: of the held-out draw.
        systems: B, at least 2; one fixed system stays one.
        watcher: ticked while it goes on.
    """
    population = population or stepper.config
    held_out = held_out_states(
        population, seed=seed, systems=systems, data_folder=data_folder, watcher=watcher
    )
    rules: dict[str, Callable[[HeldOut], Tensor]] = {
        "network": lambda part: predicted_steps(stepper, part),
        **{name: _scaled(name) for name in CRITERIA},
    }
    scores = {name: asdict(score(rule, held_out, watcher)) for name, rule in rules.items()}
    found: dict[str, Any] = {
        "population": population.summary(),
        "seed": seed,
        "systems": held_out.systems,
        "states": len(held_out.dt_star),
        "scores": scores,
    }
    if held_out.states.position.shape[-2] == 2:
        factors = {name: scores[name]["calibration_factor"] for name in rules}
        found["by_eccentricity"] = _by_eccentricity(held_out, rules, factors)
    return found


def _scaled(name: str) -> Callable[[HeldOut], Tensor]:
    """A criterion that knows the thresholds: the leapfrog's local error is of third order."""
    criterion, power = CRITERIA[name], 0.0 if name == SERIES else 1 / 3
    return lambda part: criterion(part.states) * part.threshold**power


def _by_eccentricity(
    held_out: HeldOut, rules: dict[str, Callable[[HeldOut], Tensor]], factors: dict[str, float]
) -> list[dict[str, Any]]:
    """η and V of each calibrated rule, on the half that it was not calibrated on."""
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


def eccentricity(states: States) -> Tensor:
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


def long_runs(
    stepper: Stepper,
    *,
    eccentricity: float = 0.9,
    orbits: int = 100,
    rules: Sequence[str] = (),
) -> Iterator[dict[str, Any]]:
    """Force evaluations per orbit against the energy error of a run, one rule after the other.

    Two equal masses start at apocentre. Every rule is run at several accuracies.

    Args:
        rules: of LONG_RUN_RULES; all of them where none is given.
    """
    for name in rules or LONG_RUN_RULES:
        if name == "IAS15":
            yield _ias15_curve(eccentricity, orbits)
        else:
            yield _curve(name, stepper, eccentricity, orbits)


def _ias15_curve(e: float, orbits: int) -> dict[str, Any]:
    particle = _orbit(e, 1, 1.0).particle().select(0)
    points = [ias15_run(particle, orbits * PERIOD, tolerance) for tolerance in IAS15_TOLERANCES]
    return {
        "rule": "IAS15",
        "eccentricity": e,
        "orbits": orbits,
        "forces_per_orbit": [forces / orbits for forces, _ in points],
        "max_energy_error": [error for _, error in points],
    }


def _rule_of(name: str, stepper: Stepper) -> Callable[[States], Tensor]:
    """The steps that a rule of LONG_RUN_RULES asks for."""
    if name.startswith("network") and stepper.adapter.history_enabled:
        raise ValueError("long runs of the network need a stepper trained without history")
    if name == "network" + REVERSIBLE:
        return partial(time_even_step, stepper)
    if name in {"network", "network" + GATED}:
        return stepper.of_states
    return CRITERIA[name.removesuffix(REVERSIBLE)]


def _orbit(e: float, copies: int, threshold: float) -> States:
    one = torch.ones(copies, dtype=torch.float64)
    particle = kepler_orbits(e * one, one, math.pi * one, 1.0, 2)
    particle.energy_threshold = threshold * one
    return States.of(particle)


def _curve(name: str, stepper: Stepper, e: float, orbits: int) -> dict[str, Any]:
    rule, threshold = _rule_of(name, stepper), stepper.config.energy_threshold
    gate = threshold if name.endswith(GATED) else None
    constant = 1.0  # times a number of steps per orbit is not far from the factor that takes them
    period = torch.full((1 if gate else ACCURACIES,), PERIOD, dtype=torch.float64)
    if gate is None:
        for target in (1.0, 1 / math.sqrt(FEWEST * MOST)):
            scale = constant * target
            pilot = long_run(_orbit(e, 1, threshold), partial(_times, rule, scale), period[:1])
            constant = scale * float(pilot.force_evaluations)
    wanted = torch.logspace(math.log10(FEWEST), math.log10(MOST), ACCURACIES, dtype=torch.float64)
    run = long_run(
        _orbit(e, len(period), threshold),
        rule if gate else partial(_times, rule, constant / wanted),
        orbits * period,
        gate=gate,
        reversible=name.endswith(REVERSIBLE),
    )
    return {
        "rule": name,
        "eccentricity": e,
        "orbits": orbits,
        **_points(run, orbits),
    }


def _times(rule: Callable[[States], Tensor], factor: Tensor | float, states: States) -> Tensor:
    return factor * rule(states)


def _points(run: LongRun, orbits: int) -> dict[str, Any]:
    forces = cast(list[float], (run.force_evaluations / orbits).tolist())
    errors = cast(list[float], run.max_energy_error.tolist())
    return {
        "forces_per_orbit": forces,
        "max_energy_error": errors,
        "forces_at_reference_error": forces_at(forces, errors, REFERENCE_ERROR),
    }


def forces_at(forces: list[float], errors: list[float], error: float) -> float | None:
    """Fewest force evaluations from which on every run of a curve keeps the error, interpolated."""
    curve = sorted(zip(forces, errors, strict=True))
    good = len(curve)
    while good > 0 and curve[good - 1][1] <= error:
        good -= 1
    if good == len(curve):
        return None
    if good == 0:
        return curve[0][0]
    (f0, e0), (f1, e1) = curve[good - 1], curve[good]
    share = (math.log(error) - math.log(e0)) / (math.log(e1) - math.log(e0))
    return math.exp(math.log(f0) + share * (math.log(f1) - math.log(f0)))
