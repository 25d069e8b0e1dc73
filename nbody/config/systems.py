"""The kinds of systems that `initial_conditions` names, as facts."""

from dataclasses import dataclass
from typing import Literal

InitialConditions = Literal[
    "kepler",
    "kepler_ensemble",
    "random",
    "figure_eight",
    "pythagorean",
    "lagrange_triangle",
    "random_bound",
    "hierarchical_triple",
    "figure_eight_family",
    "plummer",
    "binary_single",
    "planetary_system",
    "kozai_triple",
    "resonant_chain",
    "file",
    "inline",
]
IC_FILES = (  # what files of `file` end with
    *(".npy", ".npz", ".txt", ".csv", ".tsv", ".dat"),
    *(".h5", ".hdf5", ".bin", ".sa"),
)


@dataclass(frozen=True)
class SystemKind:
    """What a kind of system settles by itself.

    Attributes:
        drawn: whether systems are drawn at random from a population, not one fixed system.
        particles: N, where the kind has no other.
        dim: D, where the kind has no other.
        light_bodies: whether some of its bodies carry little of the energy, so that `auto` gates
            each.
        own_units: whether its lengths, times and masses are given by what it is, with G = 1.
    """

    drawn: bool
    particles: int | None = None
    dim: int | None = None
    own_units: bool = False
    light_bodies: bool = False


SYSTEMS: dict[InitialConditions, SystemKind] = {
    "kepler": SystemKind(drawn=False, particles=2),
    "kepler_ensemble": SystemKind(drawn=True, particles=2),
    "random": SystemKind(drawn=True),
    "figure_eight": SystemKind(drawn=False, particles=3, own_units=True),
    "pythagorean": SystemKind(drawn=False, particles=3, own_units=True),
    "lagrange_triangle": SystemKind(drawn=False, particles=3),
    "random_bound": SystemKind(drawn=True),
    "hierarchical_triple": SystemKind(drawn=True, particles=3),
    "figure_eight_family": SystemKind(drawn=True, particles=3, own_units=True),
    "plummer": SystemKind(drawn=True, dim=3, own_units=True),
    "binary_single": SystemKind(drawn=True, particles=3),
    "planetary_system": SystemKind(drawn=True, light_bodies=True),
    "kozai_triple": SystemKind(drawn=True, particles=3, dim=3, light_bodies=True),
    "resonant_chain": SystemKind(drawn=True, particles=8, light_bodies=True),
    "file": SystemKind(drawn=False),
    "inline": SystemKind(drawn=False),
}
