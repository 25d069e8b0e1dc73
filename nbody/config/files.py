"""Config files and `key=value` on a command line, before anything of them is checked."""

import json
import tomllib
from pathlib import Path
from typing import Any, cast

from nbody.config import original_format


def read_config_file(path: str | Path) -> dict[str, Any]:
    """The fields in a config file, before validation; the original's files are translated."""
    path = Path(path)
    toml = path.suffix == ".toml"
    text = path.read_text(encoding="utf-8")
    try:
        data: Any = tomllib.loads(text) if toml else json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path}: a config is a table of fields")
    if original_format.is_original(data) or (toml and original_format.means_basic(data)):
        return original_format.translate(data, folder=path.parent)
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
