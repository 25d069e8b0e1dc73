"""What the scores are made of: where steps are too long, how they are spread, and the orbits on
which a stepper fails, state by state.

Legend: T held-out states, K of them along one system; N particles, D dimensions.
"""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.evaluation.beside_criteria import by_eccentricity, eccentricity
from nbody.evaluation.held_out import HeldOut, Predict
from nbody.simulation.measures import rounded

MOST_NUMBERS = 60_000  # of all orbits that are told: a megabyte as text
DIGITS = 9  # of each
RATIO_DECADES = (-2.0, 1.0)  # of the histogram of dt/dt*; what is beyond counts at its ends
RATIO_BINS = 60


@torch.no_grad()
def close_look(
    held_out: HeldOut,
    rules: dict[str, Predict],
    factors: dict[str, float],
    *,
    newton: float = 1.0,
) -> dict[str, Any]:
    """The held-out states behind the scores of some rules, the first of which is the network.

    Args:
        rules, factors: of the scores, and the calibration factor of each.
        newton: G, in the units in which masses are told.

    Returns:
        `ratios`: the histogram of dt/dt*, of the network as it is and of the others calibrated;
        `by_eccentricity` where systems are of two bodies; `violations`, how many of the network's
        steps violate; and the `orbits` of the systems where they do, the worst first, as many as
        fit into a megabyte.
    """
    network = next(iter(rules))
    steps = {name: held_out.each(rule) for name, rule in rules.items()}
    as_used = {name: 1.0 if name == network else factors[name] for name in rules}
    errors = held_out.energy_errors(steps[network])
    violates = ~(errors < held_out.threshold)
    return {
        "rule": network,
        "systems": held_out.systems,
        "states": len(errors),
        "violations": int(violates.sum()),
        "systems_with_violations": len(held_out.system[violates].unique()),
        "ratios": {
            "edges": _edges().tolist(),
            "shares": {
                name: _shares(as_used[name] * dt / held_out.dt_star) for name, dt in steps.items()
            },
        },
        "by_eccentricity": by_eccentricity(held_out, rules, factors),
        "orbits": _worst_orbits(held_out, steps[network], errors, newton),
    }


def _edges() -> Tensor:
    return torch.logspace(*RATIO_DECADES, RATIO_BINS + 1, dtype=torch.float64)


def _shares(ratio: Float[Tensor, " T"]) -> list[float]:
    """The share of all states in each bin; infinite and undefined ratios are in the last one."""
    decades = ratio.double().log10().nan_to_num(nan=torch.inf).clamp(*RATIO_DECADES)
    counts = torch.histc(decades.cpu(), RATIO_BINS, *RATIO_DECADES)
    return cast(list[float], (counts / len(ratio)).tolist())


def _worst_orbits(
    held_out: HeldOut, dt: Tensor, errors: Tensor, newton: float
) -> list[dict[str, Any]]:
    """Systems with a violation, by their largest error over the threshold, while there is room."""
    excess = (errors / held_out.threshold).nan_to_num(nan=torch.inf)
    worst = torch.zeros(held_out.systems, dtype=excess.dtype, device=excess.device)
    worst = worst.scatter_reduce(0, held_out.system, excess, "amax")
    room = MOST_NUMBERS
    found: list[dict[str, Any]] = []
    for system in cast(list[int], worst.argsort(descending=True).tolist()):
        if not worst[system] >= 1:
            break
        rows = (held_out.system == system).nonzero().squeeze(1)
        room -= held_out.states.position[rows].numel() * 2 + 4 * len(rows)
        if room < 0:
            break
        found.append(_orbit(held_out.take(rows), dt[rows], errors[rows], system, newton))
    return found


def _orbit(
    held_out: HeldOut, dt: Tensor, errors: Tensor, system: int, newton: float
) -> dict[str, Any]:
    """One system: masses (N,), and along it the states (K, N, D) with the step from each (K,)."""
    states = held_out.states
    told: dict[str, Any] = {
        "system": system,
        "threshold": rounded(held_out.threshold[0], DIGITS),
        "mass": rounded(states.mass[0] / newton, DIGITS),
        "position": rounded(states.position, DIGITS),
        "velocity": rounded(states.velocity, DIGITS),
        "interval": rounded(held_out.weight, DIGITS),
        "dt": rounded(dt, DIGITS),
        "dt_star": rounded(held_out.dt_star, DIGITS),
        "energy_error": rounded(errors, DIGITS),
    }
    if states.position.shape[-2] == 2:
        told["eccentricity"] = rounded(eccentricity(states)[0], DIGITS)
    return told
