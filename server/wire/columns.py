"""What a list of jobs can show beside their states, be sorted by and be filtered by.

`status`, `config/lr`, `metadata/paper`, `result/efficiency`, `part2/efficiency:max`: a field of the
job, a field of its config, a label, a figure of its result, a metric over its epochs.
"""

import difflib
import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field

from nbody.config import Config
from nbody.metrics import BEST_AT_MOST, METRIC_NAMES

Source = Literal["job", "config", "metadata", "result", "metric"]
Over = Literal["last", "min", "max"]
Operator = Literal["<=", ">=", "!=", "<", ">", "="]
Operand = float | str | None

LONGEST = 300  # characters of a condition
MOST = 1e300  # of a number; also keeps what is not finite away
JOB_FIELDS = (
    *("id", "name", "kind", "status", "phase", "stop_reason", "priority", "attempt"),
    *("owner", "epochs_done", "epochs_total", "parent", "retry_of"),
    *("created_at", "started_at", "finished_at", "runtime_s"),
)
INSTANTS = frozenset({"created_at", "started_at", "finished_at"})
NUMBERS = frozenset({"priority", "attempt", "epochs_done", "epochs_total", "runtime_s"})
METRICS = tuple(name for name in METRIC_NAMES if name != "epoch")
OVERS = ("last", "best", "min", "max")
LABEL = re.compile(r"[A-Za-z0-9._:-]{1,64}")
FIGURE = re.compile(r"[A-Za-z0-9_.-]{1,64}(/[A-Za-z0-9_.-]{1,64}){0,3}")
CONDITION = re.compile(r"(?P<column>[^<>=!]+?)\s*(?P<operator><=|>=|!=|<|>|=)\s*(?P<operand>.*)")


class JobColumn(NamedTuple):
    """One column of a list of jobs.

    Attributes:
        name: of the field, label, figure or metric.
        over: of a metric, which of its epochs' values.
    """

    source: Source
    name: str
    over: Over = "last"

    @classmethod
    def parse(cls, text: str) -> "JobColumn":
        """From how users write it.

        Raises:
            ValueError: there is no such column.
        """
        source, _, rest = text.partition("/")
        if text in JOB_FIELDS:
            return cls("job", text)
        if source == "config":
            return cls("config", _one_of(rest, tuple(Config.model_fields), "field of Config"))
        if source == "metadata" and LABEL.fullmatch(rest):
            return cls("metadata", rest)
        if source == "result" and FIGURE.fullmatch(rest):
            return cls("result", rest)
        name, separator, over = text.rpartition(":")
        if not separator:
            name, over = text, "last"
        if over not in OVERS:
            raise ValueError(f"of a metric use {', '.join(f':{each}' for each in OVERS)}")
        if name not in METRICS:
            raise ValueError(_no_column(text))
        if over == "best":
            over = "max" if name in BEST_AT_MOST else "min"
        return cls("metric", name, over)  # pyright: ignore[reportArgumentType] - looked at above


class Order(NamedTuple):
    """What jobs are sorted by."""

    column: JobColumn
    descending: bool

    @classmethod
    def parse(cls, text: str) -> "Order":
        """`COLUMN`, the least first, or `-COLUMN`.

        Raises:
            ValueError: there is no such column.
        """
        return cls(JobColumn.parse(text.removeprefix("-")), text.startswith("-"))


class Condition(NamedTuple):
    """What is true of the jobs that are meant: a column's value beside another.

    A text with `*` in it is a pattern; None is that there is no value.
    """

    column: JobColumn
    operator: Operator
    operand: Operand

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """From `COLUMN OPERATOR VALUE`.

        Raises:
            ValueError: it is none, or there is no such column, or nothing can be compared so.
        """
        found = CONDITION.fullmatch(text.strip())
        if found is None:
            raise ValueError("use COLUMN OPERATOR VALUE, as in part2/efficiency:max>0.9")
        column = JobColumn.parse(found["column"])
        return cls(column, found["operator"], _operand(column, found["operand"]))  # pyright: ignore[reportArgumentType] - one of the pattern's


def _operand(column: JobColumn, text: str) -> Operand:
    if text == "null":
        return None
    if column.source == "job" and column.name in INSTANTS:
        return _seconds(text)
    is_number = column.source == "metric" or column.name in NUMBERS
    if column.source == "metadata" or (column.source == "job" and not is_number):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if isinstance(value, list | dict):
        return json.dumps(value, separators=(",", ":"))
    if isinstance(value, int | float) and abs(value) < MOST:
        return float(value)
    if is_number or not isinstance(value, str):
        raise ValueError(f"{column.name} is compared with a number, or with null")
    return value


def _seconds(text: str) -> float:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise ValueError("use a date and time with a time zone, as in 2026-03-01T12:00Z")
    return instant.timestamp()


def _one_of(name: str, names: tuple[str, ...], what: str) -> str:
    if name in names:
        return name
    close = difflib.get_close_matches(name, names, n=1)
    raise ValueError(f"no such {what}" + (f"; did you mean {close[0]!r}?" if close else ""))


def _no_column(text: str) -> str:
    close = difflib.get_close_matches(text, (*JOB_FIELDS, *METRICS), n=1)
    if close:
        return f"no such column; did you mean {close[0]!r}?"
    return (
        f"no such column; use {', '.join(JOB_FIELDS)}, config/FIELD, metadata/KEY, result/FIGURE,"
        " or a metric, with :last, :best, :min or :max"
    )


def _checked(parse: Callable[[str], object]) -> AfterValidator:
    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


ColumnText = Annotated[str, Field(max_length=LONGEST), _checked(JobColumn.parse)]
OrderText = Annotated[str, Field(max_length=LONGEST), _checked(Order.parse)]
ConditionText = Annotated[str, Field(max_length=LONGEST), _checked(Condition.parse)]
