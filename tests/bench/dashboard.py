"""The dashboard's speed: `python tests/bench/dashboard.py [--out FILE] [--only NAME …]`.

10,000 jobs with 100 epochs each. A real Chromium shows the list while jobs change; two hundred
tabs' streams are open while workers report. Needs playwright and Chromium (`CHROMIUM` names it).
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
from bench_service import (
    HOST,
    SETTINGS,
    Lease,
    Server,
    add_epochs,
    add_jobs,
    claim_jobs,
    connect,
    filling,
    request,
    serving,
)
from playwright.sync_api import Page, sync_playwright
from sqlalchemy import update

from server.database.tables import jobs

Row = dict[str, Any]

JOBS, EPOCHS = 10_000, 100
RUNNING = 20  # jobs that change, each once a second
TABS = 200
LIVE_S = 60.0
PAINTS = 7
HOUR, JOBS_A_SECOND = 3600, 10  # of messages that a page takes at once
SETTLED_S = 5.0  # until the tabs are open
PAUSE_S = 0.01  # between the polls of which p99 is told
BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium")
WATCH = """
window.longest = 0;
new PerformanceObserver((list) => {
  for (const task of list.getEntries()) window.longest = Math.max(window.longest, task.duration);
}).observe({ entryTypes: ["longtask"] });
"""
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
LISTED = "#app tbody tr:nth-child(20)"


@contextmanager
def full_server() -> Iterator[tuple[Server, list[Lease]]]:
    """A server with many jobs, a few of which run."""
    with tempfile.TemporaryDirectory() as folder:
        with filling(Path(folder)) as connection:
            add_jobs(connection, RUNNING, epochs=1_000_000)
            leases = claim_jobs(connection, RUNNING)
            ids = add_jobs(connection, JOBS, epochs=EPOCHS)
            add_epochs(connection, ids, EPOCHS)
            over = {"status": "succeeded", "started_at": time.time(), "finished_at": time.time()}
            connection.execute(update(jobs).where(jobs.c.status == "queued").values(**over))
        with serving(Path(folder)) as server:
            yield server, leases


@contextmanager
def reporting(server: Server, leases: list[Lease]) -> Iterator[None]:
    """Every running job reports an epoch a second."""
    over = threading.Event()

    async def report() -> None:
        connection = await connect(server.port)
        while not over.is_set():
            started = time.monotonic()
            for lease in leases:
                await connection.must(lease.report(server.worker, 1), 200)
            await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - started)))
        connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(report()))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def browser_page(server: Server) -> Iterator[Page]:
    """A page of an admin who signed in."""
    with sync_playwright() as playwright:
        arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--js-flags=--expose-gc"]
        browser = playwright.chromium.launch(executable_path=BROWSER, args=arguments)
        page = browser.new_context(base_url=server.url).new_page()
        page.add_init_script(WATCH)
        page.goto(f"/#token={server.admin}")
        page.locator(LISTED).wait_for()
        yield page
        browser.close()


def first_paint(server: Server, leases: list[Lease]) -> Row:
    """From the address to the first content, and to the list."""
    paints: list[float] = []
    lists: list[float] = []
    with browser_page(server) as page:
        for _ in range(PAINTS):
            page.goto("about:blank")
            started = time.perf_counter()
            page.goto("/")
            page.locator(LISTED).wait_for()
            lists.append(1e3 * (time.perf_counter() - started))
            paints.append(page.evaluate(PAINT))
    del leases
    return {"first_paint_ms": median(paints), "list_ms": median(lists), "jobs": JOBS}


def live(server: Server, leases: list[Lease]) -> Row:
    """The longest task while twenty jobs change each second."""
    with browser_page(server) as page, reporting(server, leases):
        page.wait_for_timeout(2000)
        page.evaluate("window.longest = 0")
        page.wait_for_timeout(1000 * LIVE_S)
        longest = page.evaluate("window.longest")
    return {"longest_task_ms": longest, "seconds": LIVE_S, "changes_per_s": RUNNING}


def memory(server: Server, leases: list[Lease]) -> Row:
    """The page's heap after one, five and fifteen hours' worth of messages, given at once."""
    del leases
    with browser_page(server) as page:
        listed = httpx.get(
            f"{server.url}/v1/jobs?limit={JOBS_A_SECOND}",
            headers={"Authorization": f"Bearer {server.admin}"},
        ).json()["data"]
        told = f"event: jobs\ndata: {json.dumps({'data': listed, 'gone': [], 'all': False})}\n\n"
        hours: list[int] = []

        def answer(route: Any) -> None:
            hours.append(1)
            route.fulfill(content_type="text/event-stream", body=told * HOUR)

        page.route("**/v1/stream*", answer)
        page.goto("about:blank")
        page.goto("/")
        page.locator(LISTED).wait_for()
        session = page.context.new_cdp_session(page)

        def heap_mb() -> float:
            session.send("HeapProfiler.collectGarbage")
            return session.send("Runtime.getHeapUsage")["usedSize"] / 1e6

        heaps: list[float] = []
        for count in (2, 6, 16):
            while len(hours) < count:
                page.wait_for_timeout(200)
            heaps.append(heap_mb())
        longest = page.evaluate("window.longest")
    after = {f"after_{n}_hours_mb": heap for n, heap in zip((1, 5, 15), heaps, strict=True)}
    return {**after, "longest_task_ms": longest}


def tabs(server: Server, leases: list[Lease]) -> Row:
    """What two hundred open tabs take of the server's processor, and what a poller feels of it."""
    with reporting(server, leases):
        alone = asyncio.run(_watched(server, leases))
        open_tabs = get_context("spawn").Process(target=hold_tabs, args=(server.port, server.admin))
        open_tabs.start()
        time.sleep(SETTLED_S)
        beside = asyncio.run(_watched(server, leases))
        open_tabs.terminate()
        open_tabs.join()
    return {
        "tabs": TABS,
        "share_of_a_core_alone": alone["share"],
        "share_of_a_core": beside["share"],
        "poll_p99_alone_ms": alone["p99_ms"],
        "poll_p99_ms": beside["p99_ms"],
        "p99_ratio": beside["p99_ms"] / alone["p99_ms"],
    }


