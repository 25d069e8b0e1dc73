"""Texts in which `*` stands for any characters, as SQLite's GLOB."""

from typing import Any

from sqlalchemy import ColumnElement

SPECIAL = str.maketrans({"[": "[[]", "?": "[?]"})  # to GLOB, but for `*`


def matches(value: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
    """Whether a text is the pattern's, or the very pattern where no `*` is in it."""
    if "*" not in pattern:
        return value == pattern
    return value.op("GLOB", is_comparison=True)(pattern.translate(SPECIAL))
