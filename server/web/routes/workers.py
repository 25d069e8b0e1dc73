"""Workers: register, list, drain, claim."""

import asyncio
import socket
import time
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy import Connection

from server.errors import FolderNotShared
from server.queue import audit_log, claims, workers
from server.queue.changes import Changes
from server.views import workers as worker_views
from server.views.pages import page
from server.web.idle_workers import IdleWorkers
from server.web.routes.parameters import Caller, TheService, WorkerId
from server.wire.messages import Page
from server.wire.workers import (
    PROOFS,
    Assignment,
    ClaimRequest,
    DrainRequest,
    ResumePoint,
    Vitals,
    WorkerRegistration,
    WorkerTerms,
    WorkerView,
)


async def _idle_workers(request: Request) -> IdleWorkers:
    return request.app.state.idle_workers


TheIdleWorkers = Annotated[IdleWorkers, Depends(_idle_workers)]
router = APIRouter(prefix="/v1/workers", tags=["workers"])
DRAIN = DrainRequest()


@router.post("", status_code=201)
async def register_worker(
    registration: WorkerRegistration, service: TheService, caller: Caller
) -> WorkerTerms:
    """Offer slots. The answer's intervals are the terms of the work.

    A worker that does not see the server's data folder sends its files, and so do all where they go
    to a store; one of an earlier release,
    which cannot, is refused, and listed with the reason.
    """
    now, has_store = time.time(), service.files.store is not None
    refused: FolderNotShared | None = None
    if registration.proof is not None:
        path = service.settings.data / PROOFS / registration.proof
        is_shared = not has_store and await asyncio.to_thread(path.is_file)
    else:
        is_shared = not has_store and registration.folder == service.folder_id
    if not is_shared and registration.proof is None:
        place = f"{service.settings.data.resolve()} on {socket.gethostname()}"
        refused = FolderNotShared(registration.folder is not None, place)
    worker_id = await service.write(
        lambda connection: workers.register(
            connection,
            registration,
            token_id=caller.token_id,
            now=now,
            refusal=None if refused is None else refused.detail,
            files="shared" if is_shared else "http",
        )
    )
    if refused is not None:
        raise refused
    service.heard_of(worker_id, now)
    settings = service.settings
    return WorkerTerms(
        id=worker_id,
        heartbeat_interval_s=settings.heartbeat_interval_s,
        lease_ttl_s=settings.lease_ttl_s,
        stall_timeout_s=settings.stall_timeout_s,
        files="shared" if is_shared else "http",
    )


@router.get("")
async def list_workers(service: TheService, caller: Caller) -> Page[WorkerView]:
    """Workers that registered, newest first, and the jobs that they hold: all, or the thousand that
    were heard of last."""
    found = await service.read(
        lambda connection: worker_views.list_workers(
            connection, dict(service.last_seen), caller.owner_filter
        )
    )
    found = [
        worker.model_copy(update={"gpu_vitals": service.vitals.get(worker.id, [])})
        for worker in found
    ]
    return page(found, len(found))


@router.post("/{worker_id}/vitals", status_code=204)
async def tell_vitals(
    worker_id: WorkerId, vitals: Vitals, service: TheService, caller: Caller
) -> None:
    """How a worker's GPUs are doing, and why it takes no jobs, where it does not; kept until it
    says so again."""
    known = await service.read(
        lambda connection: workers.find_own(connection, worker_id, caller.token_id)
    )
    if known.trouble != vitals.trouble:
        await service.write(
            lambda connection: workers.note_trouble(connection, worker_id, vitals.trouble)
        )
    service.last_seen[worker_id] = time.time()
    service.vitals[worker_id] = vitals.gpus


@router.post("/{worker_id}/drain")
async def drain_worker(
    worker_id: WorkerId, service: TheService, caller: Caller, request: DrainRequest = DRAIN
) -> WorkerView:
    """Give a worker no more jobs, or jobs again; those that it has go on to their end."""

    def work(connection: Connection) -> WorkerView:
        workers.drain(connection, worker_id, draining=request.draining)
        action = "worker.drain" if request.draining else "worker.undrain"
        audit_log.note(connection, caller, action, worker_id)
        (worker,) = worker_views.list_workers(
            connection, dict(service.last_seen), caller.owner_filter, only=worker_id
        )
        return worker

    return await service.write(work, Changes.QUEUE)


@router.post(
    "/{worker_id}/claim",
    responses={200: {"model": Assignment}, 204: {"description": "Nothing is queued."}},
    response_model=Assignment,
)
async def claim_job(
    worker_id: WorkerId,
    request: ClaimRequest,
    service: TheService,
    caller: Caller,
    idle: TheIdleWorkers,
) -> Assignment | Response:
    """Ask for a job, waiting for one if asked to. The same claim_id gets the same answer."""

    def work(connection: Connection) -> tuple[workers.Capacity, Assignment | None]:
        known = workers.find_own(connection, worker_id, caller.token_id)
        kinds = () if known.draining else request.kinds
        capacity = workers.capacity_of(known, kinds, request.left_s)
        claimed = claims.claim_valid(
            connection,
            worker_id,
            request.claim_id,
            now=time.time(),
            capacity=capacity,
            most_running=service.settings.max_running_jobs,
        )
        if claimed is None:
            return capacity, None
        job, attempt = claimed
        service.leases.renew(attempt.lease_id)  # here, so that no lease is ever without a deadline
        points = claims.resume_points(connection, job)
        return capacity, Assignment(
            job=job.id,
            kind=job.kind,
            attempt=attempt.number,
            lease_id=attempt.lease_id,
            lease_ttl_s=service.settings.lease_ttl_s,
            config=job.config,
            output_folder=claims.output_folder(job),
            name=job.name,
            labels=job.labels,
            resume_from=[ResumePoint(epoch=p.epoch, path=p.path, sha256=p.sha256) for p in points],
            must_resume=job.from_checkpoint is not None,
            runtime_left_s=claims.runtime_left(connection, job),
        )

    claim = worker_id, caller.token_id, request.claim_id, tuple(request.kinds)
    left_s = workers.NO_BOUND if request.left_s is None else request.left_s

    async def look() -> tuple[workers.Capacity, Assignment | None]:
        return await service.write(work)

    assignment = await idle.claim(claim, left_s, request.wait_s, look)
    service.last_seen[worker_id] = time.time()
    if assignment is None:
        return Response(status_code=204)
    service.changes.notify(assignment.job)
    return assignment
