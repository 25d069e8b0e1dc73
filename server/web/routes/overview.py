"""More than one job: the queue, series side by side, and what people did."""

from typing import Annotated, get_args

from fastapi import APIRouter, Query, Response

from server.errors import FieldProblem, InvalidRequest
from server.queue.workers import NO_BOUND, ROOM, Capacity
from server.views import audit as audit_view
from server.views import jobs as job_views
from server.views import series
from server.views.demand import demand
from server.web.routes.parameters import (
    JOB_ID,
    AfterId,
    AfterNumber,
    Caller,
    Limit,
    MetricName,
    TheService,
    write_json,
)
from server.wire.demand import Demand
from server.wire.history import Comparison
from server.wire.jobs import QueueEntry
from server.wire.kinds import JobKind
from server.wire.messages import Page
from server.wire.tokens import AuditEntry

router = APIRouter(prefix="/v1", tags=["jobs"])
NO_LABELS: list[str] = []
MOST_VALUES = 340_000  # of one answer: every metric of twenty jobs, a thousand epochs


@router.get("/queue")
async def show_queue(
    service: TheService, caller: Caller, after: AfterId = None, limit: Limit = 100
) -> Page[QueueEntry]:
    """Waiting jobs, the next one first, and what those wait for that no worker can take."""
    return await service.read(
        lambda connection: job_views.queue_page(
            connection,
            service.waiting(connection),
            owner_id=caller.owner_filter,
            after=after,
            limit=limit,
        )
    )


@router.get("/queue/demand", tags=["workers"])
async def show_demand(
    service: TheService,
    caller: Caller,
    names: Annotated[
        str,
        Query(
            max_length=64,
            description="How the names of the workers begin that are asked about.",
            pattern=r"^[A-Za-z0-9._:-]*$",
        ),
    ] = "",
    gpu_memory: Annotated[
        int, Query(ge=0, le=NO_BOUND, description="Of a GPU [bytes]; 0: they have none.")
    ] = 0,
    memory: Annotated[
        int, Query(ge=0, le=NO_BOUND, description="Of their host [bytes].")
    ] = NO_BOUND,
    labels: Annotated[
        list[Annotated[str, Query(max_length=300)]],
        Query(max_length=32, description="That they have, as KEY=TEXT; can be repeated."),
    ] = NO_LABELS,
    left_s: Annotated[
        float | None, Query(ge=0, le=1e9, description="That they have for a job [s].")
    ] = None,
) -> Demand:
    """How many jobs wait that workers of one sort can take, and what such workers do already.

    For whoever starts workers: `orrery autoscale` asks this.
    """
    usable = {"cpu": memory, "cuda": gpu_memory, "auto": gpu_memory or memory}
    capacity = Capacity(
        get_args(JobKind),
        {device: ROOM * each for device, each in usable.items()},
        seconds=NO_BOUND if left_s is None else left_s,
        gpu_bytes=gpu_memory,
        labels=tuple(labels),
    )
    return await service.read(
        lambda connection: demand(
            connection,
            capacity,
            names,
            token_id=caller.token_id if caller.role == "worker" else None,
            last_seen=dict(service.last_seen),
            most_running=service.settings.max_running_jobs,
        )
    )


@router.get("/compare", response_model=Comparison)
async def compare_jobs(
    service: TheService,
    caller: Caller,
    ids: Annotated[
        list[Annotated[str, Query(pattern=JOB_ID)]],
        Query(min_length=1, max_length=20, description="Jobs, up to twenty."),
    ],
    keys: Annotated[
        list[MetricName], Query(min_length=1, max_length=32, description="Metrics, by name.")
    ],
    limit: Annotated[int, Query(ge=1, le=10000, description="Last epochs of each.")] = 1000,
) -> Response:
    """Metrics of several jobs side by side, 340,000 values at most: jobs × epochs × keys."""
    series_asked = len(set(ids)) * len(set(keys))
    if series_asked * limit > MOST_VALUES:
        most = MOST_VALUES // series_asked
        advice = f"of so many jobs and keys at most {most} epochs at a time"
        raise InvalidRequest(FieldProblem("/query/limit", advice))
    return await service.read(
        lambda connection: write_json(
            series.comparison(connection, ids, keys, owner_id=caller.owner_filter, limit=limit)
        )
    )


@router.get("/audit", tags=["service"])
async def list_audit(
    service: TheService,
    token: Annotated[str | None, Query(max_length=64, description="Only of this token.")] = None,
    target: Annotated[str | None, Query(max_length=64, description="Only on this id.")] = None,
    after: AfterNumber = None,
    limit: Limit = 100,
) -> Page[AuditEntry]:
    """What people did to jobs, sweeps, tokens and workers, the latest first. For admins."""
    return await service.read(
        lambda connection: audit_view.entries(
            connection, token_id=token, target=target, after=after, limit=limit
        )
    )
