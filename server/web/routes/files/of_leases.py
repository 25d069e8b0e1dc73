"""Files between a server and workers that do not see its folder: brought in pieces, taken whole."""

import asyncio
import re
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import FileResponse, Response

from nbody.confined_path import PathEscapes, confined
from nbody.durable_file import sha256_of
from server.data_folder import check_range, file_size
from server.errors import ContentRangeMalformed, NotFound
from server.queue.files import rights
from server.web.arrivals import Arrivals
from server.web.contents import BYTES, Content, RangeHeader, content
from server.web.receiving import no_rest
from server.web.routes.parameters import Caller, LeaseId, TheService
from server.wire.files import FILE_OF_ATTEMPT, Arrived

router = APIRouter(prefix="/v1/leases", tags=["leases"])
RECEIVED_BYTES = 2**20  # of a file, that the kernel keeps: so much is read at once
CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,16})-(\d{1,16})|\*)/(\d{1,16})")
BODY: dict[str, Any] = {
    "requestBody": {
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    }
}
Place = Annotated[
    str, Query(max_length=300, pattern=FILE_OF_ATTEMPT, description="In the data folder.")
]


@router.put("/{lease_id}/files", openapi_extra=BODY)
async def bring_file(
    lease_id: LeaseId,
    path: Place,
    request: Request,
    service: TheService,
    caller: Caller,
    sha256: Annotated[str, Query(pattern=r"^[0-9a-f]{64}$", description="Of the whole file.")],
    content_range: Annotated[
        str,
        Header(
            max_length=100,
            description="Which bytes come, `bytes FIRST-LAST/SIZE`; `bytes */SIZE` with an empty "
            "body asks how much has come.",
            json_schema_extra={"pattern": r"^bytes (\d{1,16}-\d{1,16}|\*)/\d{1,16}$"},
        ),
    ],
) -> Arrived:
    """Send a piece of a file of the attempt. Pieces come in order, of any size; after an
    interruption ask how much has come, and go on from there.

    Once the last one is here, the whole is compared with its sha256; then it may be reported.
    """
    match = CONTENT_RANGE.fullmatch(content_range)
    if match is None:
        raise ContentRangeMalformed
    size = int(match[3])
    await service.read(
        lambda connection: rights.check_may_bring(connection, lease_id, caller.token_id, path)
    )
    target = _place(service.settings.data, path)
    arrivals: Arrivals = request.app.state.arrivals
    if match[1] is None:
        came = await arrivals.came(target, size, sha256)
    else:
        first, last = int(match[1]), int(match[2])
        length = request.headers.get("content-length", "")
        if not first <= last < size or length != str(last - first + 1):
            raise ContentRangeMalformed
        connection = getattr(request.state, "connection", None)
        if connection is not None and not arrivals.are_many:
            connection.keep(RECEIVED_BYTES)
        rest = no_rest if connection is None else connection.rest_of_body
        came = await arrivals.take(target, size, sha256, first, aiter(request.stream()), rest)
    return Arrived(bytes=came, is_whole=came == size)


@router.get("/{lease_id}/files", response_class=FileResponse, responses=BYTES)
async def take_file(
    request: Request,
    lease_id: LeaseId,
    path: Annotated[str, Query(min_length=1, max_length=300, description="In the data folder.")],
    service: TheService,
    caller: Caller,
    requested_range: RangeHeader = None,
) -> Response:
    """Get a file that the job begins with: a checkpoint of `resume_from`, or its `ic_path`. Range
    and If-Range work. The ETag is the sha256."""
    wanted = await service.read(
        lambda connection: rights.wanted_file(connection, lease_id, caller.token_id, path)
    )
    if wanted is not None:
        return await content(request, service, wanted, requested_range)
    place = _place(service.settings.data, path)
    sha256 = await asyncio.to_thread(_sha256, place)
    check_range(requested_range, file_size(place))
    return Content(service, place, sha256)


def _place(data: Path, path: str) -> Path:
    try:
        return confined(data, path)
    except PathEscapes:
        raise NotFound("such place in the data folder") from None


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError:
        raise NotFound(f"file {path.name}") from None
