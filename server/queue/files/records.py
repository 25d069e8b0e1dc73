"""Files that attempts leave: noted once they are durable, each in its attempt's own folder.

Every function takes a connection inside a transaction of the writer. Nothing here knows of HTTP.
"""

from sqlalchemy import Connection, Table, delete, insert, select

from server.database.ids import new_id
from server.database.tables import artifacts, checkpoints
from server.errors import ReportConflict
from server.queue.claims import output_folder
from server.queue.job_rows import JobRow, record_event
from server.wire.workers import ArtifactReport, CheckpointReport, Report

FILE_IDS = {"checkpoints": "ckpt", "artifacts": "file"}  # prefixes, by table


def record_files(connection: Connection, job: JobRow, report: Report, now: float) -> None:
    """Note the files of a report; repeats with equal content change nothing.

    Raises:
        ReportConflict: one lies elsewhere, or was another file before.
    """
    for checkpoint in report.checkpoints:
        _record_checkpoint(connection, job, checkpoint, now)
    for artifact in report.artifacts:
        _record_file(connection, job, artifacts, artifact, now)


def check_place(job: JobRow, path: str) -> None:
    """Refuse a file that is not in the folder of a job's attempt.

    Raises:
        ReportConflict
    """
    folder = output_folder(job)
    if not path.startswith(f"{folder}/") or ".." in path.split("/"):
        raise ReportConflict(f"A file must lie in the attempt's own folder, {folder}.")


def _record_checkpoint(
    connection: Connection, job: JobRow, reported: CheckpointReport, now: float
) -> None:
    if not _record_file(connection, job, checkpoints, reported, now):
        return
    if reported.rolling:
        newest = (
            select(checkpoints.c.id)
            .where(checkpoints.c.job_id == job.id, checkpoints.c.rolling)
            .order_by(checkpoints.c.epoch.desc())
            .limit(2)
        )
        connection.execute(
            delete(checkpoints).where(
                checkpoints.c.job_id == job.id,
                checkpoints.c.rolling,
                checkpoints.c.id.not_in(newest),
            )
        )
    else:
        data = {"epoch": reported.epoch, "path": reported.path}
        record_event(connection, job.id, now, "checkpoint", data)


def _record_file(
    connection: Connection,
    job: JobRow,
    table: Table,
    reported: CheckpointReport | ArtifactReport,
    now: float,
) -> bool:
    """Note a file of the attempt; returns whether it is new.

    Raises:
        ReportConflict: it lies elsewhere, or was another file before.
    """
    check_place(job, reported.path)
    given = reported.model_dump()
    known = connection.execute(
        select(*(table.c[name] for name in given)).where(
            table.c.job_id == job.id, table.c.path == reported.path
        )
    ).mappings()
    if (row := known.first()) is not None:
        if dict(row) != given:
            raise ReportConflict(f"{reported.path} was reported before as another file.")
        return False
    connection.execute(
        insert(table).values(
            id=new_id(FILE_IDS[table.name]),
            job_id=job.id,
            attempt=job.attempt,
            created_at=now,
            **given,
        )
    )
    return True
