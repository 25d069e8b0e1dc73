"""Files of jobs: checkpoints, and what simulations and evaluations made. List, show, download."""

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response
from sqlalchemy import Connection

from server.queue import ownership
from server.views import files as file_views
from server.web.contents import BYTES, RangeHeader, content
from server.web.routes.parameters import (
    AfterId,
    ArtifactId,
    Caller,
    CheckpointId,
    JobId,
    Limit,
    TheService,
)
from server.wire.files import ArtifactView, CheckpointView
from server.wire.messages import Page

router = APIRouter(prefix="/v1", tags=["files"])


@router.get("/jobs/{job_id}/checkpoints")
async def job_checkpoints(
    job_id: JobId, service: TheService, caller: Caller, after: AfterId = None, limit: Limit = 100
) -> Page[CheckpointView]:
    """A job's checkpoints, oldest epoch first. A checkpoint that is listed is whole."""

    def work(connection: Connection) -> Page[CheckpointView]:
        ownership.job_version(connection, job_id, caller.owner_filter)
        return file_views.list_checkpoints(connection, job_id, after=after, limit=limit)

    return await service.read(work)


@router.get("/checkpoints/{checkpoint_id}")
async def show_checkpoint(
    checkpoint_id: CheckpointId, service: TheService, caller: Caller
) -> CheckpointView:
    """One checkpoint: epoch, path, size, sha256."""
    return await service.read(
        lambda connection: file_views.find_checkpoint(
            connection, checkpoint_id, caller.owner_filter
        )
    )


@router.get(
    "/checkpoints/{checkpoint_id}/content",
    response_class=FileResponse,
    responses=BYTES,
)
async def download_checkpoint(
    request: Request,
    checkpoint_id: CheckpointId,
    service: TheService,
    caller: Caller,
    requested_range: RangeHeader = None,
) -> Response:
    """The file itself; Range and If-Range work. The ETag is the sha256."""
    checkpoint = await service.read(
        lambda connection: file_views.find_checkpoint(
            connection, checkpoint_id, caller.owner_filter
        )
    )
    return await content(request, service, checkpoint, requested_range)


@router.get("/jobs/{job_id}/artifacts")
async def job_artifacts(
    job_id: JobId, service: TheService, caller: Caller, after: AfterId = None, limit: Limit = 100
) -> Page[ArtifactView]:
    """What a simulation or an evaluation wrote. A file that is listed is whole."""

    def work(connection: Connection) -> Page[ArtifactView]:
        ownership.job_version(connection, job_id, caller.owner_filter)
        return file_views.list_artifacts(connection, job_id, after=after, limit=limit)

    return await service.read(work)


@router.get("/artifacts/{artifact_id}")
async def show_artifact(
    artifact_id: ArtifactId, service: TheService, caller: Caller
) -> ArtifactView:
    """One file: name, path, size, sha256."""
    return await service.read(
        lambda connection: file_views.find_artifact(connection, artifact_id, caller.owner_filter)
    )


@router.get("/artifacts/{artifact_id}/content", response_class=FileResponse, responses=BYTES)
async def download_artifact(
    request: Request,
    artifact_id: ArtifactId,
    service: TheService,
    caller: Caller,
    requested_range: RangeHeader = None,
) -> Response:
    """The file itself; Range and If-Range work. The ETag is the sha256."""
    artifact = await service.read(
        lambda connection: file_views.find_artifact(connection, artifact_id, caller.owner_filter)
    )
    return await content(request, service, artifact, requested_range)
