"""Lists as CSV, for spreadsheets and data frames."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal

from fastapi import Query, Response

from server.web.routes.parameters import write_json
from server.wire.job_lists import JobGroup, ListedJob
from server.wire.messages import Page

Form = Annotated[
    Literal["json", "csv"], Query(alias="format", description="csv: a table, a line each.")
]
OR_CSV: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}}}}
}
STATED = ("id", "name", "kind", "status", "owner", "priority", "attempt")
INSTANTS = ("created_at", "started_at", "finished_at")
STATISTICS = ("count", "mean", "std", "min", "median", "max")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would compute what begins so

Lines = Iterable[Sequence[Any]]


def answer(found: Page[Any], form: str, lines: Callable[[Page[Any]], Lines]) -> Response:
    """A list as it was asked for."""
    if form == "json":
        return write_json(found)
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(map(_cell, line) for line in lines(found))
    headers = {"X-Has-More": str(found.has_more).lower()}
    return Response(table.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def job_lines(found: Page[ListedJob]) -> Lines:
    """Jobs, a line each, the names of their columns first."""
    names = list(found.data[0].values) if found.data else []
    yield [*STATED, "epochs_done", "epochs_total", *INSTANTS, *names]
    for job in found.data:
        yield [
            *(getattr(job, name) for name in STATED),
            *(job.progress.epochs_done, job.progress.epochs_total),
            *(at and at.isoformat() for at in (getattr(job, name) for name in INSTANTS)),
            *job.values.values(),
        ]


def group_lines(found: Page[JobGroup]) -> Lines:
    """Groups, a line each, the names of their columns first."""
    if not found.data:
        return
    first = found.data[0]
    yield [*first.group, "jobs", *(f"{name} {of}" for name in first.values for of in STATISTICS)]
    for group in found.data:
        figures = (getattr(each, of) for each in group.values.values() for of in STATISTICS)
        yield [*group.group.values(), group.jobs, *figures]


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value
