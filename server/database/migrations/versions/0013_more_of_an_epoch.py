"""Epochs have the least and largest energy error, the loss of retraining, the efficiency"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

COLUMNS = ("min_energy_error", "max_energy_error", "mean_retrain_loss", "efficiency")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("epochs", sa.Column(name, sa.Float(), nullable=True))
