"""Softened Newtonian gravity: forces, potentials, and what a system conserves."""

from nbody.gravity.force import Pairs, pairwise
from nbody.gravity.invariants import (
    Energies,
    angular_momentum,
    centre_of_mass,
    energies,
    kinetic_energy,
    momentum,
    relative_energy_error,
)

__all__ = [
    "Energies",
    "Pairs",
    "angular_momentum",
    "centre_of_mass",
    "energies",
    "kinetic_energy",
    "momentum",
    "pairwise",
    "relative_energy_error",
]
