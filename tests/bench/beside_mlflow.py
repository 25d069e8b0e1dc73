"""The dashboard beside MLflow's, in turns: `python tests/bench/beside_mlflow.py --mlflow PYTHON`.

PYTHON is one that has MLflow, in an environment of its own (`pip install mlflow`). Both have the
same runs, with as many values of one metric each. Told are the first paint, the time until runs are
listed, bytes of the page as it is, of a browser that has seen nothing, and how long it takes to log
a run. Medians; needs playwright and Chromium.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import dashboard
import httpx
from bench_service import HOST, free_port
from playwright.sync_api import Browser, sync_playwright

ROUNDS = 5
START_S, LONG_S = 120.0, 3600
BYTES = "performance.getEntriesByType('resource').reduce((sum, e) => sum + e.decodedBodySize, 0)"
FILL = """
import sys, time
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient
client = MlflowClient(sys.argv[1])
experiment = client.create_experiment("kepler")
began = time.monotonic()
for number in range(int(sys.argv[2])):
    run = client.create_run(experiment, run_name=f"run {number}").info.run_id
    values = [Metric("efficiency", 0.5 + k / 1000, 0, k) for k in range(int(sys.argv[3]))]
    client.log_batch(run, metrics=values, params=[Param("lr", "0.001"), Param("width", "64")])
    client.set_terminated(run)
print((time.monotonic() - began) / int(sys.argv[2]))
"""


@contextmanager
def mlflow_server(python: str, folder: Path, runs: int, epochs: int) -> Iterator[tuple[str, float]]:
    """MLflow with its runs: the address of their list, and seconds that a run took to log."""
    store = f"sqlite:///{folder}/mlflow.db"
    fill = [python, "-c", FILL, store, str(runs), str(epochs)]
    filled = subprocess.run(fill, check=True, capture_output=True, text=True, timeout=LONG_S)
    port = free_port(HOST)
    command = [python, "-m", "mlflow", "server", "--backend-store-uri", store, "--workers", "1"]
    command += ["--host", HOST, "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        url = f"http://{HOST}:{port}"
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                httpx.get(f"{url}/health", trust_env=False)
                break
            except httpx.TransportError:
                time.sleep(0.2)
        yield f"{url}/#/experiments/1/runs", float(filled.stdout.split()[-1])
        server.terminate()


def look(browser: Browser, address: str, listed: str, sign_in: str | None) -> tuple[Any, ...]:
    """First paint [ms], time until the list is there [ms], bytes; by a browser that knows nothing
    but its cookies."""
    context = browser.new_context()
    page = context.new_page()
    if sign_in is not None:
        context.request.post(sign_in, data={"token": address.partition("#token=")[2]})
        address = address.partition("#")[0]
    started = time.perf_counter()
    page.goto(address)
    page.locator(listed).first.wait_for(timeout=60_000)
    seconds = time.perf_counter() - started
    found = page.evaluate(dashboard.PAINT), 1e3 * seconds, page.evaluate(BYTES)
    context.close()
    return found


def main() -> None:
    """Both, in turns; prints a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mlflow", required=True, metavar="PYTHON")
    parser.add_argument("--runs", type=int, default=1000)
    options = parser.parse_args()
    dashboard.JOBS = options.runs
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        theirs = mlflow_server(options.mlflow, Path(folder), options.runs, dashboard.EPOCHS)
        with dashboard.full_server() as (server, _), theirs as (url, logged_s):
            arguments = ["--headless", "--no-sandbox", "--disable-gpu"]
            browser = playwright.chromium.launch(executable_path=dashboard.BROWSER, args=arguments)
            own = f"{server.url}/#token={server.admin}"
            sides = {
                "orrery": (own, dashboard.LISTED, f"{server.url}/v1/session"),
                "mlflow": (url, f"text=run {options.runs - 1}", None),
            }
            seen: dict[str, list[tuple[Any, ...]]] = {name: [] for name in sides}
            for _ in range(ROUNDS):
                for name, side in sides.items():
                    seen[name].append(look(browser, *side))
            browser.close()
    for name, found in seen.items():
        paint, listed, size = (median(values) for values in zip(*found, strict=True))
        row = {"first_paint_ms": paint, "list_ms": listed, "bytes": size, "runs": options.runs}
        print(json.dumps({"side": name, **row}))
    print(json.dumps({"side": "mlflow", "log_a_run_ms": 1e3 * logged_s}))


if __name__ == "__main__":
    main()
