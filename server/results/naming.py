"""From what people call a job to its id."""

import re
from typing import TYPE_CHECKING, Any

from server.results.errors import NoSuchJob

if TYPE_CHECKING:
    from server.client import Client

WHOLE = re.compile(r"job_[0-9a-z]{26}")
PART = re.compile(r"[0-9a-z_]{1,30}")
SHOWN = 3  # of several that are meant


def job_id_of(client: "Client", called: str) -> str:
    """The id of the job of that id, of that name, or whose id alone begins or ends so.

    Raises:
        NoSuchJob: no job is called so, or several are.
    """
    if WHOLE.fullmatch(called):
        return called
    asked: list[dict[str, Any]] = [{"name": called}]
    if PART.fullmatch(called):
        asked.append({"id": called})
    for query in asked:
        found = client.jobs(limit=SHOWN + 1, **query)["data"]
        if len(found) == 1:
            return found[0]["id"]
        if found:
            some = ", ".join(f"{job['id']} ({job['status']})" for job in found[:SHOWN])
            more = ", …" if len(found) > SHOWN else ""
            raise NoSuchJob(f"{called!r} is several jobs: {some}{more}; use an id")
    raise NoSuchJob(f"no job has the name or the id {called!r}; `orrery jobs` lists them")
