"""The history that the console draws: a row each ten seconds for six hours, and one each minute for seven days."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE ops.history (
    seconds      smallint         NOT NULL,
    at           timestamptz      NOT NULL,
    accepted     double precision,
    refused      double precision,
    projected    double precision,
    lag          double precision,
    lag_seconds  double precision,
    post_p50     double precision,
    post_p99     double precision,
    visible_p50  double precision,
    visible_p99  double precision,
    dead_letters double precision,
    streams      double precision,
    CONSTRAINT history_pkey PRIMARY KEY (seconds, at),
    CONSTRAINT history_seconds CHECK (seconds IN (10, 60))
)
"""
COMMENTS = {
    "TABLE ops.history": "What the console draws: 2,160 rows of ten seconds and 10,080 of a minute, at most.",
    "COLUMN ops.history.seconds": "The time that the row is about: 10 or 60.",
    "COLUMN ops.history.at": "Its end.",
    "COLUMN ops.history.accepted": "Records a second that reached the log; NULL here and below: not known.",
    "COLUMN ops.history.lag": "Events that the active generation was behind; of a minute, the most.",
    "COLUMN ops.history.lag_seconds": "Age of the oldest of them; of a minute, the most.",
}


def upgrade() -> None:
    op.execute(TABLE)
    for target, comment in COMMENTS.items():
        op.execute(f"COMMENT ON {target} IS '{comment}'")
    op.execute("GRANT SELECT ON ops.history TO footfall_reader")


def downgrade() -> None:
    op.execute("DROP TABLE ops.history")
