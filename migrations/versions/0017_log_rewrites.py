"""Rewrites of the log without erased users: which topic continues which, and how far a rewrite is."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
CREATE TABLE ops.log_rewrites (
    number           integer     NOT NULL,
    topic            text        NOT NULL,
    new_topic        text        NOT NULL,
    dead_letters     text        NOT NULL,
    new_dead_letters text        NOT NULL,
    topic_id         uuid        NOT NULL,
    covered          jsonb       NOT NULL,
    configs          jsonb       NOT NULL,
    compared         jsonb       NOT NULL DEFAULT '{}',
    keeps_counts     boolean     NOT NULL,
    secret           bytea,
    state            text        NOT NULL DEFAULT 'copying',
    started_at       timestamptz NOT NULL DEFAULT now(),
    switched_at      timestamptz,
    finished_at      timestamptz,
    CONSTRAINT log_rewrites_pkey PRIMARY KEY (number),
    CONSTRAINT log_rewrites_state CHECK (state IN ('copying', 'switched', 'finished'))
)""",
    "CREATE UNIQUE INDEX log_rewrites_one_at_a_time ON ops.log_rewrites ((true)) WHERE state <> 'finished'",
    "ALTER TABLE ops.histories ADD COLUMN continues uuid",
)
COMMENTS = {
    "TABLE ops.log_rewrites": "Topics that were copied without erased users; only the owner reads it.",
    "COLUMN ops.log_rewrites.covered": "By partition, the end of the log when it began: later erasures are not in it.",
    "COLUMN ops.log_rewrites.configs": "The configuration of both old topics, which the new ones get at the switch.",
    "COLUMN ops.log_rewrites.compared": "By topic and partition, how far old and new were compared.",
    "COLUMN ops.log_rewrites.secret": "Names the stubs of erased users; forgotten when the old topics are deleted.",
    "COLUMN ops.histories.continues": "The topic whose records this one has at the same offsets: it was rewritten.",
}


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    for target, comment in COMMENTS.items():
        op.execute(f"COMMENT ON {target} IS '{comment}'")


def downgrade() -> None:
    """Refuses while the log has another name than it had: an earlier version would call it another history."""
    op.execute(
        """DO $$ BEGIN IF EXISTS (SELECT FROM ops.log_rewrites) THEN
        RAISE EXCEPTION 'the log was rewritten, which an earlier version does not know'; END IF; END $$"""
    )
    op.execute("ALTER TABLE ops.histories DROP COLUMN continues")
    op.execute("DROP TABLE ops.log_rewrites")
