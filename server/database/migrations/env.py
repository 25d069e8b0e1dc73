"""Runs the migrations on the connection that `server.database.migrate` hands over."""

from alembic import context
from sqlmodel import SQLModel

from server.database import tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata if tables else None,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
