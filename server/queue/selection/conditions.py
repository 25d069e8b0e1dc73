"""The jobs that a filter means, as conditions of a query."""

from sqlalchemy import ColumnElement, func, or_

from server.database.tables import jobs
from server.queue.ownership import is_visible
from server.queue.selection.columns import condition
from server.queue.selection.patterns import matches
from server.wire.columns import Condition
from server.wire.job_lists import JobFilter


def conditions(wanted: JobFilter, owner_id: str | None) -> list[ColumnElement[bool]]:
    """What is true of the jobs that somebody wants and may see."""
    found = [is_visible(owner_id, jobs.c.owner_id)]
    if wanted.status:
        found.append(jobs.c.status.in_(wanted.status))
    if wanted.kind:
        found.append(jobs.c.kind.in_(wanted.kind))
    if wanted.name is not None:
        found.append(matches(jobs.c.name, wanted.name))
    if wanted.id is not None:
        bare = wanted.id.removeprefix("job_")
        found.append(or_(jobs.c.id.op("GLOB")(f"job_{bare}*"), jobs.c.id.op("GLOB")(f"*{bare}")))
    for key, text in wanted.metadata.items():
        found.append(func.json_extract(jobs.c.labels, f'$."{key}"') == text)
    if wanted.created_after is not None:
        found.append(jobs.c.created_at > wanted.created_after.timestamp())
    if wanted.created_before is not None:
        found.append(jobs.c.created_at < wanted.created_before.timestamp())
    found += [condition(Condition.parse(each)) for each in wanted.filter]
    return found
