"""Checkpoints: list, show, download."""

from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import FileResponse
from sqlalchemy import Connection

from server import views
from server.artifacts import check_range, locate
from server.routes.parameters import AfterId, Caller, CheckpointId, JobId, Limit, TheService
from server.schemas import CheckpointView, Page

router = APIRouter(prefix="/v1", tags=["checkpoints"])


@router.get("/jobs/{job_id}/checkpoints")
async def job_checkpoints(
    job_id: JobId, service: TheService, caller: Caller, after: AfterId = None, limit: Limit = 100
) -> Page[CheckpointView]:
    """A job's checkpoints, oldest epoch first. A checkpoint that is listed is whole."""

    def work(connection: Connection) -> Page[CheckpointView]:
        views.find_job(connection, job_id, caller.owner_filter)
        return views.list_checkpoints(connection, job_id, after=after, limit=limit)

    return await service.read(work)


@router.get("/checkpoints/{checkpoint_id}")
async def show_checkpoint(
    checkpoint_id: CheckpointId, service: TheService, caller: Caller
) -> CheckpointView:
    """One checkpoint: epoch, path, size, sha256."""
    return await service.read(
        lambda connection: views.find_checkpoint(connection, checkpoint_id, caller.owner_filter)
    )


@router.get(
    "/checkpoints/{checkpoint_id}/content",
    response_class=FileResponse,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The file."}},
)
async def download_checkpoint(
    checkpoint_id: CheckpointId,
    service: TheService,
    caller: Caller,
    requested_range: Annotated[
        str | None, Header(alias="Range", max_length=200, description="One range of bytes.")
    ] = None,
) -> FileResponse:
    """The file itself; Range and If-Range work. The ETag is the sha256."""
    checkpoint = await service.read(
        lambda connection: views.find_checkpoint(connection, checkpoint_id, caller.owner_filter)
    )
    path = locate(service.settings.data, checkpoint.path)
    check_range(requested_range, checkpoint.bytes)
    return FileResponse(
        path,
        media_type="application/octet-stream",
        filename=path.name,
        headers={"ETag": f'"{checkpoint.sha256}"'},
    )
