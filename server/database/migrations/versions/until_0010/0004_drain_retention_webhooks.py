"""Workers that take no more jobs, retention, webhooks, and an audit of what people did"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "workers", sa.Column("draining", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("jobs", sa.Column("webhook", sa.String(), nullable=True))
    op.add_column("jobs", sa.Column("files_gone_at", sa.Float(), nullable=True))
    op.add_column("jobs", sa.Column("thinned_every", sa.Integer(), nullable=True))
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column(
            "job_id", sa.String(), sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.Float(), nullable=True),
    )
    op.create_index("deliveries_due", "deliveries", ["next_at"], unique=False)
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("token_id", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
    )
    op.create_index("audit_by_token", "audit", ["token_id", "id"], unique=False)
    op.create_index("audit_by_target", "audit", ["target", "id"], unique=False)
    op.create_index("jobs_by_end", "jobs", ["finished_at"], unique=False)
