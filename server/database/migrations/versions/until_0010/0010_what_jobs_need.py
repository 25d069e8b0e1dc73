"""What jobs need and workers have; when workers were last heard of"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("device", sa.String(), nullable=False, server_default="auto"))
    size = sa.Column("memory_bytes", sa.BigInteger(), nullable=False, server_default="0")
    op.add_column("jobs", size)
    op.add_column("workers", sa.Column("memory_bytes", sa.BigInteger(), nullable=True))
    op.add_column("workers", sa.Column("last_seen_at", sa.Float(), nullable=True))
