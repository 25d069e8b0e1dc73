"""Particles in files of named arrays: npz, HDF5 snapshots, REBOUND's archives."""

import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from nbody.errors import InvalidInitialConditions

Rows = NDArray[np.float64]
MASSES = ("mass", "masses", "m")
POSITIONS = ("end_position", "position", "positions", "pos", "x", "coordinates")
VELOCITIES = ("end_velocity", "velocity", "velocities", "vel", "v")
PLANE, SPACE = ("x", "y", "vx", "vy"), ("x", "y", "z", "vx", "vy", "vz")
PARTICLE_TYPES = 6  # of a GADGET snapshot
MOST_NUMBERS = 2**25  # that are read of one array
MOST_NESTED = 2  # groups of an HDF5 file, of which anything is read


class Table(NamedTuple):
    """Rows [m, x.., v..] (N, 1 + 2D), and G in their units where the file says it."""

    rows: Rows
    newton: float | None = None


def rows_of_arrays(arrays: Mapping[str, Any], name: str) -> Rows:
    """Rows of named arrays: masses (N,), positions and velocities (N, D); or a column each.

    Of a simulation's own file the state is taken with which it ended; of another series of states,
    positions (K, N, D), the last one.

    Raises:
        InvalidInitialConditions: an array is missing, or does not fit the others.
    """
    known = {key.lower(): key for key in arrays}
    if "x" in known and "vx" in known:
        return _columns(arrays, known, name)
    found = [
        next((known[key] for key in names if key in known), None)
        for names in (MASSES, POSITIONS, VELOCITIES)
    ]
    if None in found:
        has = ", ".join(sorted(arrays)[:12]) or "none"
        raise InvalidInitialConditions(
            f"{name} has the arrays {has}; expected mass, position and velocity, or m, x, y, vx, "
            "vy, or one table"
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


def _columns(arrays: Mapping[str, Any], known: Mapping[str, str], name: str) -> Rows:
    """Rows of an array for each column."""
    wanted = PLANE if "z" not in known and "vz" not in known else SPACE
    mass = next((known[key] for key in MASSES if key in known), None)
    keys = [mass, *(known.get(column) for column in wanted)]
    missing = [c for c, key in zip(("m", *wanted), keys, strict=True) if key is None]
    if missing:
        raise InvalidInitialConditions(f"{name} has no {', '.join(missing)}")
    series = [_real(arrays[cast(str, key)]) for key in keys]
    if any(values.shape != series[0].shape or values.ndim != 1 for values in series):
        shapes = ", ".join(f"{key} {v.shape}" for key, v in zip(keys, series, strict=True))
        raise InvalidInitialConditions(f"{name}: the columns are not of one length: {shapes}")
    return np.stack(series, axis=1)


def table_of_npz(arrays: Mapping[str, Any], name: str) -> Table:
    """The table of an npz file with names, or of its only array.

    Raises:
        InvalidInitialConditions
    """
    if len(arrays) == 1:
        return Table(_real(next(iter(arrays.values()))))
    return Table(rows_of_arrays(arrays, name), _newton(arrays.get("G"), name))


def table_of_hdf5(path: Path) -> Table:
    """The table of a GADGET snapshot, all particle types together, or of named datasets.

    Raises:
        InvalidInitialConditions
        ModuleNotFoundError: h5py is not installed.
    """
    h5py = _module("h5py", "hdf5")
    with h5py.File(path, "r") as file:
        _refuse_what_is_elsewhere(h5py, file, path.name)
        kinds = [f"PartType{k}" for k in range(PARTICLE_TYPES) if len(file.get(f"PartType{k}", ()))]
        if kinds:
            return Table(np.concatenate([_of_type(file, kind, path.name) for kind in kinds]))
        datasets = {key: item for key, item in file.items() if hasattr(item, "shape")}
        arrays = {key: _dataset(item) for key, item in datasets.items()}
        return Table(rows_of_arrays(arrays, path.name), _newton(file.attrs.get("G"), path.name))


def _refuse_what_is_elsewhere(h5py: Any, group: Any, name: str, depth: int = 0) -> None:
    """A file may name others of this machine, whoever it is from: nothing of those is read.

    Raises:
        InvalidInitialConditions
    """
    for key in group:
        is_here = isinstance(group.get(key, getlink=True), h5py.HardLink)
        item: Any = group[key] if is_here else None
        if isinstance(item, h5py.Dataset):
            is_here = not (item.external or item.is_virtual)
        if not is_here:
            raise InvalidInitialConditions(f"{name}: {key} is in another file, or a link; copy it")
        if isinstance(item, h5py.Group) and depth < MOST_NESTED:
            _refuse_what_is_elsewhere(h5py, item, name, depth + 1)


def _of_type(file: Any, kind: str, name: str) -> Rows:
    group = file[kind]
    if missing := [key for key in ("Coordinates", "Velocities") if key not in group]:
        raise InvalidInitialConditions(f"{name}, {kind}: no {' and no '.join(missing)}")
    header: Any = file["Header"].attrs if "Header" in file else {}
    if "Masses" not in group and "MassTable" not in header:
        raise InvalidInitialConditions(f"{name}, {kind}: no Masses, and the header no MassTable")
    position, velocity = (_dataset(group[key]) for key in ("Coordinates", "Velocities"))
    if "Masses" in group:
        mass = _dataset(group["Masses"])
    else:
        table = cast(Sequence[float], header["MassTable"])
        mass = np.full(len(position), float(table[int(kind[-1])]))
    arrays = {"mass": mass, "position": position, "velocity": velocity}
    return rows_of_arrays(arrays, f"{name}, {kind}")


def table_of_archive(path: Path) -> Table:
    """The table of the last snapshot of a REBOUND SimulationArchive, in its units.

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
    particles = cast(Sequence[Any], sim.particles)
    rows = [[p.m, p.x, p.y, p.z, p.vx, p.vy, p.vz] for p in particles]
    return Table(np.array(rows), float(sim.G))


def _newton(given: Any, name: str) -> float | None:
    """G that a file says its units have, where it does."""
    if given is None:
        return None
    values = np.asarray(given).ravel()
    if values.dtype.kind in "fiu" and len(values) == 1 and 0 < float(values[0]) < np.inf:
        return float(values[0])
    raise InvalidInitialConditions(f"{name}: its G is not one number above zero")


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
