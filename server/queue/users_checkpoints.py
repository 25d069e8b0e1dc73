"""A job's checkpoints as its users know them: without the rolling ones, which only resume."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from server.database.tables import checkpoints

NOT_ROLLING = checkpoints.c.rolling.is_(False)


def of_job(job_id: str) -> ColumnElement[bool]:
    """The condition for the checkpoints of a job."""
    return (checkpoints.c.job_id == job_id) & NOT_ROLLING


def last(connection: Connection, job_id: str) -> Row[Any] | None:
    """The checkpoint of the latest epoch."""
    newest = select(checkpoints).where(of_job(job_id)).order_by(checkpoints.c.epoch.desc()).limit(1)
    return connection.execute(newest).first()


def of_epoch(connection: Connection, job_id: str, epoch: int) -> Row[Any] | None:
    """The checkpoint of an epoch."""
    query = select(checkpoints).where(of_job(job_id), checkpoints.c.epoch == epoch)
    return connection.execute(query).first()


def by_id(connection: Connection, job_id: str, checkpoint_id: str | None) -> Row[Any] | None:
    """A checkpoint, if it is the job's."""
    query = select(checkpoints).where(of_job(job_id), checkpoints.c.id == checkpoint_id)
    return connection.execute(query).first()
