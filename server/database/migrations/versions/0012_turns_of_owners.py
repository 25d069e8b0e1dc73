"""Turns are counted by owner, priority and pool of workers"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("DROP TABLE IF EXISTS turns")
    op.create_table(
        "turns",
        sa.Column("queue_rank", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("pool", sa.String(), primary_key=True),
        sa.Column("owner_id", sa.String(), primary_key=True),
        sa.Column("turn", sa.Integer(), nullable=False),
    )
    # 0 is by now that of a job that had its turn.
    op.execute("UPDATE jobs SET queue_turn = queue_turn + 1 WHERE status = 'queued'")
    op.drop_index("jobs_queue", table_name="jobs")
    op.drop_index("jobs_turns", table_name="jobs")
    order = ["status", "queue_rank", "owner_id", "queue_turn", "id"]
    op.create_index("jobs_queue", "jobs", [*order, "kind", "device", "memory_bytes"])
    op.create_index("jobs_by_owner_and_status", "jobs", ["owner_id", "status"])
    _mend_the_first_0011()


def _mend_the_first_0011() -> None:
    """For a short time 0011 was another step: it added `clock_steps_s` and nothing else."""
    has = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("attempts")}
    if "clock_steps_s" not in has:
        return
    op.drop_column("attempts", "clock_steps_s")
    boot = sa.Column("boot_id", sa.String(), nullable=False, server_default="")
    op.add_column("attempts", boot)
    began = sa.Column("clock", sa.Float(), nullable=False, server_default=sa.text("0"))
    op.add_column("attempts", began)
    op.add_column("attempts", sa.Column("ran_s", sa.Float(), nullable=True))
    op.execute("UPDATE attempts SET ran_s = max(ended_at - started_at, 0) WHERE ended_at NOT NULL")