def hold_tabs(port: int, token: str) -> None:
    """Two hundred streams, in a process of their own: their reading must not delay the polls."""
    asyncio.run(_hold_tabs(port, token))


async def _hold_tabs(port: int, token: str) -> None:
    columns = "columns=part2/efficiency:best&columns=part2/final_pass_rate"
    path = f"/v1/stream?topics=jobs&topics=queue&{columns}"
    streams = [await asyncio.open_connection(HOST, port) for _ in range(TABS)]
    for _, writer in streams:
        writer.write(request("GET", path, token))
    await asyncio.gather(*(_drain(reader) for reader, _ in streams))


async def _watched(server: Server, leases: list[Lease]) -> Row:
    connection = await connect(server.port)
    poll = request("GET", f"/v1/jobs/{leases[0].job_id}", server.admin)
    taken: list[float] = []
    started, cpu = time.monotonic(), _cpu_s(server.pid)
    while time.monotonic() - started < LIVE_S / 2:
        sent = time.perf_counter()
        await connection.must(poll, 200)
        taken.append(time.perf_counter() - sent)
        await asyncio.sleep(PAUSE_S)
    share = (_cpu_s(server.pid) - cpu) / (time.monotonic() - started)
    connection.close()
    return {"share": share, "p99_ms": 1e3 * quantiles(taken, n=100)[98]}


async def _drain(reader: asyncio.StreamReader) -> None:
    while await reader.read(2**16):
        pass


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


BENCHMARKS: dict[str, Callable[[Server, list[Lease]], Row]] = {
    function.__name__: function for function in (first_paint, live, memory, tabs)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON file to write the figures to")
    parser.add_argument("--only", nargs="*", choices=BENCHMARKS, default=list(BENCHMARKS))
    options = parser.parse_args()
    os.environ |= SETTINGS  # of the server that this starts
    found: Row = {"machine": platform.platform(), "cores": os.cpu_count(), "results": {}}
    with full_server() as (server, leases):
        for name in options.only:
            found["results"][name] = BENCHMARKS[name](server, leases)
            print(name, json.dumps(found["results"][name]), flush=True)
    if options.out is not None:
        options.out.write_text(f"{json.dumps(found, indent=2)}\n")


if __name__ == "__main__":
    main()
