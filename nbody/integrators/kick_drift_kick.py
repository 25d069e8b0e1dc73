"""One kick-drift-kick leapfrog step (Hockney & Eastwood 1988, §4-4): second order, symplectic,
reversible.

Legend: ... any leading axes (systems), N particles, D dimensions.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nbody.gravity.external_field import TidalField
from nbody.gravity.force import pairwise
from nbody.gravity.invariants import Energies, kinetic_energy
from nbody.integrators.each_body import Orbits


class Substep(NamedTuple):
    """The state after one kick, drift and kick, and what its force pass gave."""

    position: Float[Tensor, "*B N D"]
    velocity: Float[Tensor, "*B N D"]
    acceleration: Float[Tensor, "*B N D"]  # at the new position
    potential_energy: Float[Tensor, "*B"]  # at the new position


class Step(NamedTuple):
    """The state after a prediction's worth of substeps, and how well they kept the energy."""

    position: Float[Tensor, "*B N D"]
    velocity: Float[Tensor, "*B N D"]
    acceleration: Float[Tensor, "*B N D"]  # at the new position
    energy: Float[Tensor, "*B"]  # total, after the step
    scale: Float[Tensor, "*B"]  # what an energy error is relative to, after the step
    energy_error: Float[Tensor, "*B"]  # largest over the substeps: what the gate looks at


def substep(
    position: Float[Tensor, "*#B N D"],
    velocity: Float[Tensor, "*#B N D"],
    mass: Float[Tensor, "*#B N"],
    acceleration: Float[Tensor, "*#B N D"],
    dt: Float[Tensor, "*#B"],
    *,
    softening: float = 0.0,
    field: TidalField | None = None,
    G: float = 1.0,
) -> Substep:
    """One kick-drift-kick with dt (...,): v += a dt/2, x += v dt, v += a' dt/2.

    Args:
        position, velocity, acceleration: (..., N, D); acceleration at `position`.
    """
    step = dt[..., None, None]
    half = velocity + 0.5 * step * acceleration
    position = position + step * half
    acceleration, potential = pairwise(position, mass, softening, field, G)
    velocity = half + 0.5 * step * acceleration
    return Substep(position, velocity, acceleration, potential)


def kick_drift_kick(
    position: Float[Tensor, "*#B N D"],
    velocity: Float[Tensor, "*#B N D"],
    mass: Float[Tensor, "*#B N"],
    acceleration: Float[Tensor, "*#B N D"],
    energy: Float[Tensor, "*#B"],
    dt: Float[Tensor, "*#B"],
    *,
    scale: Float[Tensor, "*#B"] | None = None,
    softening: float = 0.0,
    field: TidalField | None = None,
    n_steps: int = 1,
    orbits: Orbits | None = None,
) -> Step:
    """`n_steps` KDK steps of dt each. One new force evaluation a step, two with `orbits`.

    Args:
        position, velocity, acceleration: (..., N, D); acceleration at `position`.
        energy: (...,) total energy before the step.
        dt: (...,) time step of each system.
        scale: (...,) what energy errors are relative to, |energy| where it is left out; where it
            is zero there are none.
        orbits: of each body before the step, where their errors count, too.
    """
    errors: list[Tensor] = []
    scale = energy.abs() if scale is None else scale
    divisor = torch.where(scale > 0, scale, 1.0)
    energies = Energies(energy, torch.zeros_like(energy))
    for _ in range(n_steps):
        before = position, velocity, acceleration
        position, velocity, acceleration, potential = substep(
            *(position, velocity, mass, acceleration, dt), softening=softening, field=field
        )
        energies = Energies(kinetic_energy(velocity, mass, field), potential)
        errors.append((energies.total - energy).abs() / divisor)
        if orbits is not None:
            orbits = orbits.after(before, (position, velocity, acceleration), dt)
            errors.append(orbits.errors().amax(-1))
    error = errors[0] if len(errors) == 1 else torch.stack(errors).amax(0)
    return Step(position, velocity, acceleration, energies.total, energies.scale, error)
