"""Retries: which job a job was made from, and the checkpoint that it begins at"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("retry_of", sa.String(), nullable=True))
    op.add_column("jobs", sa.Column("from_checkpoint", sa.String(), nullable=True))
    op.create_index("jobs_by_checkpoint", "jobs", ["from_checkpoint"], unique=False)
