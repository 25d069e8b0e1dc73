"""Workers: register, list, drain, claim, leave."""

import asyncio
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy import Connection

from server.errors import FolderNotShared, NotFound
from server.queue import audit_log, claims, workers
from server.queue.changes import Changes
from server.views import workers as worker_views
from server.views.pages import page
from server.web.idle_workers import Asking, IdleWorkers
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
CLAIM_WAIT_S = 20.0  # of proxies, the most impatient give up after thirty


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
    service.workers_here.forget()
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
        claim_wait_s=CLAIM_WAIT_S,
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
        service.workers_here.forget()
    if known.left_at is None:
        service.last_seen[worker_id] = time.time()
        service.vitals[worker_id] = vitals.gpus


@router.post("/{worker_id}/leave", status_code=204)
async def leave(
    worker_id: WorkerId, service: TheService, caller: Caller, idle: TheIdleWorkers
) -> None:
    """Say that a worker takes no more jobs, because it is about to end: its claims are answered at
    once. What it holds it reports as before."""

    def work(connection: Connection) -> None:
        workers.find_own(connection, worker_id, caller.token_id)
        workers.leave(connection, worker_id, now=time.time())

    await service.write(work, Changes.QUEUE)
    idle.dismiss(worker_id)
    service.workers_here.forget()
    service.last_seen.pop(worker_id, None)
    service.vitals.pop(worker_id, None)


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

    view = await service.write(work, Changes.QUEUE)
    service.workers_here.forget()
    return view


@router.post(
    "/{worker_id}/claim",
    responses={200: {"model": Assignment}, 204: {"description": "Nothing is queued."}},
    response_model=Assignment,
)
async def claim_job(
    http: Request,
    worker_id: WorkerId,
    request: ClaimRequest,
    service: TheService,
    caller: Caller,
    idle: TheIdleWorkers,
) -> Assignment | Response:
    """Ask for a job, waiting for one if asked to. The same claim_id gets the same answer."""

    asked_at, has_store = time.monotonic(), service.files.store is not None

    def work(connection: Connection) -> tuple[workers.Capacity, Assignment | None]:
        known = workers.find_own(connection, worker_id, caller.token_id)
        if has_store and known.files == "shared":  # it registered before there was one
            raise NotFound(f"worker {worker_id} that sends its files")
        left_s = request.left_s
        if left_s is not None:
            left_s = max(left_s - (time.monotonic() - asked_at), 0.0)
        kinds = () if known.draining or known.left_at else request.kinds
        capacity = workers.capacity_of(known, kinds, left_s)
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

    async with _as_long_as_it_is_there(http, worker_id, idle) as asking:
        assignment = await idle.claim(claim, left_s, request.wait_s, look, asking)
    service.last_seen[worker_id] = time.time()
    if assignment is None:
        return Response(status_code=204)
    service.changes.notify(assignment.job)
    return assignment


@asynccontextmanager
async def _as_long_as_it_is_there(
    http: Request, worker_id: str, idle: IdleWorkers
) -> AsyncGenerator[Asking]:
    """Who asks for a job; no more, once its connection has ended: nobody would get the answer."""

    async def watch() -> None:
        while (await http.receive())["type"] != "http.disconnect":
            pass
        asking.end()

    with idle.asking(worker_id) as asking:
        watching = asyncio.create_task(watch())
        try:
            yield asking
        finally:
            watching.cancel()
