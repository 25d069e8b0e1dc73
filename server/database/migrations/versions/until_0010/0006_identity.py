"""An identity of the database, which its folder knows"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "identity",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("mark", sa.Integer(), nullable=False),
    )
