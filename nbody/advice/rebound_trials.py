"""REBOUND's own integrators, tried on the same systems."""

from collections.abc import Callable, Iterator
from importlib import import_module
from time import perf_counter
from typing import Any

import numpy as np

from nbody.advice.trials import LOST, ROUNDS, SHORT, Trial
from nbody.native.engine import NativeSystem

LOOKS = 128  # at the energy, in a run

Setting = Callable[[Any, float], None]  # of a simulation, to an accuracy


def rebound_trial(
    system: NativeSystem, setting: Setting, accuracy: float, span: float
) -> Trial:
    """A run of REBOUND's: the energy is looked at so often in a span, by another run where it is
    short.

    Raises:
        ModuleNotFoundError: REBOUND is not installed.
    """
    simulation = _simulation(system, setting, accuracy)
    start, error, seconds = simulation.energy(), 0.0, 0.0
    for time in span * np.arange(1, LOOKS + 1) / LOOKS:
        begun = perf_counter()
        simulation.integrate(time, exact_finish_time=0)
        seconds += perf_counter() - begun
        error = max(error, abs(simulation.energy() / start - 1))
        if not error < LOST:
            return Trial(np.inf, None, np.inf, _positions(simulation))
    position = _positions(simulation)
    for _ in range(ROUNDS if seconds < SHORT else 0):
        again = _simulation(system, setting, accuracy)
        begun = perf_counter()
        again.integrate(span, exact_finish_time=0)
        seconds = min(seconds, perf_counter() - begun)
    return Trial(seconds, None, error, position)


def ias15(simulation: Any, accuracy: float) -> None:
    """The accuracy is epsilon."""
    simulation.integrator = "ias15"
    simulation.integrator.epsilon = accuracy


def fixed_steps(name: str, **fields: Any) -> Setting:
    """One step for the whole run: the accuracy is a share of the shortest free-fall time at the
    start, 2π of which are a circular orbit's period."""

    def setting(simulation: Any, accuracy: float) -> None:
        simulation.integrator = name
        for field, value in fields.items():
            setattr(simulation.integrator, field, value)
        simulation.dt = accuracy * shortest_free_fall(simulation)

    return setting


def shortest_free_fall(simulation: Any) -> float:
    """sqrt(a³/GM) of the pair of the shortest orbit where it is bound, else sqrt(r³/GM)."""
    return min(_times(list(simulation.particles)))


def _times(particles: list[Any]) -> Iterator[float]:
    for number, one in enumerate(particles):
        for other in particles[:number]:
            mass = one.m + other.m
            separation = np.subtract(one.xyz, other.xyz)
            speed = np.subtract(one.vxyz, other.vxyz)
            distance = float(np.sqrt(separation @ separation))
            inverse = 2 / distance - float(speed @ speed) / mass
            yield (min(1 / inverse, np.inf) if inverse > 0 else distance) ** 1.5 / mass**0.5


def _simulation(system: NativeSystem, setting: Setting, accuracy: float) -> Any:
    simulation: Any = import_module("rebound").Simulation()
    simulation.softening = system.softening
    for m, x, v in zip(system.mass, system.position, system.velocity, strict=True):
        place = zip(("x", "y", "z", "vx", "vy", "vz"), (*x, *v), strict=True)
        simulation.add(m=float(m), **{name: float(value) for name, value in place})
    simulation.move_to_com()
    setting(simulation, accuracy)
    return simulation


def _positions(simulation: Any) -> np.ndarray:
    return np.array([particle.xyz for particle in simulation.particles])
