"""A job's checkpoints as its users know them: without the rolling ones, which only resume."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, case, func, select

from nbody.metrics import GOOD_PASS_RATE
from server.database.tables import checkpoints, epochs

NOT_ROLLING = checkpoints.c.rolling.is_(False)


def of_job(job_id: str) -> ColumnElement[bool]:
    """The condition for the checkpoints of a job."""
    return (checkpoints.c.job_id == job_id) & NOT_ROLLING


def with_quality() -> Select[Any]:
    """Checkpoints with `pass_rate` and `efficiency` of their epochs, where these are known."""
    same = (epochs.c.job_id == checkpoints.c.job_id) & (epochs.c.epoch == checkpoints.c.epoch)
    quality = epochs.c.final_pass_rate.label("pass_rate"), epochs.c.efficiency.label("efficiency")
    return select(checkpoints, *quality).outerjoin_from(checkpoints, epochs, same)


def last(connection: Connection, job_id: str) -> Row[Any] | None:
    """The checkpoint of the latest epoch."""
    newest = with_quality().where(of_job(job_id)).order_by(checkpoints.c.epoch.desc()).limit(1)
    return connection.execute(newest).first()


def best(connection: Connection, job_id: str) -> Row[Any] | None:
    """The checkpoint of the largest efficiency among those of good epochs; where all are of bad
    ones, the last that passed the most samples.
    """
    is_good = func.coalesce(epochs.c.final_pass_rate, 0.0) >= GOOD_PASS_RATE
    merit = case((is_good, func.coalesce(epochs.c.efficiency, 0.0)), else_=epochs.c.final_pass_rate)
    order = is_good.desc(), merit.desc().nulls_last(), checkpoints.c.epoch.desc()
    query = with_quality().where(of_job(job_id)).order_by(*order).limit(1)
    return connection.execute(query).first()


def of_epoch(connection: Connection, job_id: str, epoch: int) -> Row[Any] | None:
    """The checkpoint of an epoch."""
    query = with_quality().where(of_job(job_id), checkpoints.c.epoch == epoch)
    return connection.execute(query).first()


def by_id(connection: Connection, job_id: str, checkpoint_id: str | None) -> Row[Any] | None:
    """A checkpoint, if it is the job's."""
    query = select(checkpoints).where(of_job(job_id), checkpoints.c.id == checkpoint_id)
    return connection.execute(query).first()
