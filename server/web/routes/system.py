"""Health, metrics, version, and the schema of a Config."""

import re
import time
from functools import cache
from typing import Any

from fastapi import APIRouter, Depends, Response
from fastapi.responses import RedirectResponse
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import text

from nbody.config import Config
from nbody.config.populations import OF_A_POPULATION
from nbody.metrics import BEST_AT_MOST
from server import __version__
from server.data_folder import file_size
from server.views import jobs as job_views
from server.views.presets import presets_of
from server.web.routes.parameters import TheService, known_query
from server.wire.columns import JOB_FIELDS, METRICS
from server.wire.service import ColumnNames, Health, Presets, Version
from server.wire.states import JobStatus
from server.wire.workers import GpuVitals

router = APIRouter(tags=["service"])
WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")
FILES = (("database", ""), ("wal", "-wal"))
EXPOSITION: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"text/plain": {"schema": {"type": "string"}}},
        "description": "Prometheus text format.",
    }
}
SCHEMA_EXAMPLE: dict[str, Any] = {
    "application/json": {"example": {"type": "object", "title": "Config", "properties": {}}}
}


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers. Needs no token."""
    return Health()


@router.get("/readyz")
async def readyz(service: TheService) -> Health:
    """The database answers, and takes writes that are durable. Needs no token."""
    await service.check_writes()
    await service.read(lambda connection: connection.execute(text("SELECT 1")).scalar_one())
    return Health()


@router.get("/metrics", response_class=Response, responses=EXPOSITION)
async def metrics(service: TheService) -> Response:
    """The service's state for Prometheus: jobs, queue, leases, workers, writer, files, requests."""
    now = time.time()
    by_status, oldest = await service.read(job_views.job_counts)
    counted = service.telemetry.finished_through
    finished, through = await service.read(lambda c: job_views.finished_since(c, counted))
    if service.telemetry.finished_through == counted:  # nobody else counted meanwhile
        service.telemetry.count_finished(finished, through)
    database = service.settings.database_path
    sizes = {name: file_size(database.with_name(database.name + end)) for name, end in FILES}
    alive = sum(now - seen < service.settings.lease_ttl_s for seen in service.last_seen.values())
    gauges: dict[tuple[str, str], list[tuple[dict[str, str], float]]] = {
        ("orrery_jobs", "Jobs by status."): [
            ({"status": status}, by_status.get(status, 0)) for status in JobStatus
        ],
        ("orrery_queue_oldest_seconds", "Time that the oldest waiting job waits."): [
            ({}, 0.0 if oldest is None else now - oldest)
        ],
        ("orrery_leases", "Jobs that workers hold."): [({}, len(service.leases))],
        ("orrery_report_lag_seconds", "Silence of the worker that is silent the longest."): [
            ({}, service.leases.oldest_silence_s())
        ],
        ("orrery_workers", "Workers heard of within the time of a lease."): [({}, alive)],
        ("orrery_waiting_writes", "Writes that wait for the writer."): [
            ({}, service.database.waiting_writes)
        ],
        ("orrery_loop_lag_seconds", "Longest hold of the event loop in the last minute."): [
            ({}, service.loop_lag.longest_s)
        ],
        ("orrery_database_bytes", "Size of the database and its write-ahead log."): [
            ({"file": name}, size) for name, size in sizes.items()
        ],
    }
    gauges |= _gpu_gauges(service.vitals)
    return Response(service.telemetry.exposition(gauges), media_type=CONTENT_TYPE_LATEST)


def _gpu_gauges(
    vitals: dict[str, list[GpuVitals]],
) -> dict[tuple[str, str], list[tuple[dict[str, str], float]]]:
    """How the workers' GPUs are doing, as far as they said."""
    names = {
        ("memory_used_bytes", "Memory in use."): "memory_used_bytes",
        ("utilization_ratio", "Share of the last second in which a kernel ran."): "utilisation",
        ("temperature_celsius", "Temperature."): "temperature_c",
        ("slowed", "Whether heat or power make it run slower."): "is_slowed",
        ("ecc_errors", "Errors of its memory that were not corrected."): "ecc_errors",
        ("foreign_memory_bytes", "Memory that others hold."): "foreign_memory_bytes",
        ("last_xid", "Number of its last Xid error; without one, nothing."): "xid",
    }
    return {
        (f"orrery_gpu_{name}", help_text): [
            ({"worker": worker_id, "gpu": str(number)}, value)
            for worker_id, gpus in vitals.items()
            for number, gpu in enumerate(gpus)
            if (value := getattr(gpu, field)) is not None
        ]
        for (name, help_text), field in names.items()
    }


@router.get("/version")
async def version() -> Version:
    """What runs here."""
    return Version(version=__version__)


@router.get("/v1/schemas/config", responses={200: {"content": SCHEMA_EXAMPLE}})
async def config_schema() -> dict[str, Any]:
    """JSON Schema of a Config: types, ranges, defaults and descriptions."""
    return _schema_of_config()


@cache
def _schema_of_config() -> dict[str, Any]:
    sections = {
        WORD.sub(" ", section.__name__.removesuffix("Section")).capitalize(): [
            name for name in section.__annotations__ if name in Config.model_fields
        ]
        for section in Config.__bases__
    }
    of_systems = sorted(OF_A_POPULATION)
    return Config.model_json_schema() | {"x-sections": sections, "x-of-systems": of_systems}


@router.get("/v1/schemas/columns", dependencies=[Depends(known_query)])
async def columns() -> ColumnNames:
    """What lists of jobs can show, be sorted by and be filtered by; metrics also with `:last`,
    `:best`, `:min` and `:max` behind, labels as `metadata/KEY`, figures of results as
    `result/FIGURE`."""
    fields = [f"config/{name}" for name in Config.model_fields]
    best = [f"{name}:best" for name in METRICS]
    return ColumnNames(
        data=[*JOB_FIELDS, *best, *METRICS, *fields],
        metrics=list(METRICS),
        more_is_better=[name for name in METRICS if name in BEST_AT_MOST],
    )


@router.get("/v1/presets", dependencies=[Depends(known_query)])
async def presets(service: TheService) -> Presets:
    """Configs to begin with: the files in the server's data folder that are one."""
    found = await service.think(lambda: presets_of(service.settings.data))
    return Presets(data=found)


@router.get("/docs", include_in_schema=False)
async def docs() -> RedirectResponse:
    """The dashboard's page of the API."""
    return RedirectResponse("/#/api")
