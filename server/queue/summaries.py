"""The last, least and largest value of each of a job's metrics, kept beside its epochs."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from server.database.engines import driver_of
from server.database.tables import METRIC_COLUMNS

EPOCH = METRIC_COLUMNS.index("epoch")
NAMES = tuple(name for name in METRIC_COLUMNS if name != "epoch")
COLUMNS = tuple(f"{over}_{name}" for name in NAMES for over in ("last", "min", "max"))


def _merged(column: str) -> str:
    over, _, name = column.partition("_")
    if over == "last":
        return f"CASE WHEN excluded.epoch >= epoch THEN excluded.{column} ELSE {column} END"
    other = f"{over}_{name}"  # SQLite's min and max of several are null where one is
    return f"{over}(coalesce({other}, excluded.{other}), coalesce(excluded.{other}, {other}))"


INSERT = f"INSERT INTO summaries (job_id, epoch, {', '.join(COLUMNS)})"
ADD = (
    f"{INSERT} VALUES (?, ?, {', '.join('?' * len(COLUMNS))}) ON CONFLICT (job_id) DO UPDATE SET "
    + ", ".join(f"{column} = {_merged(column)}" for column in COLUMNS)
    + ", epoch = max(epoch, excluded.epoch)"
)
_EXTREMES = ", ".join(f"min({name}) AS min_{name}, max({name}) AS max_{name}" for name in NAMES)
_CHOSEN = ", ".join(f"l.{name}, e.min_{name}, e.max_{name}" for name in NAMES)
REMAKE = f"""
{INSERT} SELECT l.job_id, l.epoch, {_CHOSEN}
FROM (SELECT job_id, max(epoch) AS epoch, {_EXTREMES} FROM epochs WHERE job_id = ?) AS e
JOIN epochs AS l ON l.job_id = e.job_id AND l.epoch = e.epoch
"""


def add(connection: Connection, job_id: str, rows: Mapping[int, Sequence[Any]]) -> None:
    """Note epochs that are new.

    Args:
        rows: by epoch, the values of METRIC_COLUMNS.
    """
    last = max(rows)
    values: list[Any] = []
    for place, column in enumerate(zip(*rows.values(), strict=True)):
        if place == EPOCH:
            continue
        known = [value for value in column if value is not None] if None in column else column
        values.append(rows[last][place])
        values += (min(known), max(known)) if known else (None, None)
    driver_of(connection).execute(ADD, (job_id, last, *values))


def remake(connection: Connection, job_id: str) -> None:
    """From the epochs that are left of a job, once some are gone."""
    driver = driver_of(connection)
    driver.execute("DELETE FROM summaries WHERE job_id = ?", (job_id,))
    driver.execute(REMAKE, (job_id,))
