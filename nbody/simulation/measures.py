"""What a finished run tells of itself: residuals, orbits, encounters, what to be careful about.

Legend: K recorded states, B systems, N particles, D dimensions.
"""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.gravity.vectors import cross, lengths
from nbody.integrators.each_body import dominant_neighbour

MOST_SYSTEMS = 32  # of a batch that are told of one by one
MOST_ORBITS = 32  # of all systems of a batch
SEEN_AT_ONCE = 256  # states
SERIOUS, MEANINGLESS = 0.01, 0.5  # energy errors that are warned of
FAR = 10  # times the threshold that an error of a body's orbit is warned of


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


class ClosestEncounters:
    """Of each system the two bodies that came nearest to each other, when, and how near."""

    def __init__(self) -> None:
        self._times: list[Tensor] = []
        self._positions: list[Tensor] = []
        self._found: list[dict[str, Any]] = []

    def see(self, time: Float[Tensor, " B"], position: Float[Tensor, "B N D"]) -> None:
        """Note the states of B systems."""
        self._times.append(time)
        self._positions.append(position)
        if len(self._times) == SEEN_AT_ONCE:
            self._look()

    def found(self) -> list[dict[str, Any]]:
        """`bodies`, `time` and `distance` of each system."""
        self._look()
        return self._found

    def _look(self) -> None:
        if not self._times:
            return
        times, positions = torch.stack(self._times), torch.stack(self._positions)
        self._times, self._positions = [], []
        number = positions.shape[-2]
        itself = torch.eye(number, dtype=torch.bool, device=positions.device)
        separations = positions.unsqueeze(-2) - positions.unsqueeze(-3)  # exact of near ones
        distances = lengths(separations).masked_fill(itself, torch.inf).flatten(2)  # (K, B, N²)
        nearest, pairs = distances.min(-1)
        distance, when = nearest.min(0)  # (B,)
        for system, (k, near) in enumerate(zip(plain(when), plain(distance), strict=True)):
            found = {
                "bodies": sorted(divmod(int(pairs[k, system]), number)),
                "time": float(times[k, system]),
                "distance": near,
            }
            if system == len(self._found):
                self._found.append(found)
            elif near < self._found[system]["distance"]:
                self._found[system] = found


def few_bodies(mass: Float[Tensor, "*B N"]) -> bool:
    """Whether there are so few that each is told of."""
    return mass.numel() <= MOST_ORBITS


def run_warnings(report: dict[str, Any], rule: str, threshold: float) -> list[str]:
    """What whoever reads a report should know before using the run.

    Args:
        rule: by which its steps were taken.
        threshold: of the error of one step that they aimed at.
    """
    told: list[str] = []
    smaller = "use a smaller energy_threshold" if rule == "gated" else "use smaller steps, or gated"
    error = report["max_energy_error"]
    if not error < MEANINGLESS:
        told.append(
            f"the energy error is {error:.1e}: the run means nothing; check units (G), or {smaller}"
        )
    elif error > SERIOUS:
        told.append(f"the energy error is {error:.1e}: {smaller}")
    if not (worst := report.get("worst_body_step_error", 0.0)) < FAR * threshold:
        told.append(
            f"a step changed the orbit of body {report['worst_body']} by {worst:.1e}, "
            f"{worst / threshold:.0f} times energy_threshold: {smaller}"
        )
    if outside := report["steps_outside_training"]:
        told.append(
            f"{outside} predictions in {report['steps']} steps were for states that the stepper "
            "was not trained on: steps were found by trying, which costs some tens of forces each; "
            "train on such systems, or use gated without a stepper"
        )
    return told


def plain(values: Tensor) -> Any:
    """Numbers or lists of them."""
    return cast(Any, values.tolist())


def rounded(values: Tensor, digits: int) -> Any:
    """Numbers of so many significant digits, or lists of them."""

    def round_each(value: Any) -> Any:
        if isinstance(value, list):
            return [round_each(item) for item in cast(list[Any], value)]
        return float(f"{value:.{digits}g}")

    return round_each(values.tolist())
