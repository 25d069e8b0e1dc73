"""REBOUND's IAS15 (Rein & Spiegel 2015) as a yardstick: force evaluations against energy error."""

from importlib import import_module
from typing import Any, cast

import torch

from nbody.particle import ParticleTorch


def ias15_run(particle: ParticleTorch, span: float, tolerance: float = 1e-9) -> tuple[int, float]:
    """Force evaluations, and the largest relative energy error after any step.

    Args:
        particle: one system (N, D).
        span: time to integrate.
        tolerance: IAS15's epsilon.

    Raises:
        ModuleNotFoundError: REBOUND is not installed.
    """
    rebound: Any = import_module("rebound")
    sim: Any = rebound.Simulation()
    sim.integrator = "ias15"
    integrator: Any = sim.integrator
    integrator.epsilon = tolerance
    missing = 3 - particle.position.shape[-1]
    places = (
        torch.nn.functional.pad(t, (0, missing)) for t in (particle.position, particle.velocity)
    )
    rows = torch.cat((particle.mass.unsqueeze(1), *places), dim=1)  # (N, 7): m x y z vx vy vz
    for row in cast(list[list[float]], rows.tolist()):
        sim.add(**dict(zip(("m", "x", "y", "z", "vx", "vy", "vz"), row, strict=True)))
    forces, largest, start = 0, 0.0, sim.energy()

    def count(_: Any) -> None:  # REBOUND calls it once for each force evaluation
        nonlocal forces
        forces += 1

    def look(_: Any) -> None:  # and this one after each step
        nonlocal largest
        largest = max(largest, abs((sim.energy() - start) / start))

    sim.additional_forces, sim.heartbeat = count, look
    sim.integrate(span, exact_finish_time=0)
    return forces, largest
