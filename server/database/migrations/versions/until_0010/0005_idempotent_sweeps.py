"""Idempotency keys of sweeps"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("idempotency_keys") as table:
        table.alter_column("job_id", existing_type=sa.String(), nullable=True)
        table.add_column(sa.Column("sweep_id", sa.String(), nullable=True))
        table.create_foreign_key(
            "idempotency_keys_of_sweeps", "sweeps", ["sweep_id"], ["id"], ondelete="CASCADE"
        )
