"""Jobs in groups of equal values, as over seeds."""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from server.queue.selection.columns import read, shown
from server.queue.selection.conditions import conditions
from server.queue.selection.order import WITH_SUMMARIES
from server.views.pages import page
from server.wire.columns import JobColumn
from server.wire.job_lists import JobFilter, JobGroup, Statistics
from server.wire.messages import Page

MOST_GROUPS = 1000


def groups(
    connection: Connection,
    *,
    wanted: JobFilter,
    owner_id: str | None,
    by: Mapping[str, JobColumn],
    columns: Mapping[str, JobColumn],
) -> Page[JobGroup]:
    """The largest groups first."""
    every = [*by.values(), *columns.values()]
    query = select(*(shown(column).label(f"value_{n}") for n, column in enumerate(every)))
    query = query.select_from(WITH_SUMMARIES).where(*conditions(wanted, owner_id))
    members: dict[tuple[Any, ...], list[Sequence[Any]]] = defaultdict(list)
    for row in connection.execute(query):
        members[tuple(row[: len(by)])].append(row[len(by) :])
    found = [
        JobGroup(
            id=json.dumps(group := _group(by, key)),
            group=group,
            jobs=len(rows),
            values={
                name: _statistics([read(column, row[n]) for row in rows])
                for n, (name, column) in enumerate(columns.items())
            },
        )
        for key, rows in members.items()
    ]
    found.sort(key=lambda group: -group.jobs)
    return page(found, MOST_GROUPS)


def _group(by: Mapping[str, JobColumn], key: Sequence[Any]) -> dict[str, Any]:
    return {
        name: read(column, value) for (name, column), value in zip(by.items(), key, strict=True)
    }


def _statistics(values: list[Any]) -> Statistics:
    numbers = [value for value in values if isinstance(value, int | float)]
    if not numbers:
        return Statistics(count=0)
    mean = min(max(numbers), max(min(numbers), math.fsum(numbers) / len(numbers)))
    squares = math.fsum((number - mean) ** 2 for number in numbers)
    return Statistics(
        count=len(numbers),
        mean=mean,
        std=math.sqrt(squares / (len(numbers) - 1)) if len(numbers) > 1 else None,
        min=min(numbers),
        median=statistics.median(numbers),
        max=max(numbers),
    )
