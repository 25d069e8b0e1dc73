"""Fixed perturbers as a config has them: one mass and one position, or lists of both."""

from collections.abc import Sequence
from typing import cast


def listed(
    mass: float | list[float] | None, position: list[float] | list[list[float]] | None
) -> tuple[list[float], list[list[float]]]:
    """Masses and positions, of one perturber as of several; empty of none."""
    if mass is None or position is None:
        return [], []
    masses = cast(list[float], mass if isinstance(mass, list) else [mass])
    if isinstance(position[0], list):
        return masses, cast(list[list[float]], position)
    return masses, [cast(list[float], position)]


def body_at(places: Sequence[Sequence[float]], rows: Sequence[Sequence[float]]) -> int | None:
    """The first of rows [m, x.., v..] that is at one of these places, if any is."""
    for number, row in enumerate(rows):
        position = [*row[1 : 1 + len(row) // 2], 0.0][:3]
        if any([*place, 0.0][:3] == position for place in places):
            return number
    return None
