"""Where each attempt ran, and with what"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("whereabouts", sa.JSON(), nullable=True))
