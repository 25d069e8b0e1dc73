"""`orrery top`: what runs and what waits, as it changes, over any terminal."""

import time
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from server.cli.connection import connected, console
from server.cli.tables import Json, duration, number, status_text

if TYPE_CHECKING:
    from server.client import Client

ACTIVE = ["running", "pausing", "cancelling"]
COLUMNS = ["part2/efficiency", "part2/final_pass_rate"]
BAR = 20  # characters
MOST = 50  # jobs of each kind


app = typer.Typer()


@app.command()
@connected
def top(
    client: "Client",
    interval: Annotated[
        float, typer.Option(min=0.2, metavar="SECONDS", help="Between two looks.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, and leave.")] = False,
) -> None:
    """Follow what runs, what waits and who works; Ctrl-C leaves."""
    if once or not console.is_terminal:
        console.print(_screen(client))
        return
    live = Live(_screen(client), console=console, screen=True, auto_refresh=False)
    with suppress(KeyboardInterrupt), client.over_restarts(), live:
        while True:
            live.refresh()
            time.sleep(interval)
            live.update(_screen(client))


def _screen(client: "Client") -> RenderableType:
    running = client.jobs(status=ACTIVE, columns=COLUMNS, limit=MOST)
    waiting = client.queue(limit=MOST)
    ended = client.jobs(
        status=["succeeded", "failed", "cancelled"], sort="-finished_at", columns=COLUMNS, limit=10
    )
    workers = client.workers()["data"]
    there = [worker for worker in workers if not worker["refusal"]]
    slots = sum(worker["slots"] for worker in there)
    busy = sum(len(worker["jobs"]) for worker in there)
    now = datetime.now().astimezone()
    head = f"{now:%H:%M:%S}  {busy} of {slots} slots busy, {len(there)} workers"
    parts: list[RenderableType] = [Text(head, "bold"), _running(running["data"])]
    if waiting["data"]:
        more = " and more" if waiting["has_more"] else ""
        parts += [Text(f"\n{len(waiting['data'])}{more} wait", "bold"), _waiting(waiting["data"])]
    if ended["data"]:
        parts += [Text("\nended last", "bold"), _ended(ended["data"])]
    return Group(*parts)


def _job() -> Column:
    return Column("job", max_width=40, no_wrap=True)


def _running(jobs: list[Json]) -> RenderableType:
    if not jobs:
        return Text("nothing runs")
    table = Table(_job(), "owner", "status", "phase", "", "epochs", "ran", "η", "pass", box=None)
    for job in jobs:
        done, total = job["progress"]["epochs_done"], job["progress"]["epochs_total"]
        table.add_row(
            job["name"] or job["id"],
            job["owner"],
            status_text(job["status"]),
            job["phase"] or "",
            ProgressBar(total or 1, done, width=BAR),
            f"{done}/{total}" if total else job["kind"],
            duration(_ran(job)),
            *_figures(job),
        )
    return table


def _waiting(jobs: list[Json]) -> Table:
    table = Table(_job(), "priority", Column("waits for", overflow="fold"), box=None)
    for job in jobs:
        why = job["waits_for"] or "its turn"
        table.add_row(job["name"] or job["id"], str(job["priority"]), why)
    return table


def _ended(jobs: list[Json]) -> Table:
    table = Table(_job(), "owner", "status", "why", "ran", "η", "pass", box=None)
    for job in jobs:
        table.add_row(
            job["name"] or job["id"],
            job["owner"],
            status_text(job["status"]),
            job["stop_reason"] or "",
            duration(_ran(job)),
            *_figures(job),
        )
    return table


def _figures(job: Json) -> list[str]:
    efficiency, pass_rate = (job["values"][column] for column in COLUMNS)
    return [number(efficiency, ".3f"), number(pass_rate, ".1%")]


def _ran(job: Json) -> float | None:
    if job["started_at"] is None:
        return None
    end = job["finished_at"]
    until = datetime.now().astimezone() if end is None else datetime.fromisoformat(end)
    return (until - datetime.fromisoformat(job["started_at"])).total_seconds()
