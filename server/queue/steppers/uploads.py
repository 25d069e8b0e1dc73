"""Checkpoints that users sent: each is the only checkpoint of a row among the jobs, which is over.

So whoever may see, use and delete it is settled as for every job, and so is what its owner stores.
Every function takes a connection inside a transaction. Nothing here knows of HTTP.
"""

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert

from nbody.config import Config
from server.database.ids import new_id
from server.database.tables import checkpoints, jobs
from server.queue.job_rows import DEFAULT_FOLDER, record_event
from server.queue.limits import Limits, check_stored
from server.queue.steppers import users_checkpoints
from server.queue.submission import ROW_BYTES
from server.wire.kinds import UPLOAD
from server.wire.states import JobStatus, StopReason


@dataclass(frozen=True)
class Upload:
    """A checkpoint that is to be listed.

    Attributes:
        config: that its network was trained with.
        epoch: of its training.
    """

    job_id: str
    name: str | None
    config: Config
    epoch: int
    bytes: int
    sha256: str

    @property
    def path(self) -> str:
        """Of its file, relative to the data folder."""
        return f"{self.config.save_name or DEFAULT_FOLDER}/{self.job_id}/upload/model.pt"


def sent_before(connection: Connection, owner_id: str, sha256: str) -> Row[Any] | None:
    """The same file of the same owner."""
    query = (
        users_checkpoints.with_quality()
        .join(jobs, jobs.c.id == checkpoints.c.job_id)
        .where(jobs.c.kind == UPLOAD, jobs.c.owner_id == owner_id, checkpoints.c.sha256 == sha256)
    )
    return connection.execute(query.limit(1)).first()


def add(
    connection: Connection, upload: Upload, *, owner_id: str, limits: Limits, now: float
) -> Row[Any]:
    """List a checkpoint whose file is durable; returns its row.

    Raises:
        LimitReached
    """
    check_stored(connection, owner_id, limits)
    config = upload.config.model_dump(mode="json")
    connection.execute(
        insert(jobs).values(
            id=upload.job_id,
            version=1,
            name=upload.name or upload.config.save_name,
            kind=UPLOAD,
            status=JobStatus.SUCCEEDED,
            stop_reason=StopReason.COMPLETED,
            owner_id=owner_id,
            queue_rank=0,
            max_attempts=1,
            failures=0,
            attempt=0,
            config=config,
            base_bytes=ROW_BYTES + len(json.dumps(config)),
            labels={},
            warnings=[],
            epochs_total=0,
            epochs_done=0,
            log_bytes=0,
            created_at=now,
            started_at=now,
            finished_at=now,
        )
    )
    checkpoint_id = new_id("ckpt")
    connection.execute(
        insert(checkpoints).values(
            id=checkpoint_id,
            job_id=upload.job_id,
            attempt=0,
            epoch=upload.epoch,
            rolling=False,
            path=upload.path,
            bytes=upload.bytes,
            sha256=upload.sha256,
            created_at=now,
        )
    )
    record_event(connection, upload.job_id, now, "uploaded", {"sha256": upload.sha256})
    listed = users_checkpoints.with_quality().where(checkpoints.c.id == checkpoint_id)
    return connection.execute(listed).one()
