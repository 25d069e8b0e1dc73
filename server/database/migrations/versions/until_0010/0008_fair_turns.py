"""Turns of owners in the queue"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    turn = sa.Column("queue_turn", sa.Integer(), nullable=False, server_default="0")
    op.add_column("jobs", turn)
    op.drop_index("jobs_queue", table_name="jobs")
    op.create_index("jobs_queue", "jobs", ["status", "queue_rank", "queue_turn", "id"])
    op.create_index("jobs_turns", "jobs", ["owner_id", "status", "queue_rank", "queue_turn"])
