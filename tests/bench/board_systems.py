"""The systems of the board: what the literature runs, and what users do."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nbody.config import Config
from nbody.initial_conditions.from_config import initial_particle
from nbody.native.engine import NativeSystem, in_space
from nbody.particle import ParticleTorch

CROSSING_TIME = 2 * 2**0.5  # of a cluster in Hénon units
AU_KMS_YEAR = 4.740470463533349  # km/s in one au a year
G_AU_YEAR = 4 * np.pi**2  # au³ / (M_sun year²)


@dataclass(frozen=True)
class Family:
    """Systems of one kind.

    Attributes:
        systems: and for how long each is run.
        planetary: whether one mass dominates each.
        regular: whether the end of a run can be compared body by body.
    """

    systems: list[tuple[NativeSystem, float]]
    planetary: bool = False
    regular: bool = False


def plummer(bodies: int, systems: int, crossings: float) -> Family:
    """Plummer spheres in Hénon units."""
    given = {"initial_conditions": "plummer", "num_particles": bodies, "dim": 3}
    config = Config(**given, num_systems=systems, device="cpu")
    batch = initial_particle(config, seed=77).batched()
    return Family([(native(batch, i), crossings * CROSSING_TIME) for i in range(systems)])


def triples(systems: int, years: float = 10.0) -> Family:
    """Equal masses in a plane, as Saz Ulibarrena & Portegies Zwart (2025, arXiv:2502.12809) draw
    them: solar masses, au, km/s, ten years."""
    draw = np.random.default_rng(2502)
    found = []
    for _ in range(systems):
        places = np.zeros((3, 3))
        places[1, :2] = draw.uniform(5, 20), draw.uniform(0, 10)
        places[2, :2] = draw.uniform(-10, 0), draw.uniform(5, 20)
        speeds = np.array([[0, 10, 0], [-10, 0, 0], [0, 0, 0]]) / AU_KMS_YEAR
        places, speeds = places - places.mean(0), speeds - speeds.mean(0)
        found.append((NativeSystem(np.full(3, G_AU_YEAR), places, speeds), years))
    return Family(found)


def two_bodies(systems: int, orbits: float = 100.0, eccentricity: float = 0.9) -> Family:
    """Equal masses, e = 0.9, from different phases."""
    given = {"initial_conditions": "kepler_ensemble", "dim": 2, "num_orbits": systems}
    config = Config(**given, e_min=eccentricity, e_max=eccentricity, device="cpu")
    batch = initial_particle(config, seed=5).batched()
    assert batch.period is not None
    periods = batch.period.tolist()
    runs = [(native(batch, i), orbits * periods[i]) for i in range(systems)]
    return Family(runs, regular=True)


def preset(name: str, orbits: float = 100.0) -> Family:
    """A planetary system of the presets of `initial_conditions`."""
    config = Config(initial_conditions=name, device="cpu")
    batch = initial_particle(config, seed=1).batched()
    assert batch.period is not None
    return Family([(native(batch, 0), orbits * float(batch.period[0]))], True, True)


def native(batch: ParticleTorch, which: int) -> NativeSystem:
    """One system of a batch, in space."""
    places, speeds = (in_space(v[which].numpy()) for v in (batch.position, batch.velocity))
    return NativeSystem(batch.mass[which].numpy(), places, speeds, batch.softening)


FAMILIES: dict[str, Callable[[int, float], Family]] = {
    "two_bodies": lambda systems, spans: two_bodies(systems, 100 * spans),
    "triples": lambda systems, spans: triples(systems, 10 * spans),
    "plummer_16": lambda systems, spans: plummer(16, systems, 10 * spans),
    "plummer_64": lambda systems, spans: plummer(64, systems, 10 * spans),
    "plummer_256": lambda systems, spans: plummer(256, systems, 10 * spans),
}
