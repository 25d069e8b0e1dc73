"""Initial-condition files: rows `m x.. v..` as text, npy, npz, HDF5 or REBOUND's archive. Sizes are
checked before reading.

A numpy file's header can ask for far more memory than the file has bytes, and an npz can unpack to
a thousand times its size: both are refused from their headers alone. `python -m
nbody.config.particle_file FILE` reads one that somebody sent in a process of its own, and prints
what is in it as JSON.
"""

import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from nbody.config import told_apart
from nbody.config.particle_arrays import Table, table_of_archive, table_of_hdf5, table_of_npz
from nbody.config.particle_text import rows_of_text
from nbody.errors import InvalidInitialConditions

TEXT = (".txt", ".csv", ".tsv", ".dat")
HDF5 = (".h5", ".hdf5")
ARCHIVES = (".bin", ".sa")
MAX_PARTICLES = 16384
MAX_BYTES = MAX_PARTICLES * 7 * 32  # of a table: room for 32 characters a number
MAX_SERIES_BYTES = 2**28  # of a file that may hold many states
MOST_SHRUNK = 10  # times, that numbers of a simulation are packed
SAME_NEWTON = 1e-4  # relative: handbooks differ in the fifth digit of G
# What numpy and h5py raise over files that are cut short, have a broken header, or are others.
DAMAGED = (
    *(ValueError, EOFError, SyntaxError, tokenize.TokenError, IndexError, TypeError),
    *(KeyError, RuntimeError, zipfile.BadZipFile, zlib.error),
)


def read_particles(path: str | Path, newton: float | None = None) -> list[list[float]]:
    """Rows [m, x.., v..] of a file; of a file of many states, those of the last one.

    Args:
        newton: G that the rows are to be understood with; a file may say that it has another.

    Raises:
        InvalidInitialConditions: no such file, too large, not numbers, of another shape, or in
            units with another G.
    """
    path = Path(path)
    series = path.suffix in (".npz", *HDF5, *ARCHIVES)
    most = MAX_SERIES_BYTES if series else MAX_BYTES
    try:
        size = path.stat().st_size
        if not 0 < size <= most:
            raise InvalidInitialConditions(f"{path.name} has {size} bytes, not 1 to {most}")
        table = _read(path)
        rows = np.array(table.rows, dtype=np.float64)
    except OSError as error:
        reason = error.strerror or "it is damaged, or of another kind than its name says"
        raise InvalidInitialConditions(f"cannot read {path.name}: {reason}") from None
    except UnicodeDecodeError:
        raise InvalidInitialConditions(f"{path.name} is no text in UTF-8: save it so") from None
    except DAMAGED:
        # Never what the reader says: it quotes the file, which may be somebody else's.
        raise InvalidInitialConditions(f"{path.name} is not a table of numbers") from None
    if rows.ndim != 2 or rows.shape[1] not in {5, 7} or not 2 <= rows.shape[0] <= MAX_PARTICLES:
        raise InvalidInitialConditions(
            f"{path.name} has shape {rows.shape}; use 2 to {MAX_PARTICLES} rows of m x y vx vy or "
            "m x y z vx vy vz"
        )
    said = table.newton
    if newton is not None and said is not None and abs(said / newton - 1) > SAME_NEWTON:
        raise InvalidInitialConditions(
            f"{path.name} is in units in which G is {said!r}, not {newton!r}: give that as G"
        )
    for what, bad in (
        ("a number that is not finite", ~np.isfinite(rows).all(1)),
        ("a negative mass", rows[:, 0] < 0),
    ):
        if bad.any():
            raise InvalidInitialConditions(f"{path.name}, particle {bad.argmax()}: {what}")
    return rows.tolist()


def _read(path: Path) -> Table:
    if path.suffix in HDF5:
        return table_of_hdf5(path)
    if path.suffix in ARCHIVES:
        return table_of_archive(path)
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            most = max(MAX_BYTES, min(MAX_SERIES_BYTES, MOST_SHRUNK * path.stat().st_size))
            if sum(member.file_size for member in archive.infolist()) > most:
                raise InvalidInitialConditions(f"{path.name} unpacks to over {most} bytes")
        with np.load(path, allow_pickle=False) as arrays:
            return table_of_npz(arrays, path.name)
    if path.suffix == ".npy":
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)  # refuses a header that lies
        return table_of_npz({path.name: mapped}, path.name)
    return Table(np.array(rows_of_text(path.read_text(encoding="utf-8-sig"), path.name)))


def _told(path: Path) -> dict[str, Any]:
    rows = read_particles(path)
    return {"num_particles": len(rows), "dim": (len(rows[0]) - 1) // 2}


if __name__ == "__main__":
    told_apart.main(_told)
