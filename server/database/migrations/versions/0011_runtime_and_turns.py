"""How long attempts ran, by a clock that nobody moves; whose turn it was last"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    boot = sa.Column("boot_id", sa.String(), nullable=False, server_default="")
    op.add_column("attempts", boot)
    began = sa.Column("clock", sa.Float(), nullable=False, server_default=sa.text("0"))
    op.add_column("attempts", began)
    op.add_column("attempts", sa.Column("ran_s", sa.Float(), nullable=True))
    op.execute("UPDATE attempts SET ran_s = max(ended_at - started_at, 0) WHERE ended_at NOT NULL")
    op.create_table(
        "turns",
        sa.Column("queue_rank", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("turn", sa.Integer(), nullable=False),
    )
