"""By how much the clock was moved while an attempt ran"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    steps = sa.Column("clock_steps_s", sa.Float(), nullable=False, server_default=sa.text("0"))
    op.add_column("attempts", steps)
