"""The history of the console's graphs has the lag of each partition, too."""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "ALTER TABLE ops.history ADD COLUMN lags bigint[], ADD CONSTRAINT history_lags CHECK (cardinality(lags) <= 100)"
    )
    op.execute(
        "COMMENT ON COLUMN ops.history.lags IS "
        "'Events that each partition was behind, the first one first; of a minute, the most.'"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE ops.history DROP COLUMN lags")
