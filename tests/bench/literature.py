"""Systems of the literature beside IAS15: `python -m tests.bench.literature [--stepper MODEL]`.

Every system is integrated by REBOUND's IAS15 and by our rules, over the same time. The columns say
how far each body's orbit ended from where IAS15 has it: the largest error of a semi-major axis
(relative) and of an eccentricity, over the bodies, about the neighbour that dominates each; the
largest energy error; forces; seconds of one thread.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch

from nbody.config import Config
from nbody.config.units import newton
from nbody.errors import NBodyError
from nbody.initial_conditions.from_config import initial_particle
from nbody.simulation.measures import osculating_orbits
from nbody.simulation.run import simulate
from nbody.stepper import Stepper, load_stepper

RULES = ("gated", "reversible")
Rows = list[list[float]]


class System(NamedTuple):
    """A system, its units, and how long it is followed."""

    name: str
    rows: Callable[[], Rows]
    span: float
    units: str | float = 1.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each system and rule."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.literature", description=__doc__)
    parser.add_argument("--stepper", type=Path, help="trained stepper; its rule is ml, too")
    parser.add_argument("--only", nargs="*", default=[], help="names, or parts of them")
    parser.add_argument("--out", type=Path, help="put the lines in this JSON file, too")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    stepper = load_stepper(options.stepper) if options.stepper else None
    rules = (*RULES, *(["ml"] if stepper else []))
    lines: list[dict[str, Any]] = []
    heads = "system", "rule", "|Δa|/a", "|Δe|", "|ΔE/E|", "steps", "seconds", "IAS15 s"
    print("{:34} {:10} {:>8} {:>8} {:>8} {:>7} {:>8} {:>8}".format(*heads))
    for system in SYSTEMS:
        if options.only and not any(part in system.name for part in options.only):
            continue
        for line in _beside_ias15(system, rules, stepper):
            lines.append(line)
            print(_text(line), flush=True)
    if options.out:
        options.out.write_text(json.dumps(lines, indent=1) + "\n")


def _text(line: dict[str, Any]) -> str:
    if "failure" in line:
        return f"{line['system']:34} {line['rule']:10} {line['failure']}"
    return (
        f"{line['system']:34} {line['rule']:10} {line['axis_error']:8.1e} "
        f"{line['eccentricity_error']:8.1e} {line['energy_error']:8.1e} {line['steps']:7d} "
        f"{line['seconds']:8.2f} {line['ias15_seconds']:8.4f}"
    )


def _beside_ias15(
    system: System, rules: Sequence[str], stepper: Stepper | None
) -> list[dict[str, Any]]:
    rows = system.rows()
    began = time.perf_counter()
    expected = _ias15(rows, newton(system.units), system.span)  # type: ignore[arg-type]
    seconds = time.perf_counter() - began
    found: list[dict[str, Any]] = []
    for rule in rules:
        line: dict[str, Any] = {"system": system.name, "rule": rule, "ias15_seconds": seconds}
        config = Config.model_validate(
            {
                "initial_conditions": "inline",
                "particles": rows,
                "G": system.units,
                "duration": system.span,
                "integrator_mode": rule,
                "output_every": system.span,
                "device": "cpu",
            }
        )
        began = time.perf_counter()
        try:
            run = simulate(config, initial_particle(config), stepper if rule == "ml" else None)
        except NBodyError as error:
            found.append(line | {"failure": str(error)[:90]})
            continue
        line["seconds"] = time.perf_counter() - began
        ours = osculating_orbits(run.position[-1], run.velocity[-1], run.newton * run.mass)
        pairs = [
            (mine, theirs)
            for mine, theirs in zip(ours, expected, strict=True)
            if mine["around"] == theirs["around"]
        ]
        found.append(
            line
            | {
                "axis_error": _worst(pairs, "semi_major_axis", relative=True),
                "eccentricity_error": _worst(pairs, "eccentricity", relative=False),
                "energy_error": float(run.largest_energy_error),
                "steps": run.steps,
                "forces": run.force_evaluations,
            }
        )
    return found


def _worst(
    pairs: list[tuple[dict[str, Any], dict[str, Any]]], key: str, *, relative: bool
) -> float:
    errors = (
        abs(mine[key] - theirs[key]) / (abs(theirs[key]) if relative else 1.0)
        for mine, theirs in pairs
    )
    return max(errors, default=math.nan)


def _ias15(rows: Rows, constant: float, span: float) -> list[dict[str, Any]]:
    sim = _simulation(rows, constant)
    sim.integrate(span)
    states = torch.tensor(
        [[p.m, p.x, p.y, p.z, p.vx, p.vy, p.vz] for p in sim.particles], dtype=torch.float64
    )
    return osculating_orbits(states[:, 1:4], states[:, 4:], constant * states[:, 0])


def _simulation(rows: Rows, constant: float) -> Any:
    rebound: Any = import_module("rebound")
    sim = rebound.Simulation()
    sim.G, sim.integrator = constant, "ias15"
    for row in rows:
        dim = (len(row) - 1) // 2
        place, speed = [*row[1 : 1 + dim], 0.0][:3], [*row[1 + dim :], 0.0][:3]
        sim.add(
            m=row[0], **dict(zip(("x", "y", "z", "vx", "vy", "vz"), place + speed, strict=True))
        )
    return sim


def _of_elements(*bodies: dict[str, float], constant: float = 1.0) -> Callable[[], Rows]:
    """Rows of bodies with masses and Jacobi elements as REBOUND takes them."""

    def rows() -> Rows:
        rebound: Any = import_module("rebound")
        sim = rebound.Simulation()
        sim.G = constant
        for body in bodies:
            sim.add(**body)
        return [[p.m, p.x, p.y, p.z, p.vx, p.vy, p.vz] for p in sim.particles]

    return rows


def _planar_three(vx: float, vy: float) -> Callable[[], Rows]:
    """Equal masses on a line, the outer two with one velocity (Suvakov & Dmitrasinovic 2013)."""
    return lambda: [
        [1.0, -1.0, 0.0, vx, vy],
        [1.0, 1.0, 0.0, vx, vy],
        [1.0, 0.0, 0.0, -2 * vx, -2 * vy],
    ]


def _population(kind: str, **fields: Any) -> Callable[[], Rows]:
    def rows() -> Rows:
        given = {"initial_conditions": kind, "device": "cpu", "dim": 3} | fields
        particle = initial_particle(Config.model_validate(given), seed=1)
        parts = particle.mass.unsqueeze(1), particle.position, particle.velocity
        return torch.cat(parts, dim=1).tolist()

    return rows


YEAR = newton("AU/Msun/yr")
JUPITER = {"m": 9.5459e-4, "a": 5.2026, "e": 0.04849, "inc": 0.0228, "M": 0.35}
SATURN = {"m": 2.8581e-4, "a": 9.5549, "e": 0.05551, "inc": 0.0434, "M": 5.53}
URANUS = {"m": 4.3662e-5, "a": 19.2184, "e": 0.0463, "inc": 0.0135, "M": 2.49}
NEPTUNE = {"m": 5.1514e-5, "a": 30.1104, "e": 0.00899, "inc": 0.0309, "M": 4.54}
MERCURY = {"m": 1.6601e-7, "a": 0.3871, "e": 0.2056, "inc": 0.1223, "M": 3.05}
VENUS = {"m": 2.4478e-6, "a": 0.7233, "e": 0.0068, "inc": 0.0592, "M": 0.88}
EARTH = {"m": 3.0035e-6, "a": 1.0, "e": 0.0167, "M": 6.24}
MARS = {"m": 3.2272e-7, "a": 1.5237, "e": 0.0934, "inc": 0.0323, "M": 0.34}
SUN = {"m": 1.0}
TURN = 2 * math.pi

SYSTEMS = (
    System("Kepler, e = 0.9", _of_elements({"m": 1.0}, {"m": 1.0, "a": 1.0, "e": 0.9}), 40.0),
    System("Kepler, e = 0.99", _of_elements({"m": 1.0}, {"m": 1e-3, "a": 1.0, "e": 0.99}), 30.0),
    System("parabola", lambda: [[1.0, -0.5, 0.0, 0.0, -1.0], [1.0, 0.5, 0.0, 0.0, 1.0]], 10.0),
    System("hyperbola, e = 1.5", _population("kepler", eccentricity=1.5, num_systems=1), 60.0),
    System("hyperbola, e = 100", _population("kepler", eccentricity=100.0), 9000.0),
    System("figure-eight", _population("figure_eight"), 6.32591398),
    System("Lagrange's triangle", _population("lagrange_triangle"), 3.6),
    System("Pythagorean, to t = 10", _population("pythagorean"), 10.0),
    System("butterfly I", _planar_three(0.306893, 0.125507), 6.2356),
    System("moth I", _planar_three(0.464445, 0.396060), 14.8939),
    System(
        "Sun, Jupiter, asteroid e = 0.9",
        _of_elements(SUN, {"m": 1e-9, "a": 1.0, "e": 0.9}, {"m": 1e-3, "a": 5.2, "e": 0.05}),
        10 * TURN,
    ),
    System(
        "Sun, Jupiter, Saturn",
        _of_elements(SUN, JUPITER, SATURN, constant=YEAR),
        100.0,
        "AU/Msun/yr",
    ),
    System(
        "outer solar system",
        _of_elements(SUN, JUPITER, SATURN, URANUS, NEPTUNE, constant=YEAR),
        200.0,
        "AU/Msun/yr",
    ),
    System(
        "inner solar system and Jupiter",
        _of_elements(SUN, MERCURY, VENUS, EARTH, MARS, JUPITER, constant=YEAR),
        5.0,
        "AU/Msun/yr",
    ),
    System(
        "Sun, Earth, Moon",
        lambda: [
            [1.0, 0.0, 0.0, 0.0, 0.0],
            [3.0035e-6, 1.0, 0.0, 0.0, TURN],
            [3.694e-8, 1.00257, 0.0, 0.0, TURN + 0.2155],
        ],
        1.0,
        "AU/Msun/yr",
    ),
    System(
        "Jupiter's Trojan",
        _of_elements(
            SUN, JUPITER, {"m": 0.0, "a": 5.2026, "e": 0.05, "M": 0.35 + TURN / 6}, constant=YEAR
        ),
        120.0,
        "AU/Msun/yr",
    ),
    System(
        "Kozai triple",
        _of_elements(
            {"m": 1.0}, {"m": 1e-3, "a": 1.0, "e": 0.01}, {"m": 1.0, "a": 5.0, "inc": 1.396}
        ),
        100.0,
    ),
    System(
        "Kepler-16, a circumbinary planet",
        _of_elements(
            {"m": 0.6897},
            {"m": 0.20255, "a": 0.22431, "e": 0.15944},
            {"m": 3.18e-4, "a": 0.7048, "e": 0.0069, "M": 1.0},
            constant=YEAR,
        ),
        5.0,
        "AU/Msun/yr",
    ),
    System(
        "GJ 876 b, c in resonance",
        _of_elements(
            {"m": 0.334},
            {"m": 6.8e-4, "a": 0.12959, "e": 0.2559, "omega": 0.85, "M": 5.13},
            {"m": 2.17e-3, "a": 0.20832, "e": 0.0324, "omega": 0.88, "M": 5.67},
            constant=YEAR,
        ),
        3.0,
        "AU/Msun/yr",
    ),
    System("a chain as of TRAPPIST-1", _population("resonant_chain"), 10 * TURN),
    System("planets and asteroids", _population("planetary_system", num_particles=8), 10 * TURN),
    System("binary and single, an encounter", _population("binary_single"), 60.0),
    System("Plummer, 16 bodies", _population("plummer", num_particles=16), 1.0),
)

if __name__ == "__main__":
    main()
