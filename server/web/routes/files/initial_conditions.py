"""Files of initial conditions that users send, to begin jobs with them."""

import asyncio
import time
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from sqlalchemy import Connection

from nbody.config.systems import IC_FILES
from server.database.ids import new_id
from server.errors import FieldProblem, InvalidRequest
from server.queue import audit_log
from server.queue.files import initial_conditions
from server.queue.files.initial_conditions import SentFile
from server.views.files import initial_conditions_view, list_initial_conditions
from server.web.contents import BYTES, RangeHeader, content
from server.web.reading_apart import read_apart
from server.web.routes.files.sending import FILE, bring_back, kept, sent
from server.web.routes.parameters import AfterId, Caller, FileId, Limit, TheService, name_new
from server.wire.files import DeletedFile, InitialConditionsView
from server.wire.messages import Page

router = APIRouter(prefix="/v1/files", tags=["files"])
READER = "nbody.config.particle_file"


@router.post("", status_code=201, openapi_extra=FILE)
async def send_initial_conditions(
    request: Request,
    response: Response,
    service: TheService,
    caller: Caller,
    name: Annotated[
        str,
        Query(
            min_length=1,
            max_length=200,
            description="Of the file, printable; its end says of which kind it is: "
            f"{', '.join(IC_FILES)}.",
        ),
    ],
) -> InitialConditionsView:
    """Send a file of initial conditions as the body; its `path` is then an `ic_path` of your jobs,
    with `initial_conditions: "file"`. The same file again is the same one.

    It stays until it is deleted; all of yours together have a limit (ORRERY_MAX_INPUT_BYTES).
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in IC_FILES:
        detail = f"ends with none of {', '.join(IC_FILES)}, by which its kind is known"
        raise InvalidRequest(FieldProblem("/name", detail))
    if not name.isprintable():  # it is shown in terminals
        raise InvalidRequest(FieldProblem("/name", "has characters that cannot be printed"))
    owner_id = caller.token_id
    async with sent(request, service, caller, suffix) as file:
        find = partial(
            initial_conditions.sent_before, owner_id=owner_id, sha256=file.sha256, suffix=suffix
        )
        row = known = await service.read(find)
        if row is not None:
            await bring_back(service, file, row)
        else:
            told = await service.think(partial(_read, file.path, name))
            new = SentFile(new_id("ic"), name, file.bytes, file.sha256, **told)

            def work(connection: Connection) -> Any:
                audit_log.note(connection, caller, "file.send", new.id)
                return initial_conditions.add(
                    connection,
                    new,
                    owner_id=owner_id,
                    most=service.settings.max_input_bytes,
                    now=time.time(),
                )

            async with kept(service, file, new.path, Path(new.path).parent):
                row = await service.write(work)
    name_new(response, f"/v1/files/{row.id}", is_repeat=known is not None)
    return initial_conditions_view(row)


@router.get("")
async def list_files(
    service: TheService, caller: Caller, after: AfterId = None, limit: Limit = 100
) -> Page[InitialConditionsView]:
    """Files of initial conditions that were sent, the first one first: yours, or all for an
    admin."""
    return await service.read(
        lambda connection: list_initial_conditions(
            connection, caller.owner_filter, after=after, limit=limit
        )
    )


@router.get("/{file_id}")
async def show_file(file_id: FileId, service: TheService, caller: Caller) -> InitialConditionsView:
    """One of them: its path, how many bodies, size, sha256."""
    return initial_conditions_view(await _find(service, caller, file_id))


@router.get("/{file_id}/content", response_class=FileResponse, responses=BYTES)
async def download_file(
    request: Request,
    file_id: FileId,
    service: TheService,
    caller: Caller,
    requested_range: RangeHeader = None,
) -> Response:
    """The file itself; Range and If-Range work. The ETag is the sha256."""
    row = await _find(service, caller, file_id)
    return await content(request, service, row, requested_range)


@router.delete("/{file_id}")
async def delete_file(file_id: FileId, service: TheService, caller: Caller) -> DeletedFile:
    """Delete one that no job needs any more; jobs that began with it keep their results, but
    cannot be run again."""

    def work(connection: Connection) -> str:
        folder = initial_conditions.remove(connection, file_id, caller.owner_filter)
        audit_log.note(connection, caller, "file.delete", file_id)
        return folder

    folder = await service.write(work)
    await asyncio.to_thread(service.files.remove_folder, folder)
    return DeletedFile(id=file_id)


async def _find(service: TheService, caller: Caller, file_id: str) -> Any:
    return await service.read(
        lambda connection: initial_conditions.find(connection, file_id, caller.owner_filter)
    )


def _read(path: Path, name: str) -> dict[str, Any]:
    try:
        return read_apart(READER, path)
    except InvalidRequest as error:
        problems = (
            FieldProblem(each.pointer, each.detail.replace(path.name, name))
            for each in error.fields
        )
        raise InvalidRequest(*problems) from None
