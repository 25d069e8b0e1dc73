"""Initial-condition files: rows `m x.. v..` as text, npy, npz, HDF5 or REBOUND's archive. Sizes are
checked before reading.

A numpy file's header can ask for far more memory than the file has bytes, and an npz can unpack to
a thousand times its size: both are refused from their headers alone.
"""

import tokenize
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbody.config.particle_arrays import rows_of_archive, rows_of_arrays, rows_of_hdf5
from nbody.config.particle_text import rows_of_text
from nbody.errors import InvalidInitialConditions

TEXT = (".txt", ".csv", ".tsv", ".dat")
HDF5 = (".h5", ".hdf5")
ARCHIVES = (".bin", ".sa")
MAX_PARTICLES = 16384
MAX_BYTES = MAX_PARTICLES * 7 * 32  # of a table: room for 32 characters a number
MAX_SERIES_BYTES = 2**28  # of a file that may hold many states
MOST_SHRUNK = 10  # times, that numbers of a simulation are packed
# What numpy and h5py raise over files that are cut short, have a broken header, or are others.
DAMAGED = (
    *(ValueError, EOFError, SyntaxError, tokenize.TokenError, IndexError, TypeError),
    *(KeyError, RuntimeError, zipfile.BadZipFile),
)


def read_particles(path: str | Path) -> list[list[float]]:
    """Rows [m, x.., v..] of a file; of a file of many states, those of the last one.

    Raises:
        InvalidInitialConditions: no such file, too large, not numbers, or of another shape.
    """
    path = Path(path)
    series = path.suffix in (".npz", *HDF5, *ARCHIVES)
    most = MAX_SERIES_BYTES if series else MAX_BYTES
    try:
        size = path.stat().st_size
        if not 0 < size <= most:
            raise InvalidInitialConditions(f"{path.name} has {size} bytes, not 1 to {most}")
        rows = np.array(_read(path), dtype=np.float64)
    except OSError as error:
        reason = error.strerror or "it is damaged, or of another kind than its name says"
        raise InvalidInitialConditions(f"cannot read {path.name}: {reason}") from None
    except DAMAGED:
        # Never what the reader says: it quotes the file, which may be somebody else's.
        raise InvalidInitialConditions(f"{path.name} is not a table of numbers") from None
    if rows.ndim != 2 or rows.shape[1] not in {5, 7} or not 2 <= rows.shape[0] <= MAX_PARTICLES:
        raise InvalidInitialConditions(
            f"{path.name} has shape {rows.shape}; use 2 to {MAX_PARTICLES} rows of m x y vx vy or "
            "m x y z vx vy vz"
        )
    for what, bad in (
        ("a number that is not finite", ~np.isfinite(rows).all(1)),
        ("a negative mass", rows[:, 0] < 0),
    ):
        if bad.any():
            raise InvalidInitialConditions(f"{path.name}, particle {bad.argmax()}: {what}")
    return rows.tolist()


def _read(path: Path) -> Any:
    if path.suffix in HDF5:
        return rows_of_hdf5(path)
    if path.suffix in ARCHIVES:
        return rows_of_archive(path)
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            most = max(MAX_BYTES, min(MAX_SERIES_BYTES, MOST_SHRUNK * path.stat().st_size))
            if sum(member.file_size for member in archive.infolist()) > most:
                raise InvalidInitialConditions(f"{path.name} unpacks to over {most} bytes")
        with np.load(path, allow_pickle=False) as arrays:
            alone = arrays[arrays.files[0]] if len(arrays.files) == 1 else None
            return _real(alone) if alone is not None else rows_of_arrays(arrays, path.name)
    if path.suffix == ".npy":
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)  # refuses a header that lies
        return _real(mapped)
    return rows_of_text(path.read_text(encoding="utf-8-sig"), path.name)


def _real(array: NDArray[np.generic]) -> NDArray[np.float64]:
    if array.dtype.kind not in "fiu":
        raise ValueError(f"it holds {array.dtype}, not real numbers")
    return np.array(array, dtype=np.float64)
