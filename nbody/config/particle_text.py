"""Tables of particles as people and programs write them as text.

Columns are separated by commas, semicolons, tabs or spaces; a `#` begins a comment; exponents may
be Fortran's (`1.0D+00`). A first line of names, which may be a comment, says which column is which;
without one the columns
are m x y vx vy, or m x y z vx vy vz.
"""

import re

from nbody.errors import InvalidInitialConditions

NAMES = {
    **dict.fromkeys(("m", "mass", "masses"), "m"),
    **{name: name for name in ("x", "y", "z", "vx", "vy", "vz")},
    **{f"pos_{axis}": axis for axis in "xyz"},
    **{f"vel_{axis}": f"v{axis}" for axis in "xyz"},
    **{f"v_{axis}": f"v{axis}" for axis in "xyz"},
    **{f"position_{axis}": axis for axis in "xyz"},
    **{f"velocity_{axis}": f"v{axis}" for axis in "xyz"},
}
PLANE, SPACE = ["m", "x", "y", "vx", "vy"], ["m", "x", "y", "z", "vx", "vy", "vz"]
SEPARATORS = re.compile(r"[,;\t]")
FORTRAN = re.compile(r"(?<=[\d.])[dD](?=[+-]?\d)")


def rows_of_text(text: str, name: str) -> list[list[float]]:
    """Rows [m, x.., v..] of a table.

    Raises:
        InvalidInitialConditions: a line is none, and which; never with what stands in it, for it
            may be of a file that is somebody else's.
    """
    columns: list[int] | None = None  # of the file, in our order
    rows: list[list[float]] = []
    width = 0
    for number, line in enumerate(text.splitlines(), start=1):
        words = _words(line)
        if not words and not rows and columns is None and _names_all(noted := _words(line[1:])):
            columns, width = _columns(noted, f"{name}, line {number}"), len(noted)
        if not words:
            continue
        if not rows and columns is None and not _is_number(words[0]):
            columns = _columns(words, f"{name}, line {number}")
            width = len(words)
            continue
        width = width or len(words)
        where = f"{name}, line {number}"
        if len(words) != width:
            raise InvalidInitialConditions(f"{where}: {len(words)} columns, not {width} as before")
        chosen = range(width) if columns is None else columns
        rows.append([_number(words[k], f"{where}, column {k + 1}") for k in chosen])
    return rows


def _words(line: str) -> list[str]:
    line = line.partition("#")[0].strip()
    if not line:
        return []
    if SEPARATORS.search(line):
        return [word.strip() for word in SEPARATORS.split(line)]
    return line.split()


def _names_all(words: list[str]) -> bool:
    """Whether a comment is a line of names: none but those of columns, and one for each."""
    return len(words) >= len(PLANE) and all(_name_of(word) is not None for word in words)


def _is_number(word: str) -> bool:
    try:
        float(FORTRAN.sub("e", word))
    except ValueError:
        return False
    return True


def _number(word: str, where: str) -> float:
    try:
        return float(FORTRAN.sub("e", word))
    except ValueError:
        raise InvalidInitialConditions(f"{where}: expected a number") from None


def _name_of(word: str) -> str | None:
    """Our name of a column; units in brackets do not matter."""
    return NAMES.get(re.sub(r"\s*[\[(].*", "", word).strip("\"' ").lower())


def _columns(words: list[str], where: str) -> list[int]:
    """Which column of the file each of ours is."""
    known = [_name_of(word) for word in words]
    if twice := {name for name in known if name is not None and known.count(name) > 1}:
        raise InvalidInitialConditions(f"{where}: more than one column {', '.join(sorted(twice))}")
    place = {name: k for k, name in enumerate(known) if name is not None}
    wanted = SPACE if "z" in place or "vz" in place else PLANE
    missing = [name for name in wanted if name not in place]
    if missing:
        raise InvalidInitialConditions(
            f"{where}: neither numbers nor the names of columns; of {' '.join(wanted)} it has no "
            f"{' '.join(missing)}"
        )
    return [place[name] for name in wanted]
