"""What each owner stores, kept up to date by the database itself"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

EPOCH_BYTES = 250  # of an epoch's row, about
# Bytes in the database of a job's row and what hangs on it, `of` being a row of jobs.
ROWS = f"({{of}}.base_bytes + {{of}}.log_bytes + {EPOCH_BYTES} * {{of}}.epochs_done)"
ADD = """
INSERT INTO usage (owner_id, row_bytes, file_bytes) VALUES ({of}.owner_id, {rows}, {files})
    ON CONFLICT (owner_id) DO UPDATE
    SET row_bytes = row_bytes + excluded.row_bytes, file_bytes = file_bytes + excluded.file_bytes;
"""


def upgrade() -> None:
    for name in ("base_bytes", "file_bytes"):
        column = sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
        op.add_column("jobs", column)
    op.create_table(
        "usage",
        sa.Column("owner_id", sa.String(), primary_key=True),
        sa.Column("row_bytes", sa.BigInteger(), nullable=False),
        sa.Column("file_bytes", sa.BigInteger(), nullable=False),
    )
    op.execute(
        "UPDATE jobs SET base_bytes = 1000 + length(config) + length(labels) + length(warnings)"
        " + coalesce(length(result), 0), file_bytes ="
        " (SELECT coalesce(sum(bytes), 0) FROM checkpoints WHERE job_id = jobs.id)"
        " + (SELECT coalesce(sum(bytes), 0) FROM artifacts WHERE job_id = jobs.id)"
    )
    op.execute(
        "INSERT INTO usage (owner_id, row_bytes, file_bytes) SELECT owner_id,"
        f" sum({ROWS.format(of='jobs')}), sum(file_bytes) FROM jobs GROUP BY owner_id"
    )
    new = {"of": "new", "rows": ROWS.format(of="new"), "files": "new.file_bytes"}
    old = {"of": "old", "rows": f"-{ROWS.format(of='old')}", "files": "-old.file_bytes"}
    op.execute(f"CREATE TRIGGER usage_more AFTER INSERT ON jobs BEGIN {ADD.format(**new)} END")
    op.execute(f"CREATE TRIGGER usage_less AFTER DELETE ON jobs BEGIN {ADD.format(**old)} END")
    difference = {
        "of": "new",
        "rows": f"{ROWS.format(of='new')} - {ROWS.format(of='old')}",
        "files": "new.file_bytes - old.file_bytes",
    }
    op.execute(
        "CREATE TRIGGER usage_other AFTER UPDATE OF"
        " base_bytes, file_bytes, log_bytes, epochs_done ON jobs"
        f" BEGIN {ADD.format(**difference)} END"
    )
    for table in ("checkpoints", "artifacts"):
        op.execute(
            f"CREATE TRIGGER usage_of_{table} AFTER INSERT ON {table} BEGIN"
            " UPDATE jobs SET file_bytes = file_bytes + new.bytes WHERE id = new.job_id; END"
        )
        op.execute(
            f"CREATE TRIGGER usage_without_{table} AFTER DELETE ON {table} BEGIN"
            " UPDATE jobs SET file_bytes = file_bytes - old.bytes WHERE id = old.job_id; END"
        )
