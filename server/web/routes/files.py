"""Files of jobs: checkpoints, and what simulations and evaluations made. List, show, download."""

import asyncio
import contextlib
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header
from fastapi.responses import FileResponse
from sqlalchemy import Connection

from server.access.roles import Principal
from server.data_folder import check_range, locate
from server.queue import ownership
from server.service import Service
from server.views import files as file_views
from server.web.asgi import Message, Receive, Scope, Send
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
RangeHeader = Annotated[
    str | None,
    Header(
        alias="Range",
        max_length=200,
        description="One range of bytes.",
        json_schema_extra={"pattern": r"^bytes=(\d{1,18}-\d{0,18}|-\d{1,18})$"},
    ),
]
FILE = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": FILE, "description": "The file."},
    206: {"content": FILE, "description": "The range that was asked for."},
}


class Content(FileResponse):
    """A file; nothing of it is read where only its head was asked for.

    Args:
        service: asked before each piece whether the caller may still be here.
    """

    def __init__(self, service: Service, path: Path, sha256: str) -> None:
        super().__init__(
            path,
            media_type="application/octet-stream",
            filename=path.name,
            headers={"ETag": f'"{sha256}"'},
        )
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        caller: Principal = scope["state"]["principal"]

        async def send_if_welcome(message: Message) -> None:
            if not self._service.is_welcome(caller):
                scope["state"]["connection"].abort()
                await asyncio.sleep(0)  # until that is known everywhere
                raise _NoMore
            await send(message)

        whole = {**scope, "method": scope["state"]["method"]}
        with contextlib.suppress(_NoMore):
            await super().__call__(whole, receive, send_if_welcome)


class _NoMore(Exception):
    """The token of a download is good no more."""


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
    checkpoint_id: CheckpointId,
    service: TheService,
    caller: Caller,
    requested_range: RangeHeader = None,
) -> Content:
    """The file itself; Range and If-Range work. The ETag is the sha256."""
    checkpoint = await service.read(
        lambda connection: file_views.find_checkpoint(
            connection, checkpoint_id, caller.owner_filter
        )
    )
    return _content(service, checkpoint, requested_range)


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
    artifact_id: ArtifactId,
    service: TheService,
    caller: Caller,
    requested_range: RangeHeader = None,
) -> Content:
    """The file itself; Range and If-Range work. The ETag is the sha256."""
    artifact = await service.read(
        lambda connection: file_views.find_artifact(connection, artifact_id, caller.owner_filter)
    )
    return _content(service, artifact, requested_range)


def _content(
    service: Service, file: CheckpointView | ArtifactView, requested_range: str | None
) -> Content:
    path = locate(service.settings.data, file.path, file.bytes)
    check_range(requested_range, file.bytes)
    return Content(service, path, file.sha256)
