"""How long an epoch of a job that waits takes, for workers that have an end"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    seconds = sa.Column("epoch_s", sa.Float(), nullable=False, server_default=sa.text("0"))
    op.add_column("jobs", seconds)
    op.drop_index("jobs_queue", table_name="jobs")
    order = ["status", "queue_rank", "owner_id", "queue_turn", "id"]
    op.create_index("jobs_queue", "jobs", [*order, "kind", "device", "memory_bytes", "epoch_s"])
