"""What rules cost over many orbits: force evaluations per orbit against the energy error of a run.

Legend: C accuracies of a rule, run side by side as one batch.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from nbody.config.stepping_rules import METHODS
from nbody.initial_conditions.kepler import kepler_orbits
from nbody.integrators.integrator import Integrator
from nbody.integrators.leapfrog import LEAPFROG_2
from nbody.integrators.named import INTEGRATORS
from nbody.integrators.states import States
from nbody.particle import ParticleTorch
from nbody.simulation.criteria import CRITERIA, OWN, criteria_of
from nbody.simulation.ias15 import ias15_run
from nbody.simulation.long_run import LongRun, long_run
from nbody.simulation.rules import Rule
from nbody.simulation.time_symmetry import time_even_step
from nbody.stepper import Stepper

ACCURACIES = 8  # C
FEWEST, MOST = 150, 450  # force evaluations per orbit, about, between which rules are run
REFERENCE_ERROR = 6e-3  # max |ΔE/E| at which rules are compared in one number
FINER = 2.0  # times as many forces for integrators of higher order, which are for smaller errors
FINE_REFERENCE_ERROR = 1e-4
IAS15_TOLERANCES = (1e-6, 1e-9)  # larger ones do not converge
PERIOD = 2 * math.pi / math.sqrt(2.0)  # of two unit masses with a = 1
NETWORK = "network"
REVERSIBLE, GATED = ", reversible", ", gated"  # rules' last names
LONG_RUN_RULES = (
    NETWORK,
    NETWORK + GATED,
    NETWORK + REVERSIBLE,
    *CRITERIA,
    *(name + REVERSIBLE for name in CRITERIA if name not in {"fixed", *OWN}),
    "IAS15",
)


def long_runs(
    stepper: Stepper,
    *,
    eccentricity: float = 0.9,
    orbits: int = 100,
    rules: Sequence[str] = (),
) -> Iterator[dict[str, Any]]:
    """Force evaluations per orbit against the energy error of a run, one rule after the other.

    Two equal masses start at apocentre, with the stepper's integrator. Every rule is run at several
    accuracies.

    Args:
        rules: of LONG_RUN_RULES; where none is given, all that the integrator allows.
    """
    integrator = stepper.config.integrator
    symmetric, criteria = METHODS[integrator].symmetric, criteria_of(integrator)
    possible = [
        name
        for name in LONG_RUN_RULES
        if (symmetric or not name.endswith(REVERSIBLE))
        and (name not in CRITERIA or name in criteria)
    ]
    for name in rules or possible:
        if name == "IAS15":
            yield _ias15_curve(eccentricity, orbits)
        else:
            yield _curve(name, stepper, eccentricity, orbits)


def _ias15_curve(e: float, orbits: int) -> dict[str, Any]:
    particle = ParticleTorch.of_states(_orbit(e, 1, 1.0, LEAPFROG_2)).select(0)
    points = [ias15_run(particle, orbits * PERIOD, tolerance) for tolerance in IAS15_TOLERANCES]
    return {
        "rule": "IAS15",
        "eccentricity": e,
        "orbits": orbits,
        "forces_per_orbit": [forces / orbits for forces, _ in points],
        "max_energy_error": [error for _, error in points],
    }


def _rule(name: str, stepper: Stepper, factor: Tensor | float = 1.0) -> Rule:
    """A rule of LONG_RUN_RULES, whose steps are `factor` (C,) times as long."""
    if name.startswith(NETWORK) and stepper.adapter.history_enabled:
        raise ValueError("long runs of the network need a stepper trained without history")
    if name.endswith(REVERSIBLE) and not METHODS[stepper.config.integrator].symmetric:
        raise ValueError(f"{stepper.config.integrator} is not symmetric in time: {name!r}")
    if name == NETWORK + REVERSIBLE:
        ask: Callable[[States], Tensor] = partial(time_even_step, stepper)
    elif name in {NETWORK, NETWORK + GATED}:
        ask = stepper.of_states
    else:
        ask = CRITERIA[name.removesuffix(REVERSIBLE)]
    return Rule(
        lambda states, _: factor * ask(states),
        gate=stepper.config.energy_threshold if name.endswith(GATED) else None,
        reversible=name.endswith(REVERSIBLE),
    )


def _orbit(e: float, copies: int, threshold: float, integrator: Integrator) -> States:
    one = torch.ones(copies, dtype=torch.float64)
    orbits = kepler_orbits(e * one, one, math.pi * one, 1.0, 2)
    return orbits.replace(energy_threshold=threshold * one, integrator=integrator).states()


def _curve(name: str, stepper: Stepper, e: float, orbits: int) -> dict[str, Any]:
    threshold, gated = stepper.config.energy_threshold, name.endswith(GATED)
    period = torch.full((1 if gated else ACCURACIES,), PERIOD, dtype=torch.float64)
    factor: Tensor | float = 1.0
    integrator = INTEGRATORS[stepper.config.integrator]
    fine = integrator.method.order > LEAPFROG_2.method.order
    fewest, most = ((FINER if fine else 1.0) * number for number in (FEWEST, MOST))
    if not gated:
        constant = 1.0  # over forces per orbit it is not far from the factor that takes them
        for target in (1.0, 1 / math.sqrt(fewest * most)):
            scale = constant * target
            plain = replace(_rule(name, stepper, scale), reversible=False)
            pilot = long_run(_orbit(e, 1, threshold, integrator), plain, period[:1])
            constant = scale * float(pilot.force_evaluations)
        ends = math.log10(fewest), math.log10(most)
        factor = constant / torch.logspace(*ends, ACCURACIES, dtype=torch.float64)
    rule = _rule(name, stepper, factor)
    run = long_run(_orbit(e, len(period), threshold, integrator), rule, orbits * period)
    return {
        "rule": name,
        "eccentricity": e,
        "orbits": orbits,
        **_points(run, orbits, FINE_REFERENCE_ERROR if fine else REFERENCE_ERROR),
    }


def _points(run: LongRun, orbits: int, reference: float) -> dict[str, Any]:
    forces = cast(list[float], (run.force_evaluations / orbits).tolist())
    errors = cast(list[float], run.max_energy_error.tolist())
    return {
        "forces_per_orbit": forces,
        "max_energy_error": errors,
        "reference_error": reference,
        "forces_at_reference_error": forces_at(forces, errors, reference),
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
