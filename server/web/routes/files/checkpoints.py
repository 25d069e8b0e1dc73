"""Checkpoint files that users send, to simulate with them or to score them."""

import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from sqlalchemy import Connection

from nbody.config import Config
from server.database.ids import new_id
from server.errors import FieldProblem, InvalidRequest
from server.queue import audit_log
from server.queue.changes import Changes
from server.queue.limits import check_stored
from server.queue.steppers import uploads
from server.views.files import checkpoint_view
from server.web.reading_apart import read_apart
from server.web.receiving import Received
from server.web.routes.files.sending import FILE, bring_back, kept, sent
from server.web.routes.parameters import Caller, TheService, name_new
from server.wire.files import CheckpointView
from server.wire.jobs import check_new

router = APIRouter(prefix="/v1", tags=["files"])
READER = "nbody.config.of_checkpoint"
# What was so where it was trained, and is settled anew for each job that works with it.
ELSEWHERE = {"device": "auto", "wandb": False, "gate": "auto"}


@router.post("/checkpoints", status_code=201, openapi_extra=FILE)
async def upload_checkpoint(
    request: Request,
    response: Response,
    service: TheService,
    caller: Caller,
    name: Annotated[
        str | None, Query(min_length=1, max_length=200, description="For people.")
    ] = None,
) -> CheckpointView:
    """Send a checkpoint file, Orrery's or AITimeStepper's, as the body; its `job_id` is then a
    `stepper` for simulations and evaluations. The same file again is the same checkpoint.

    It is listed with the jobs, as one of kind `upload` that is over, and deleted like one.
    """
    owner_id = caller.token_id
    await service.read(lambda connection: check_stored(connection, owner_id, service.limits))
    async with sent(request, service, caller) as file:
        find = partial(uploads.sent_before, owner_id=owner_id, sha256=file.sha256)
        row = known = await service.read(find)
        if row is not None:
            await bring_back(service, file, row)
        else:
            said = await service.think(partial(read_apart, READER, file.path))
            upload = _upload_of(said, file, name)

            def work(connection: Connection) -> Any:
                audit_log.note(connection, caller, "checkpoint.upload", upload.job_id)
                return uploads.add(
                    connection, upload, owner_id=owner_id, limits=service.limits, now=time.time()
                )

            async with kept(service, file, upload.path, Path(upload.path).parents[1]):
                row = await service.write(work, Changes.QUEUE)
    name_new(response, f"/v1/checkpoints/{row.id}", is_repeat=known is not None)
    return checkpoint_view(row)


def _upload_of(said: dict[str, Any], file: Received, name: str | None) -> uploads.Upload:
    try:
        config = check_new(Config.model_validate(said["config"] | ELSEWHERE))
    except ValidationError as error:
        raise InvalidRequest.of(error.errors()) from None
    except ValueError as error:
        raise InvalidRequest(FieldProblem("", f"its config: {error}")) from None
    epoch = said["epoch"] or 0
    return uploads.Upload(new_id("job"), name, config, epoch, file.bytes, file.sha256)
