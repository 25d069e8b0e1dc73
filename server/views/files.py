"""Rows of files → what the API answers: checkpoints, what else jobs leave, and what users sent."""

from typing import Any

from sqlalchemy import Connection, Row, select

from server.database.tables import artifacts, checkpoints, initial_conditions, jobs
from server.queue.ownership import is_visible, visible
from server.queue.steppers import users_checkpoints
from server.views.pages import instant, page
from server.wire.files import ArtifactView, CheckpointView, InitialConditionsView
from server.wire.messages import Page


def list_checkpoints(
    connection: Connection, job_id: str, *, after: str | None, limit: int
) -> Page[CheckpointView]:
    """A job's checkpoints, oldest epoch first."""
    query = (
        users_checkpoints.with_quality()
        .where(users_checkpoints.of_job(job_id))
        .order_by(checkpoints.c.epoch)
        .limit(limit + 1)
    )
    if after is not None:
        epoch = select(checkpoints.c.epoch).where(checkpoints.c.id == after).scalar_subquery()
        query = query.where(checkpoints.c.epoch > epoch)
    return page([checkpoint_view(row) for row in connection.execute(query)], limit)


def find_checkpoint(
    connection: Connection, checkpoint_id: str, owner_id: str | None
) -> CheckpointView:
    """A checkpoint of a job that this owner may see.

    Raises:
        NotFound
    """
    row = connection.execute(
        users_checkpoints.with_quality()
        .add_columns(jobs.c.owner_id)
        .join(jobs, jobs.c.id == checkpoints.c.job_id)
        .where(checkpoints.c.id == checkpoint_id, users_checkpoints.NOT_ROLLING)
    ).first()
    return checkpoint_view(visible(row, owner_id, f"checkpoint {checkpoint_id}"))


def list_artifacts(
    connection: Connection, job_id: str, *, after: str | None, limit: int
) -> Page[ArtifactView]:
    """A job's files besides checkpoints, in the order in which they were made."""
    query = (
        select(artifacts)
        .where(artifacts.c.job_id == job_id, artifacts.c.id > (after or ""))
        .order_by(artifacts.c.id)
        .limit(limit + 1)
    )
    return page([artifact_view(row) for row in connection.execute(query)], limit)


def find_artifact(connection: Connection, artifact_id: str, owner_id: str | None) -> ArtifactView:
    """A file of a job that this owner may see.

    Raises:
        NotFound
    """
    row = connection.execute(
        select(artifacts, jobs.c.owner_id).join(jobs).where(artifacts.c.id == artifact_id)
    ).first()
    return artifact_view(visible(row, owner_id, f"artifact {artifact_id}"))


def list_initial_conditions(
    connection: Connection, owner_id: str | None, *, after: str | None, limit: int
) -> Page[InitialConditionsView]:
    """Files that an owner sent, or all, in the order in which they came."""
    query = (
        select(initial_conditions)
        .where(is_visible(owner_id, initial_conditions.c.owner_id))
        .where(initial_conditions.c.id > (after or ""))
        .order_by(initial_conditions.c.id)
        .limit(limit + 1)
    )
    return page([initial_conditions_view(row) for row in connection.execute(query)], limit)


def initial_conditions_view(row: Row[Any]) -> InitialConditionsView:
    """A row of initial conditions as the API shows it."""
    return InitialConditionsView(
        id=row.id,
        name=row.name,
        path=row.path,
        num_particles=row.num_particles,
        dim=row.dim,
        bytes=row.bytes,
        sha256=row.sha256,
        created_at=instant(row.created_at),
    )


def artifact_view(row: Row[Any]) -> ArtifactView:
    """An artifact's row as the API shows it."""
    return ArtifactView(
        id=row.id,
        job_id=row.job_id,
        attempt=row.attempt,
        name=row.path.rpartition("/")[2],
        path=row.path,
        bytes=row.bytes,
        sha256=row.sha256,
        created_at=instant(row.created_at),
    )


def checkpoint_view(row: Row[Any]) -> CheckpointView:
    """A checkpoint's row as the API shows it."""
    return CheckpointView(
        id=row.id,
        job_id=row.job_id,
        attempt=row.attempt,
        epoch=row.epoch,
        pass_rate=row.pass_rate,
        efficiency=row.efficiency,
        path=row.path,
        bytes=row.bytes,
        sha256=row.sha256,
        created_at=instant(row.created_at),
    )
