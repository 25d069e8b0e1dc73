"""Particles in files of named arrays: npz, HDF5 snapshots, REBOUND's archives."""

import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nbody.errors import InvalidInitialConditions

Rows = NDArray[np.float64]
MASSES = ("mass", "masses", "m")
POSITIONS = ("position", "positions", "pos", "x", "coordinates")
VELOCITIES = ("velocity", "velocities", "vel", "v")
AXES = "xyz"
PARTICLE_TYPES = 6  # of a GADGET snapshot
MOST_NUMBERS = 2**25  # that are read of one array


def rows_of_arrays(arrays: Mapping[str, Any], name: str) -> Rows:
    """Rows of named arrays: masses (N,), positions and velocities (N, D); or a column each.

    Of a series of states, positions (K, N, D), the last one is taken, as of a simulation's own
    `simulation.npz`.

    Raises:
        InvalidInitialConditions: an array is missing, or does not fit the others.
    """
    known = {key.lower(): key for key in arrays}
    columns = [known.get(axis) for axis in ("m", "x", "y", "z", "vx", "vy", "vz")]
    if known.get("vx") and known.get("x"):
        series = [_real(arrays[key]) for key in columns if key is not None]
        return np.stack(series, axis=1)
    found = [
        next((known[key] for key in names if key in known), None)
        for names in (MASSES, POSITIONS, VELOCITIES)
    ]
    if None in found:
        raise InvalidInitialConditions(
            f"{name} has the arrays {', '.join(sorted(arrays)[:12])}; expected mass, position and "
            "velocity, or m, x, y, vx, vy, or one table"
        )
    mass, position, velocity = (_real(arrays[cast(str, key)]) for key in found)
    if position.ndim == 3 and position.shape == velocity.shape:
        position, velocity = position[-1], velocity[-1]
    if position.ndim != 2 or position.shape != velocity.shape or mass.shape != position.shape[:1]:
        raise InvalidInitialConditions(
            f"{name}: mass {mass.shape}, position {position.shape} and velocity {velocity.shape} "
            "are not (N,), (N, D) and (N, D) of one system"
        )
    return np.column_stack((mass, position, velocity))


def rows_of_hdf5(path: Path) -> Rows:
    """Rows of a GADGET snapshot, all particle types together, or of named datasets.

    Raises:
        InvalidInitialConditions
        ModuleNotFoundError: h5py is not installed.
    """
    h5py = _module("h5py", "hdf5")
    with h5py.File(path, "r") as file:
        kinds = [f"PartType{k}" for k in range(PARTICLE_TYPES) if f"PartType{k}" in file]
        if kinds:
            return np.concatenate([_of_type(file, kind, path.name) for kind in kinds])
        datasets = {key: item for key, item in file.items() if hasattr(item, "shape")}
        return rows_of_arrays({key: _dataset(item) for key, item in datasets.items()}, path.name)


def _of_type(file: Any, kind: str, name: str) -> Rows:
    group = file[kind]
    position, velocity = (_dataset(group[key]) for key in ("Coordinates", "Velocities"))
    if "Masses" in group:
        mass = _dataset(group["Masses"])
    else:
        table = cast(Sequence[float], file["Header"].attrs["MassTable"])
        mass = np.full(len(position), float(table[int(kind[-1])]))
    arrays = {"mass": mass, "position": position, "velocity": velocity}
    return rows_of_arrays(arrays, f"{name}, {kind}")


def rows_of_archive(path: Path) -> Rows:
    """Rows of the last snapshot of a REBOUND SimulationArchive, in its units.

    Raises:
        ModuleNotFoundError: REBOUND is not installed.
    """
    rebound = _module("rebound", "rebound")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it reads what it can of a broken file
        try:
            sim: Any = rebound.Simulationarchive(str(path))[-1]
        except Warning as warning:
            raise ValueError("a broken archive") from warning
    return np.array(
        [[p.m, p.x, p.y, p.z, p.vx, p.vy, p.vz] for p in cast(Sequence[Any], sim.particles)]
    )


def _dataset(dataset: Any) -> Rows:
    if int(np.prod(dataset.shape)) > MOST_NUMBERS:
        raise InvalidInitialConditions(f"an array has over {MOST_NUMBERS} numbers")
    return _real(dataset[()])


def _real(array: Any) -> Rows:
    values = np.asarray(array)
    if values.dtype.kind not in "fiu":
        raise ValueError(f"it holds {values.dtype}, not real numbers")
    return np.array(values, dtype=np.float64)


def _module(name: str, extra: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise InvalidInitialConditions(
            f"such a file needs {name}: pip install 'orrery[{extra}]'"
        ) from error
