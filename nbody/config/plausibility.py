"""Whether rows of particles can be a system that somebody means, or units that do not fit.

G = 1 unless given. No torch, no numpy: the server asks this of every config.
"""

import math
from collections.abc import Sequence
from itertools import combinations

from nbody.config.units import G_OF_UNITS, UnitSystem

MOST_PARTICLES = 64  # that are looked at: pairs cost time
COLDEST, HOTTEST = 1e-6, 1e6  # K / |U| of any orbit that somebody follows
FALLING, FREE = 1e-3, 10.0  # and of most
LIGHT = 1e-9  # of the largest mass: what a massless body counts as
RADIAL = 0.9  # share of the squared speed that is along the line of sight
BOUND = (0.2, 0.8)  # K / |U| of systems that stay together

Rows = Sequence[Sequence[float]]


def doubts(rows: Rows, newton: float, step: float | None) -> list[str]:
    """What is strange about rows [m, x.., v..], in words; empty where nothing is.

    Args:
        newton: G.
        step: of a run with one fixed step.
    """
    if len(rows) > MOST_PARTICLES:
        return []
    found: list[str] = []
    kinetic, potential, longest = _energies(rows, newton)
    ratio = kinetic / potential if kinetic > 0 and potential > 0 else None
    better = None if ratio is None or _flies(rows) else _units_of_a_bound_system(ratio, newton)
    if ratio is not None and better is not None:
        found.append(
            f"kinetic over potential energy is {ratio:.1e}; with G of {better} it would be "
            f"{ratio * newton / G_OF_UNITS[better]:.2f}, as of bodies that stay together. If those "
            f"are their units, set G={better}"
        )
    elif ratio is not None and not COLDEST < ratio < HOTTEST:
        found.append(
            f"kinetic over potential energy is {ratio:.1e}, as of no orbit: are these positions, "
            f"velocities and masses in units in which G is {newton:g}? Name their units in G"
        )
    if step is not None and longest < math.inf and step > longest:
        found.append(
            f"dt {step:g} is longer than every time scale of the system (the longest is "
            f"{longest:.1e}): are the units those of G?"
        )
    return found


def _flies(rows: Rows) -> bool:
    """Whether the two bodies that are nearest to each other move along the line between them, as
    they do before and after an encounter."""
    dim = (len(rows[0]) - 1) // 2
    one, other = min(combinations(rows, 2), key=lambda p: math.dist(p[0][1:][:dim], p[1][1:][:dim]))
    separation, velocity = (
        [b - a for a, b in zip(one[part], other[part], strict=True)]
        for part in (slice(1, 1 + dim), slice(1 + dim, None))
    )
    along = sum(x * v for x, v in zip(separation, velocity, strict=True))
    return along**2 > RADIAL * sum(x * x for x in separation) * sum(v * v for v in velocity)


def _units_of_a_bound_system(ratio: float, newton: float) -> UnitSystem | None:
    """Units in which a system that flies apart, or falls together, would stay together."""
    if FALLING < ratio < FREE:
        return None
    for units, G in G_OF_UNITS.items():
        if BOUND[0] < ratio * newton / G < BOUND[1]:
            return units
    return None


def _energies(rows: Rows, newton: float) -> tuple[float, float, float]:
    """K about the centre of mass, |U|, and the longest orbital period of a pair."""
    dim = (len(rows[0]) - 1) // 2
    least = LIGHT * max(row[0] for row in rows)
    rows = [(row[0] or least, *row[1:]) for row in rows]  # a star with bodies that weigh nothing
    total = sum(row[0] for row in rows)
    if not total > 0:
        return 0.0, 0.0, math.inf
    mean = [sum(row[0] * row[1 + dim + k] for row in rows) / total for k in range(dim)]
    kinetic = sum(
        row[0] * (row[1 + dim + k] - mean[k]) ** 2 / 2 for row in rows for k in range(dim)
    )
    potential, longest = 0.0, 0.0
    for one, other in combinations(rows, 2):
        distance = math.dist(one[1 : 1 + dim], other[1 : 1 + dim])
        if not distance > 0:
            continue
        potential += newton * one[0] * other[0] / distance
        pull = newton * (one[0] + other[0])
        if pull > 0:
            longest = max(longest, 2 * math.pi * math.sqrt(distance / pull) * distance)
    return kinetic, potential, longest or math.inf
