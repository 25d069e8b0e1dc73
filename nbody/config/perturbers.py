"""Fixed perturbers as a config has them: one mass and one position, or lists of both."""

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
