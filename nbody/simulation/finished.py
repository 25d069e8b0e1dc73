"""A finished run: its states, what it kept and what it cost, as a report and as a file.

Legend: B systems, N particles, D dimensions, K states.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nbody.config.particle_file import HDF5
from nbody.config.stepping_rules import IntegratorMode
from nbody.gravity.external_field import TidalField
from nbody.gravity.invariants import angular_momentum, momentum
from nbody.integrators.each_body import has_light_bodies
from nbody.simulation.measures import (
    MOST_SYSTEMS,
    few_bodies,
    osculating_orbits,
    plain,
    run_warnings,
)

FORMATS = (".npz", *HDF5)
OVERLOOKED = (
    "the gate looked at the total energy alone, which says nothing of bodies this light: use "
    "gate=each"
)


@dataclass(frozen=True)
class Series:
    """K states of a run and their residuals.

    Residuals are relative: |E - E0| / |E0|, and |p - p0| and |L - L0| over the largest Σ m|v| and
    Σ m|r||v| of the run. Where E0 is small against K0 + |U0|, as on a parabola, energy errors are
    relative to that sum.
    """

    time: Float[Tensor, " K *B"]  # or (K, B)
    position: Float[Tensor, "K *B N D"]
    velocity: Float[Tensor, "K *B N D"]
    energy: Float[Tensor, " K *B"]  # in the frame of the centre of mass
    energy_error: Float[Tensor, " K *B"]
    momentum_error: Float[Tensor, " K *B"]
    angular_momentum_error: Float[Tensor, " K *B"]

    def states(self, index: slice | Tensor | tuple[slice, int]) -> "Series":
        """Some of the states, or those of one system of a batch."""
        return Series(**{f.name: getattr(self, f.name)[index] for f in fields(Series)})

    def reversed(self) -> "Series":
        """These states of a run of reversed velocities, as those of the run back in time."""
        return replace(self, time=-self.time, velocity=-self.velocity)


@dataclass(frozen=True)
class Simulation(Series):
    """A finished run: K recorded states, the initial one first unless output times say otherwise.

    Attributes:
        ends: the first and the last state of the run, whatever was recorded.
        largest_energy_error: after any step, recorded or not.
        closest: of each system the two bodies that came nearest after any step, when, and how near;
            None of many bodies.
        body_errors: the largest relative error that one step made to the orbit of each body, of
            the steps that were looked at; None where the gate is on the total energy alone.
        force_evaluations: that were made for each system, those of refused steps, of steps found by
            trying and of looks at bodies with them.
        outside: predictions for states that the stepper was not trained on.
        newton: G in the units of the states.
        rule, threshold: by which the steps were taken, and the error of one that is aimed at.
        field: that the bodies were in.
        doubts: what is strange about the system as it was given.
    """

    ends: Series
    mass: Float[Tensor, "*B N"]
    dt: Float[Tensor, " steps *B"]  # or (steps, B)
    largest_energy_error: Float[Tensor, "*B"]
    parabolic: bool
    closest: list[dict[str, Any]] | None
    body_errors: Float[Tensor, "*B N"] | None
    outside: int
    force_evaluations: int = 0
    newton: float = 1.0
    rule: IntegratorMode = "gated"
    threshold: float = 2e-4
    field: TidalField | None = None
    doubts: Sequence[str] = ()

    @property
    def steps(self) -> int:
        """Steps taken."""
        return len(self.dt)

    def reversed(self) -> "Simulation":
        """This run of reversed velocities, as the run back in time that it is."""
        closest = None if self.closest is None else [c | {"time": -c["time"]} for c in self.closest]
        return replace(
            self,
            time=-self.time,
            velocity=-self.velocity,
            ends=self.ends.reversed(),
            dt=-self.dt,
            closest=closest,
        )

    def report(self) -> dict[str, Any]:
        """Steps, cost, and the largest and the final residual of each conserved quantity.

        Besides, for each of the first 32 systems, what it began and ended with, and where there are
        no more than 32 bodies the orbit of each about the neighbour that dominates it and the
        closest encounter; warnings.
        """
        time = self.ends.time[-1]
        found: dict[str, Any] = {
            "steps": self.steps,
            "force_evaluations": self.force_evaluations,
            "final_time": float(time.abs().max() * time.flatten()[0].sign()),
        }
        for name in ("energy_error", "momentum_error", "angular_momentum_error"):
            recorded, ends = (getattr(series, name) for series in (self, self.ends))
            found[f"max_{name}"] = max(float(recorded.max()), float(ends.max()))
            found[f"final_{name}"] = float(ends[-1].max())
        found["max_energy_error"] = float(self.largest_energy_error.max())
        relative = "kinetic_and_potential_energy" if self.parabolic else "energy"
        found["energy_error_relative_to"] = relative
        if self.body_errors is not None:
            errors = self.body_errors.reshape(-1, self.mass.shape[-1]).amax(0)
            found["worst_body"] = self._lightest_of(errors >= errors.max() * (1 - 1e-6))
            found["worst_body_step_error"] = float(errors.max())
        found["steps_outside_training"] = self.outside
        found["systems"] = [self._system(number) for number in range(self._told())]
        told = run_warnings(found, self.rule, self.threshold)
        found["warnings"] = [*self.doubts, *told, *self._overlooked()]
        return found

    def save(self, path: Path) -> None:
        """Write the states as an npz file that needs no pickle to read, or as HDF5 (.h5, .hdf5).

        A run that begins where this one ended can take the file as its `ic_path`.

        Raises:
            ModuleNotFoundError: h5py is not installed.
        """
        names = ("time", "position", "velocity", "mass", "dt", "energy_error")
        arrays = {name: getattr(self, name).cpu().numpy() for name in names}
        for name in ("time", "position", "velocity"):
            arrays[f"end_{name}"] = getattr(self.ends, name)[-1].cpu().numpy()
        if path.suffix not in HDF5:
            with path.open("wb") as file:  # under this very name
                np.savez_compressed(file, G=self.newton, **arrays)
            return
        h5py: Any = import_module("h5py")
        with h5py.File(path, "w") as file:
            file.attrs["G"] = self.newton
            for name, values in arrays.items():
                file.create_dataset(name, data=values)

    def _overlooked(self) -> list[str]:
        """Bodies that the gate does not see."""
        real = torch.ones_like(self.mass, dtype=torch.bool)
        if self.body_errors is None and bool(has_light_bodies(self.mass, real, self.field).any()):
            return [OVERLOOKED]
        return []

    def _lightest_of(self, bodies: Tensor) -> int:
        """Of bodies (N,) with one error, that of the orbit which they share, the lightest."""
        mass = self.mass.reshape(-1, self.mass.shape[-1])[0]
        return int(torch.where(bodies, mass, torch.inf).argmin())

    def _told(self) -> int:
        """Systems that the report tells of one by one."""
        return min(self.largest_energy_error.numel(), MOST_SYSTEMS)

    def _system(self, number: int) -> dict[str, Any]:
        is_batch = self.mass.dim() == 2
        ends = self.ends.states((slice(None), number)) if is_batch else self.ends
        mass = self.mass[number] if is_batch else self.mass
        change = float(ends.energy[1] - ends.energy[0])
        known: dict[str, Any] = {
            "final_time": float(ends.time[1]),
            "energy": plain(ends.energy),
            "max_energy_error": float(self.largest_energy_error.reshape(-1)[number]),
            "signed_energy_error": float(ends.energy_error[1]) * (1 if change > 0 else -1),
            "momentum": plain(momentum(ends.velocity, mass)),
            "angular_momentum": plain(angular_momentum(ends.position, ends.velocity, mass)),
        }
        if self.closest is not None and few_bodies(self.mass):
            known["closest"] = self.closest[number]
            orbits: Sequence[Any] = [
                osculating_orbits(ends.position[k], ends.velocity[k], self.newton * mass)
                for k in (0, 1)
            ]
            known["orbits"] = dict(zip(("initial", "final"), orbits, strict=True))
        return known
