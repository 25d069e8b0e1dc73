"""What a finished run tells of itself: residuals, orbits, encounters, what to be careful about.

Legend: K recorded states, B systems, N particles, D dimensions.
"""

import math
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.gravity.vectors import cross, lengths
from nbody.integrators.each_body import dominant_neighbour

MOST_SYSTEMS = 32  # of a batch that are told of one by one
MOST_ORBITS = 32  # of all systems of a batch
SERIOUS, MEANINGLESS = 0.01, 0.5  # energy errors that are warned of


def osculating_orbits(
    position: Float[Tensor, "N D"], velocity: Float[Tensor, "N D"], mass: Float[Tensor, " N"]
) -> list[dict[str, Any]]:
    """The orbit of each body about the neighbour that dominates it (Murray & Dermott 1999, §2.8).

    Semi-major axes are negative for hyperbolas; inclinations [rad] are against the x-y plane.
    """
    around = dominant_neighbour(position, mass)
    separation, relative = (values - values[around] for values in (position, velocity))
    if position.shape[-1] == 2:
        separation, relative = (torch.nn.functional.pad(v, (0, 1)) for v in (separation, relative))
    total = mass + mass[around]
    energy = relative.square().sum(-1) / 2 - total / lengths(separation)
    turn = cross(separation, relative)
    ratio = 1 + 2 * energy * turn.square().sum(-1) / total.square()
    inclination = (turn[:, 2] / lengths(turn)).clamp(-1, 1).acos()
    columns: list[list[Any]] = [
        around.tolist(),
        (-total / (2 * energy)).tolist(),
        ratio.clamp_min(0).sqrt().tolist(),
        inclination.tolist(),
    ]
    return [
        {"body": body, "around": j, "semi_major_axis": a, "eccentricity": e, "inclination": i}
        for body, (j, a, e, i) in enumerate(zip(*columns, strict=True))
    ]


def closest_encounter(
    time: Float[Tensor, " K"], position: Float[Tensor, "K N D"]
) -> dict[str, Any]:
    """The two bodies that came nearest to each other at a recorded state, when, and how near."""
    nearest, found = math.inf, {}
    for k in range(len(time)):
        distances = torch.cdist(position[k], position[k])
        distances.fill_diagonal_(torch.inf)
        place = int(distances.argmin())
        distance = float(distances.flatten()[place])
        if distance < nearest:
            pair = sorted(divmod(place, len(distances)))
            nearest, found = distance, {"bodies": pair, "time": float(time[k])}
    return {**found, "distance": nearest}


def run_warnings(largest_error: float, outside: int, steps: int) -> list[str]:
    """What whoever reads the report should know before using the run."""
    told: list[str] = []
    if not largest_error < MEANINGLESS:
        told.append(
            f"the energy error is {largest_error:.1e}: the run means nothing; check units (G), "
            "use smaller steps, or integrator_mode gated"
        )
    elif largest_error > SERIOUS:
        told.append(f"the energy error is {largest_error:.1e}: use smaller steps, or gated")
    if outside:
        told.append(
            f"{outside} of {steps} predictions were for states that the stepper was not trained "
            "on: their steps were found by trying, which costs some tens of forces each"
        )
    return told


def plain(values: Tensor) -> Any:
    """Numbers or lists of them."""
    return cast(Any, values.tolist())
