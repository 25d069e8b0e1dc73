"""Numbers that jobs found: all of them by name, and scores as tables for a paper."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from server.results.run import Json


def numbers_of(job: Json) -> dict[str, float]:
    """Every number that a job found, by its place in the result and in its last epoch.

    Times are left out: they are the machine's.
    """
    found = {f"result/{place}": value for place, value in _leaves(job["result"])}
    found |= {f"last epoch/{place}": value for place, value in _leaves(job["last_epoch"])}
    return {place: value for place, value in found.items() if not place.endswith("epoch_time")}


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, item in cast(Json, value).items():
            yield from _leaves(item, f"{place}/{key}".strip("/"))
    elif isinstance(value, list):
        for number, item in enumerate(cast(list[Any], value)):
            yield from _leaves(item, f"{place}/{number}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield place, value


def score_tables(jobs: Sequence[Json]) -> tuple[bytes, bytes]:
    """The scores of all jobs as CSV and as LaTeX (booktabs): a row for each rule of each."""
    rows = [row for job in jobs for row in _score_rows(job)]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    head = " & ".join(map(_latex, columns))
    lines = [" & ".join(_latex(row.get(column, "")) for column in columns) for row in rows]
    spec = "ll" + "r" * max(0, len(columns) - 2)
    body = " \\\\\n".join(lines)
    latex = (
        f"\\begin{{tabular}}{{{spec}}}\n\\toprule\n{head} \\\\\n\\midrule\n{body} \\\\\n"
        "\\bottomrule\n\\end{tabular}\n"
    )
    return csv_of(columns, rows), latex.encode()


def _score_rows(job: Json) -> Iterator[Json]:
    result: Json = job["result"] or {}
    scores: Json = result.get("scores") or {
        name: values for name, values in result.items() if isinstance(values, dict)
    }
    named = {"job": job["name"] or job["id"]}
    for rule, values in scores.items():
        yield {**named, "rule": rule, **values}
    if not scores:
        figures = {key: value for key, value in result.items() if isinstance(value, int | float)}
        yield {**named, "rule": job["config"]["integrator_mode"], **figures}


def csv_of(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A table as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _latex(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return re.sub(r"([&%$#_{}])", r"\\\1", str(value).replace("\\", r"\textbackslash "))
