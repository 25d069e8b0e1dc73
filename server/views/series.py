"""Series of epochs' metrics, as the API answers them."""

import difflib
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, select

from nbody.metrics import METRIC_NAMES
from server.database.tables import ALIASES, COLUMN_OF, METRIC_COLUMNS, epochs
from server.errors import FieldProblem, InvalidRequest
from server.queue.ownership import find_job
from server.wire.history import Comparison, MetricsPage


def metrics_page(
    connection: Connection, job_id: str, *, after: int | None, keys: list[str] | None, limit: int
) -> MetricsPage:
    """Epochs after `after`, in order, one row each. `epoch` is always among the keys.

    Raises:
        InvalidRequest: there is no metric of that name.
    """
    query = _metric_rows(job_id, keys).limit(limit + 1)
    if after is not None:
        query = query.where(epochs.c.epoch > after)
    rows = _read_named(connection, query)
    return MetricsPage.model_construct(
        job_id=job_id,
        data=rows[:limit],
        has_more=len(rows) > limit,
        last_epoch=rows[:limit][-1]["epoch"] if rows else None,
    )


def thinned_metrics(
    connection: Connection,
    job_id: str,
    *,
    keys: list[str],
    max_points: int,
    after: int | None = None,
    until: int | None = None,
) -> MetricsPage:
    """A series in at most `max_points` epochs: of each stretch of epochs those where a metric is
    least and greatest, so that no peak is lost.

    Args:
        after, until: the epochs that are asked for; the whole series where they are None.

    Raises:
        InvalidRequest: there is no metric of that name.
    """
    of_job = and_(epochs.c.job_id == job_id, *_between(after, until))
    query = _metric_rows(job_id, keys).where(*_between(after, until))
    ends = select(func.min(epochs.c.epoch), func.max(epochs.c.epoch)).where(of_job)
    first, last = connection.execute(ends).one()
    if last is not None and last - first >= max_points:
        stretches = max(1, max_points // (2 * len(keys)))
        stretch = ((epochs.c.epoch - first) * stretches).op("/")(last - first + 1)
        # SQLite takes the other columns from the row that has the minimum or the maximum.
        extremes = [
            select(epochs.c.epoch, extreme(epochs.c[COLUMN_OF[key]]))
            .where(of_job)
            .group_by(stretch)
            for key in keys
            for extreme in (func.min, func.max)
        ]
        kept = {row.epoch for part in extremes for row in connection.execute(part)}
        query = query.where(epochs.c.epoch.in_(sorted(kept)))
    return MetricsPage.model_construct(
        job_id=job_id, data=_read_named(connection, query), has_more=False, last_epoch=last
    )


def _between(after: int | None, until: int | None) -> list[ColumnElement[bool]]:
    ends = [] if after is None else [epochs.c.epoch > after]
    return ends if until is None else [*ends, epochs.c.epoch <= until]


def _metric_rows(job_id: str, keys: list[str] | None) -> Select[Any]:
    for key in keys or ():
        if key not in METRIC_NAMES:
            close = difflib.get_close_matches(key, METRIC_NAMES, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"use {', '.join(METRIC_NAMES)}"
            raise InvalidRequest(FieldProblem("/query/keys", f"no such metric; {hint}"))
    names = [n for n in METRIC_COLUMNS if not keys or n == "epoch" or ALIASES[n] in keys]
    columns = (epochs.c[name].label(ALIASES[name]) for name in names)
    return select(*columns).where(epochs.c.job_id == job_id).order_by(epochs.c.epoch)


def _read_named(connection: Connection, query: Select[Any]) -> list[dict[str, Any]]:
    found = connection.execute(query)
    names = tuple(found.keys())
    assert found.cursor is not None
    rows = found.cursor.fetchall()  # of numbers, which need no conversion
    return [dict(zip(names, row)) for row in rows]  # noqa: B905 - as many as columns


def comparison(
    connection: Connection, ids: list[str], keys: list[str], *, owner_id: str | None, limit: int
) -> Comparison:
    """The last epochs of several jobs.

    Raises:
        NotFound: one of the jobs is not there.
    """
    series: dict[str, list[dict[str, float | int | None]]] = {}
    for job_id in ids:
        done = find_job(connection, job_id, owner_id).epochs_done
        rows = metrics_page(connection, job_id, after=done - limit - 1, keys=keys, limit=limit)
        series[job_id] = rows.data
    return Comparison(keys=keys, data=series)
