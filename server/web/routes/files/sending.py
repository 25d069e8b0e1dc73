"""What all files that users send have in common."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import Request
from sqlalchemy import Row

from server.data_folder import remove_folder
from server.service import Service
from server.store.s3 import StoreUnavailable
from server.web.receiving import Received, check_is_file, keep, received
from server.web.routes.parameters import Caller

FILE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@asynccontextmanager
async def sent(
    request: Request, service: Service, caller: Caller, suffix: str = ""
) -> AsyncGenerator[Received]:
    """The file that a request's body is, here for a while; one of each caller at a time.

    Raises:
        BodyTooLarge, BodyTimeout, NoFile, StorageFull
    """
    check_is_file(request.headers.get("content-type", ""))
    settings = service.settings
    async with (
        service.uploads.share(caller.token_id),
        received(
            aiter(request.stream()),
            settings.uploads_folder,
            most=settings.max_upload_bytes,
            patience_s=settings.body_timeout_s,
            suffix=suffix,
        ) as file,
    ):
        yield file


async def bring_back(service: Service, file: Received, row: Row[Any]) -> None:
    """Keep a file that has a row, and that somebody took away."""
    try:
        is_there = await service.has(row.path, row.bytes)
    except StoreUnavailable:
        is_there = False
    if not is_there:
        await asyncio.to_thread(keep, file.path, service.settings.data / row.path)


@asynccontextmanager
async def kept(service: Service, file: Received, path: str, folder: Path) -> AsyncGenerator[None]:
    """A file is where its row is about to say; it is gone where none comes to be.

    Args:
        path, folder: of it, and of what is its alone, relative to the data folder.
    """
    data = service.settings.data
    try:
        await asyncio.to_thread(keep, file.path, data / path)
        yield
    except Exception:  # one who is cancelled may have written all the same
        remove_folder(data, str(folder))
        raise
