"""REBOUND's IAS15 (Rein & Spiegel 2015) as a yardstick: force evaluations against energy error."""

from importlib import import_module
from typing import Any

from nbody.particle import ParticleTorch


def ias15_run(
    particle: ParticleTorch, span: float, tolerance: float = 1e-9, looks: int = 1000
) -> tuple[int, float]:
    """Force evaluations, and the largest relative energy error at `looks` instants.

    Args:
        particle: one system (N, D).
        span: time to integrate.
        tolerance: IAS15's epsilon.

    Raises:
        ModuleNotFoundError: REBOUND is not installed.
    """
    rebound: Any = import_module("rebound")
    sim = rebound.Simulation()
    sim.integrator = "ias15"
    sim.integrator.epsilon = tolerance
    dim = particle.position.shape[-1]
    rows = zip(
        particle.mass.tolist(), particle.position.tolist(), particle.velocity.tolist(), strict=True
    )
    for mass, position, velocity in rows:
        x, v = ([*values, 0.0][:3] if dim == 2 else values for values in (position, velocity))
        sim.add(m=mass, x=x[0], y=x[1], z=x[2], vx=v[0], vy=v[1], vz=v[2])
    forces = 0

    def count(_: Any) -> None:  # REBOUND calls it once for each force evaluation
        nonlocal forces
        forces += 1

    sim.additional_forces = count
    start, largest = sim.energy(), 0.0
    for look in range(1, looks + 1):
        sim.integrate(span * look / looks, exact_finish_time=0)
        largest = max(largest, abs((sim.energy() - start) / start))
    return forces, largest
