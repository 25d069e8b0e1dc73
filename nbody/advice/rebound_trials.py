"""REBOUND's own integrators, tried on the same systems."""

import warnings
from collections.abc import Callable
from importlib import import_module
from time import perf_counter
from typing import Any

import numpy as np

from nbody.advice.trials import LOST, ROUNDS, SHORT, Trial
from nbody.native.engine import NativeSystem

LOOKS = 128  # at the energy, in a run

Setting = Callable[[Any, NativeSystem, float], None]  # of a simulation of it, to an accuracy


def rebound_trial(system: NativeSystem, setting: Setting, accuracy: float, span: float) -> Trial:
    """A run of REBOUND's: the energy is looked at so often in a span, by another run where it is
    short.

    Raises:
        ModuleNotFoundError: REBOUND is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # too rough an accuracy shows in its error
        simulation = _simulation(system, setting, accuracy)
        error, seconds = _watched(simulation, span)
        position = np.array([particle.xyz for particle in simulation.particles])
        for _ in range(ROUNDS if seconds < SHORT and error < LOST else 0):
            again = _simulation(system, setting, accuracy)
            begun = perf_counter()
            again.integrate(span, exact_finish_time=0)
            seconds = min(seconds, perf_counter() - begun)
    return Trial(seconds, None, error, position)


def _watched(simulation: Any, span: float) -> tuple[float, float]:
    """The largest relative energy error, and the seconds, infinite where the run is lost."""
    start, error, seconds = simulation.energy(), 0.0, 0.0
    for time in span * np.arange(1, LOOKS + 1) / LOOKS:
        begun = perf_counter()
        simulation.integrate(time, exact_finish_time=0)
        seconds += perf_counter() - begun
        error = max(error, abs(simulation.energy() / start - 1))
        if not error < LOST:
            return np.inf, np.inf
    return error, seconds


def ias15(simulation: Any, _: NativeSystem, accuracy: float) -> None:
    """The accuracy is epsilon."""
    simulation.integrator = "ias15"
    setattr(simulation.integrator, "epsilon", accuracy)  # noqa: B010 - a field of REBOUND's own


def fixed_steps(name: str, **fields: Any) -> Setting:
    """One step for the whole run: the accuracy is a share of the shortest free-fall time at the
    start, 2π of which are a circular orbit's period."""

    def setting(simulation: Any, system: NativeSystem, accuracy: float) -> None:
        simulation.integrator = name
        for field, value in fields.items():
            setattr(simulation.integrator, field, value)
        simulation.dt = accuracy * shortest_free_fall(system)

    return setting


def shortest_free_fall(system: NativeSystem) -> float:
    """sqrt(a³/GM) of the pair of the shortest orbit where it is bound, else sqrt(r³/GM)."""
    one, other = np.triu_indices(len(system.mass), 1)
    mass = system.mass[one] + system.mass[other]
    distance = np.linalg.norm(system.position[one] - system.position[other], axis=1)
    speed2 = ((system.velocity[one] - system.velocity[other]) ** 2).sum(axis=1)
    inverse = 2 / distance - speed2 / mass  # of the semi-major axis
    length = np.where(inverse > 0, 1 / np.where(inverse > 0, inverse, 1.0), distance)
    return float((length**1.5 / mass**0.5).min())


def _simulation(system: NativeSystem, setting: Setting, accuracy: float) -> Any:
    simulation: Any = import_module("rebound").Simulation()
    simulation.softening = system.softening
    for m, x, v in zip(system.mass, system.position, system.velocity, strict=True):
        place = zip(("x", "y", "z", "vx", "vy", "vz"), (*x, *v), strict=True)
        simulation.add(m=float(m), **{name: float(value) for name, value in place})
    simulation.move_to_com()
    setting(simulation, system, accuracy)
    return simulation
