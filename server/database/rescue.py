"""What can be saved of a database whose files were taken away: the open ones still have it all."""

import logging
import time
from pathlib import Path

from sqlalchemy import Engine

from server.database.engines import driver_of

logger = logging.getLogger(__name__)


def rescue(database: Path, writing: Engine) -> None:
    """Put what was acknowledged where it survives the process: into the database file, and where
    that is gone or another one, into a file beside it.

    Args:
        writing: of the connection that has the files open.
    """
    copy = database.with_name(f"{database.name}.rescued-{time.strftime('%Y%m%dT%H%M%S')}")
    try:
        with writing.connect() as connection:
            driver = driver_of(connection)
            driver.rollback()  # what SQLAlchemy began
            driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            copy.touch(mode=0o600)
            driver.execute("VACUUM INTO ?", (str(copy),))
    except Exception:
        logger.exception("what was in the database could not be saved")
        copy.unlink(missing_ok=True)
        return
    logger.critical("all that was acknowledged is in %s, for `orrery restore`", copy)
