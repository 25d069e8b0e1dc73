"""Initial-condition files: rows `m x.. v..` as npy, npz, txt or csv. Sizes are checked before
reading.

A numpy file's header can ask for far more memory than the file has bytes, and an npz can unpack to
a thousand times its size: both are refused from their headers alone.
"""

import re
import tokenize
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nbody.errors import InvalidInitialConditions

PLACE = re.compile(r"at row (\d+), column (\d+)")
MAX_PARTICLES = 16384
MAX_BYTES = MAX_PARTICLES * 7 * 32  # room for 32 characters a number
# What numpy raises over files that are cut short, have a broken header, or hold something else.
DAMAGED = (ValueError, EOFError, SyntaxError, tokenize.TokenError, IndexError, TypeError)


def read_particles(path: str | Path) -> list[list[float]]:
    """Rows [m, x.., v..] of a file.

    Raises:
        InvalidInitialConditions: no such file, too large, not numbers, or of another shape.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if not 0 < size <= MAX_BYTES:
            raise InvalidInitialConditions(f"{path.name} has {size} bytes, not 1 to {MAX_BYTES}")
        rows = _read(path)
    except OSError as error:
        raise InvalidInitialConditions(f"cannot read {path.name}: {error.strerror}") from error
    except (*DAMAGED, zipfile.BadZipFile) as error:
        place = PLACE.search(str(error))
        where = f" (row {int(place[1]) + 1}, column {place[2]})" if place else ""
        # Never what the reader says: it quotes the file, which may be somebody else's.
        raise InvalidInitialConditions(f"{path.name} is not a table of numbers{where}") from None
    if rows.ndim != 2 or rows.shape[1] not in {5, 7} or not 2 <= rows.shape[0] <= MAX_PARTICLES:
        raise InvalidInitialConditions(
            f"{path.name} has shape {rows.shape}; use 2 to {MAX_PARTICLES} rows of m x y vx vy or "
            "m x y z vx vy vz"
        )
    if not np.isfinite(rows).all() or not (rows[:, 0] >= 0).all():
        raise InvalidInitialConditions(
            f"{path.name} has a negative mass or a number that is not finite"
        )
    return rows.tolist()


def _read(path: Path) -> NDArray[np.float64]:
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
                raise InvalidInitialConditions(f"{path.name} unpacks to over {MAX_BYTES} bytes")
        with np.load(path, allow_pickle=False) as arrays:
            return _real(arrays[arrays.files[0]])
    if path.suffix == ".npy":
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)  # refuses a header that lies
        return _real(mapped)
    delimiter = "," if path.suffix == ".csv" else None
    return np.loadtxt(path, delimiter=delimiter, dtype=np.float64, ndmin=2, encoding="utf-8")


def _real(array: NDArray[np.generic]) -> NDArray[np.float64]:
    if array.dtype.kind not in "fiu":
        raise ValueError(f"it holds {array.dtype}, not real numbers")
    return np.array(array, dtype=np.float64)
