"""Files as answers: from the data folder, or from the store, where whoever has a token is sent."""

import asyncio
import contextlib
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Protocol

from fastapi import Header, Request
from fastapi.responses import FileResponse, RedirectResponse, Response, StreamingResponse

from server.access.roles import Principal
from server.data_folder import check_range, locate
from server.errors import NotFound, StorageUnavailable
from server.service import Service
from server.store.s3 import S3Store, StoreUnavailable
from server.web.asgi import Message, Receive, Scope, Send

BINARY = "application/octet-stream"
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
    307: {
        "description": "It is in the server's store: the link in `Location` is good for a quarter "
        "of an hour; the ETag is the file's sha256.",
        "headers": {"Location": {"schema": {"type": "string"}}},
    },
}


class KnownFile(Protocol):
    """What a row says of a file."""

    @property
    def path(self) -> str: ...
    @property
    def bytes(self) -> int: ...
    @property
    def sha256(self) -> str: ...


async def content(
    request: Request, service: Service, file: KnownFile, requested_range: str | None
) -> Response:
    """A file of a row, wherever it is.

    Raises:
        NotFound: it is nowhere. RangeMalformed, RangeImpossible, StorageUnavailable
    """
    try:
        place = locate(service.settings.data, file.path, file.bytes)
    except NotFound:
        if service.files.store is None:
            raise
        check_range(requested_range, file.bytes)
        try:
            return await _from_store(request, service.files.store, file)
        except StoreUnavailable as error:
            raise StorageUnavailable(str(error)) from error
    check_range(requested_range, file.bytes)
    return Content(service, place, file.sha256)


async def _from_store(request: Request, store: S3Store, file: KnownFile) -> Response:
    """A link for whoever has a token; a browser's page, which may load nothing from elsewhere, gets
    all of the file."""
    name = PurePosixPath(file.path).name
    if await store.size_soon(file.path) != file.bytes:
        raise NotFound(f"file {name} as it was recorded")
    tag = {"ETag": f'"{file.sha256}"'}
    whole = {
        **tag,
        "Content-Length": str(file.bytes),
        "Content-Disposition": f'attachment; filename="{name}"',
    }
    if request.state.method == "HEAD":
        return Response(headers=whole, media_type=BINARY)
    caller: Principal = request.state.principal
    if caller.session is None:
        return RedirectResponse(await store.link(file.path), headers=tag)
    return StreamingResponse(store.read(file.path, file.bytes), headers=whole, media_type=BINARY)


class Content(FileResponse):
    """A file; nothing of it is read where only its head was asked for.

    Args:
        service: asked before each piece whether the caller may still be here.
    """

    def __init__(self, service: Service, path: Path, sha256: str) -> None:
        super().__init__(
            path,
            media_type=BINARY,
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
