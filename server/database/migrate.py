"""Brings a database file to the schema of this release."""

from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory

from server.database.engines import write_engine

SCRIPTS = Path(__file__).parent / "migrations"


def scripts() -> ScriptDirectory:
    """The steps of this release, the newest first."""
    return ScriptDirectory.from_config(_config())


def migrate(path: Path, revision: str = "head") -> None:
    """Create the database, or upgrade it step by step up to a revision, in one transaction."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = write_engine(path)
    try:
        with engine.begin() as connection:
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    finally:
        engine.dispose()


def _config() -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("recursive_version_locations", "true")
    return config
