"""Jobs in a notebook.

from server.results.notebook import connect

orrery = connect()                     # where and as whom the command line would
orrery.jobs(label=["paper=draft"])     # a pandas frame
run = orrery["first try"]              # by name or id; shows itself
run.frame(), run.plot(), run.states()
"""

import os
from collections.abc import Sequence
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from server.client import ApiProblem, Client, ClientError
from server.own_token import FoundToken, find_token, refusal
from server.results.drawing import draw_panels, panels_of
from server.results.errors import NoAccess, NothingToShow, PackageMissing
from server.results.naming import job_id_of
from server.results.run import Run

DEFAULT_URL = "http://127.0.0.1:8080"


def connect(
    url: str | None = None, token: str | None = None, data: str | Path | None = None
) -> "Orrery":
    """A server's jobs.

    Raises:
        NoAccess: it does not take the token, or there is none.
        ServerUnreachable

    Args:
        url: its address; default: $ORRERY_URL, else http://127.0.0.1:8080.
        token: default: $ORRERY_TOKEN, else that of the server whose data folder this is.
        data: that folder; default: $ORRERY_DATA, else `data`.
    """
    url = url or os.environ.get("ORRERY_URL", DEFAULT_URL)
    folder = Path(data or os.environ.get("ORRERY_DATA", "data"))
    found = FoundToken(token, "the argument") if token else find_token(folder)
    client = Client(url, found.secret)
    try:
        client.jobs(limit=1)
    except ClientError as error:
        client.close()
        if isinstance(error, ApiProblem) and error.status == 401:
            raise NoAccess(refusal(url, found)) from None
        raise
    return Orrery(client)


class Orrery:
    """A server's jobs, as objects."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def __repr__(self) -> str:
        return f"<Orrery at {self.client.url}>"

    def __getitem__(self, called: str) -> "Notebook":
        """The job of that name or id; the begin or end of an id is enough.

        Raises:
            NoSuchJob: none is called so, or several are.
        """
        return Notebook(self.client, job_id_of(self.client, str(called)))

    def jobs(self, limit: int = 100, **filters: Any) -> Any:
        """A pandas frame of jobs, newest first, a row each.

        Args:
            limit: most jobs, up to 1000.
            filters: as of `GET /v1/jobs`: name, status, kind, filter, metadata, sort, columns.
        """
        rows = self.client.jobs(limit=limit, **filters)["data"]
        flat = [{k: v for k, v in row.items() if k != "values"} | row["values"] for row in rows]
        for row in flat:
            row |= {f"metadata/{key}": text for key, text in row.pop("metadata").items()}
            progress = row.pop("progress")
            row |= {name: progress[name] for name in ("epochs_done", "epochs_total")}
        return _pandas().DataFrame(flat)

    def plot(self, *called: str, keys: Sequence[str] | None = None) -> Any:
        """Several jobs in one matplotlib figure."""
        return draw_panels(panels_of([self[each] for each in called], keys))


class Notebook(Run):
    """A job that a notebook shows."""

    def frame(self) -> Any:
        """Its metrics as a pandas frame, a row an epoch."""
        if self.kind != "train":
            raise NothingToShow(f"{self.title} has no epochs: it is of kind {self.kind}")
        frame = _pandas().DataFrame(self.epochs)
        return frame.set_index("epoch") if len(frame) else frame

    def plot(self, keys: Sequence[str] | str | None = None) -> Any:
        """A matplotlib figure: its curves and scores, or its orbit; or these metrics.

        Raises:
            NothingToShow
        """
        return draw_panels(panels_of([self], [keys] if isinstance(keys, str) else keys))

    def __repr__(self) -> str:
        job = self.job
        done, total = (job["progress"][name] for name in ("epochs_done", "epochs_total"))
        progress = f", {done} of {total} epochs" if total else ""
        return f"<{job['kind']} {self.title!r}: {job['status']}{progress}>"

    def _repr_html_(self) -> str:
        """A card: what it is, how far, and what it found."""
        job = self.job
        facts: dict[str, Any] = {"id": job["id"], "kind": job["kind"], "status": job["status"]}
        if job["progress"]["epochs_total"]:
            facts["epochs"] = "{epochs_done} of {epochs_total}".format(**job["progress"])
        facts |= {"owner": job["owner"], "seed": self.seed, **job["metadata"]}
        if job["failure"]:
            facts["failure"] = job["failure"]["detail"]
        facts |= _figures(job["result"] or job["latest_metrics"] or {})
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(str(name))}</th>"
            f"<td style='text-align:left'>{escape(_short(value))}</td></tr>"
            for name, value in facts.items()
            if value is not None
        )
        return f"<b>{escape(self.title)}</b><table>{rows}</table>"


def _figures(found: dict[str, Any]) -> dict[str, float]:
    """The numbers of a result, scores of rules with their names."""
    numbers: dict[str, float] = {}
    for name, value in found.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            numbers[name] = value
        elif name in {"stepper", "free_fall"} and isinstance(value, dict):
            scores = cast(dict[str, float], value)
            numbers |= {f"{name}, {score}": figure for score, figure in scores.items()}
    return numbers


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _pandas() -> Any:
    try:
        return import_module("pandas")
    except ModuleNotFoundError:
        raise PackageMissing("pandas", "notebook", "a frame") from None
