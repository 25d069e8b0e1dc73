"""Columns of lists of jobs, as expressions of a query over `jobs` and `summaries`."""

import json
import operator as operators
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Float,
    and_,
    cast,
    func,
    not_,
    or_,
    select,
)

from server.database.tables import COLUMN_OF, jobs, summaries, tokens
from server.queue.selection.patterns import matches
from server.wire.columns import INSTANTS, Condition, JobColumn

OWNER = select(tokens.c.name).where(tokens.c.id == jobs.c.owner_id).scalar_subquery()
NOW = (func.julianday("now") - 2440587.5) * 86400  # seconds since 1970
FIELDS: dict[str, ColumnElement[Any]] = {
    "priority": -jobs.c.queue_rank,
    "owner": func.coalesce(OWNER, jobs.c.owner_id),
    "runtime_s": func.coalesce(jobs.c.finished_at, NOW) - jobs.c.started_at,
}
COMPARED: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "<": operators.lt,
    "<=": operators.le,
    ">": operators.gt,
    ">=": operators.ge,
    "=": operators.eq,
}
DOCUMENTS = {"config": jobs.c.config, "metadata": jobs.c.labels, "result": jobs.c.result}


def expression(column: JobColumn) -> ColumnElement[Any]:
    """A column's value, to compare and to sort by: a number, a text or null."""
    if column.source == "job":
        found = FIELDS.get(column.name)
        return jobs.c[column.name] if found is None else found
    if column.source == "metric":
        return summaries.c[f"{column.over}_{COLUMN_OF[column.name]}"]
    return func.json_extract(DOCUMENTS[column.source], _path(column))


def shown(column: JobColumn) -> ColumnElement[Any]:
    """A column's value as `read` takes it."""
    if column.source in DOCUMENTS:
        # Twice: only several values come as JSON, in which a truth is no number.
        return func.json_extract(DOCUMENTS[column.source], *[_path(column)] * 2)
    return expression(column)


def read(column: JobColumn, value: Any) -> Any:
    """What `shown` gave, as the API answers it."""
    if value is None:
        return None
    if column.source in DOCUMENTS:
        return json.loads(value)[0]
    if column.source == "job" and column.name in INSTANTS:
        return datetime.fromtimestamp(value, tz=UTC).isoformat()
    return value


def condition(wanted: Condition) -> ColumnElement[bool]:
    """Whether a column's value is as it is wanted."""
    value: ColumnElement[Any] = expression(wanted.column)
    operand, operator = wanted.operand, wanted.operator
    if operand is None:
        return value.is_not(None) if operator == "!=" else value.is_(None)
    if isinstance(operand, str) and operator in {"=", "!="}:
        found = matches(value, operand)
        return found if operator == "=" else or_(not_(found), value.is_(None))
    if operator == "!=":
        return or_(value != operand, value.is_(None))
    if wanted.column.source == "metadata" and (number := _number(operand)) is not None:
        # Labels are texts; those that are numbers are compared as such.
        is_number = value.op("GLOB", is_comparison=True)("[-+.0-9]*")
        return and_(is_number, COMPARED[operator](cast(value, Float), number))
    return COMPARED[operator](value, operand)


def _number(text: float | str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _path(column: JobColumn) -> str:
    """Where a value is in its JSON document."""
    parts = column.name.split("/") if column.source == "result" else [column.name]
    return "$" + "".join(f'."{part}"' for part in parts)
