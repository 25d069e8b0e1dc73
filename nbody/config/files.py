"""Config files and `key=value` on a command line, before anything of them is checked."""

import json
import sys
import tomllib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from nbody.config import original_format

STDIN = Path("-")  # for a file: the program's input, as JSON


def read_config_file(
    path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    half: original_format.Half = "train",
) -> dict[str, Any]:
    """The fields in a config file, before validation; the original's files are translated.

    Args:
        overrides: fields that replace those of the file, before any file that it names is opened.
        half: which section of an original's file counts.

    Raises:
        ValueError: the file is not JSON or TOML.
        InvalidInitialConditions: an original's file names initial conditions that cannot be read.
        OSError: the file cannot be read.
    """
    path = Path(path)
    fields, changes = read_table(path), dict(overrides or {})
    toml = path.suffix == ".toml"
    if original_format.is_original(fields) or (toml and original_format.means_basic(fields)):
        if isinstance(changes.get("ic_path"), str):  # given on a command line: from where it stands
            changes["ic_path"] = str(Path(changes["ic_path"]).absolute())
        chosen = original_format.of_half(fields, half) | changes
        return original_format.translate(chosen, folder=path.parent)
    return fields | changes


def read_table(path: Path) -> dict[str, Any]:
    """What stands in a config file, ours or the original's, as it stands there.

    Raises:
        ValueError: the file is not JSON or TOML, or no table.
        OSError: the file cannot be read.
    """
    if path == STDIN:
        text, is_toml = sys.stdin.read(), False
        path = Path("the input")
    else:
        text, is_toml = path.read_text(encoding="utf-8-sig"), path.suffix == ".toml"
    try:
        data: Any = tomllib.loads(text) if is_toml else json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path}: a config is a table of fields")
    return cast(dict[str, Any], data)


def parse_override(assignment: str) -> tuple[str, Any]:
    """`key=value` with a JSON value; what is not JSON is taken as text.

    >>> parse_override("lr=1e-3"), parse_override("loss=band")
    (('lr', 0.001), ('loss', 'band'))
    """
    key, separator, value = assignment.partition("=")
    if not separator or not key:
        raise ValueError(f"{assignment!r}: use key=value")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def say_warnings_plainly() -> None:
    """Warnings of this process say what they say, and not in which line of which file."""

    def plain(message: Warning | str, *_: object, **__: object) -> str:
        return f"warning: {message}\n"

    warnings.formatwarning = plain
