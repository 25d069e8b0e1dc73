"""The last, least and largest value of each metric of a job"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

WHOLE = (
    *("trajectory_length", "max_retrain_iterations", "warmup_discarded", "converged"),
    "iterations",
)
METRICS = (
    *("epoch_time", "trajectory_length", "mean_retrain_iterations", "max_retrain_iterations"),
    *("mean_energy_error", "warmup_discarded", "acceptance_rate", "converged", "iterations"),
    *("final_pass_rate", "mean_rel_dE", "max_rel_dE", "min_energy_error", "max_energy_error"),
    *("mean_retrain_loss", "efficiency"),
)
OVER = ("last", "min", "max")


def upgrade() -> None:
    op.create_table(
        "summaries",
        sa.Column(
            "job_id", sa.String(), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("epoch", sa.Integer(), nullable=False),
        *(
            sa.Column(f"{over}_{name}", sa.Integer() if name in WHOLE else sa.Float())
            for name in METRICS
            for over in OVER
        ),
    )
    columns = ", ".join(f"{over}_{name}" for name in METRICS for over in OVER)
    extremes = ", ".join(
        f"min({name}) AS min_{name}, max({name}) AS max_{name}" for name in METRICS
    )
    chosen = ", ".join(f"l.{name}, e.min_{name}, e.max_{name}" for name in METRICS)
    op.execute(
        f"INSERT INTO summaries (job_id, epoch, {columns}) SELECT l.job_id, l.epoch, {chosen}"
        f" FROM (SELECT job_id, max(epoch) AS epoch, {extremes} FROM epochs GROUP BY job_id) AS e"
        " JOIN epochs AS l ON l.job_id = e.job_id AND l.epoch = e.epoch"
    )
