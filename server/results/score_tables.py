"""Numbers that jobs found: all of them by name, and scores as tables for a paper."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from server.results.run import Json

LATEX = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "~": r"\~{}",
    "^": r"\^{}",
}


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


def score_tables(jobs: Sequence[Json]) -> dict[str, bytes]:
    """Tables as CSV and as LaTeX (booktabs), by their file's name: scores, a row for each rule of
    each job, and simulations, a row each."""
    tables = {
        "scores": [row for job in jobs for row in _score_rows(job)],
        "simulations": [_simulation_row(job) for job in jobs if job["kind"] == "simulate"],
    }
    found: dict[str, bytes] = {}
    for name, rows in tables.items():
        columns = list(dict.fromkeys(column for row in rows for column in row))
        if rows:
            found[f"tables/{name}.csv"] = csv_of(columns, rows)
            found[f"tables/{name}.tex"] = _as_latex(columns, rows)
    return found


def _as_latex(columns: Sequence[str], rows: Sequence[Json]) -> bytes:
    head = " & ".join(map(_latex, columns))
    lines = [" & ".join(_latex(row.get(column, "")) for column in columns) for row in rows]
    spec = "ll" + "r" * max(0, len(columns) - 2)
    body = " \\\\\n".join(lines)
    return (
        f"\\begin{{tabular}}{{{spec}}}\n\\toprule\n{head} \\\\\n\\midrule\n{body} \\\\\n"
        "\\bottomrule\n\\end{tabular}\n"
    ).encode()


def _score_rows(job: Json) -> Iterator[Json]:
    result: Json = job["result"] or {}
    if job["kind"] == "simulate":
        return
    scores: Json = result.get("scores") or {
        name: values for name, values in result.items() if isinstance(values, dict)
    }
    for rule, values in scores.items():
        yield {"job": job["name"] or job["id"], "rule": rule, **values}


def _simulation_row(job: Json) -> Json:
    result: Json = job["result"] or {}
    figures = {name: value for name, value in result.items() if isinstance(value, int | float)}
    return {"job": job["name"] or job["id"], "rule": job["config"]["integrator_mode"], **figures}


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
    signs = {
        "\\": r"\textbackslash{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "~": r"\~{}",
        "^": r"\^{}",
    }
    signs |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
    return "".join(signs.get(sign, sign) for sign in str(value))
