"""How files travel between a worker and the server"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("files", sa.String(), nullable=False, server_default="shared")
    op.add_column("workers", column)
