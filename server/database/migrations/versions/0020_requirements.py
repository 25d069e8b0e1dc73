"""What jobs ask of workers, and why a worker takes none"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

OF_JOBS = (
    sa.Column("requires", sa.JSON(), nullable=False, server_default="{}"),
    sa.Column("gpu_bytes", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
    sa.Column("needs", sa.String(), nullable=False, server_default="[]"),
)
ORDER = ("status", "queue_rank", "owner_id", "queue_turn", "id")
TOLD = ("kind", "device", "memory_bytes", "epoch_s", "gpu_bytes", "needs")


def upgrade() -> None:
    for column in OF_JOBS:
        op.add_column("jobs", column)
    op.drop_index("jobs_queue", table_name="jobs")
    op.create_index("jobs_queue", "jobs", [*ORDER, *TOLD])
    labels = sa.Column("labels", sa.JSON(), nullable=False, server_default="{}")
    op.add_column("workers", labels)
    op.add_column("workers", sa.Column("trouble", sa.String()))
