"""Adds to each checkpoint the history it belongs to: the topic's id, and a fingerprint of the record before it.

An offset alone does not identify a topic: a topic that was deleted and created again has other records at the same
offsets. Both columns are null in checkpoints of older versions, until the projector advances them. `ops.histories`
numbers the histories of a topic name, so that cursors of older versions, which name no history, stay valid for the
first history.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

IN_EVERY_GENERATION = """
DO $$
DECLARE generation text;
BEGIN
    FOR generation IN SELECT name FROM ops.generations WHERE to_regnamespace(name) IS NOT NULL ORDER BY name LOOP
        {statements}
    END LOOP;
END $$
"""

ADD = """
EXECUTE format('ALTER TABLE %I.checkpoints ADD COLUMN topic_id uuid, ADD COLUMN last_record bigint', generation);
EXECUTE format('COMMENT ON COLUMN %I.checkpoints.topic_id IS
    ''The topic that the offset counts in (Kafka''''s id); null where Kafka gives none.''', generation);
EXECUTE format('COMMENT ON COLUMN %I.checkpoints.last_record IS
    ''Fingerprint of the record before next_offset; null before the first.''', generation);
"""
DROP = """
EXECUTE format('ALTER TABLE %I.checkpoints DROP COLUMN topic_id, DROP COLUMN last_record', generation);
"""

VIEW = """
DO $$
DECLARE generation text := (SELECT name FROM ops.generations WHERE state = 'active');
BEGIN
    EXECUTE format('CREATE OR REPLACE VIEW read.checkpoints AS SELECT * FROM %I.checkpoints', generation);
END $$
"""

HISTORIES = """
CREATE TABLE ops.histories (
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    topic_id      uuid        NOT NULL,
    number        integer     NOT NULL,
    topic         text        NOT NULL,
    CONSTRAINT histories_pkey PRIMARY KEY (topic, topic_id)
);
COMMENT ON TABLE ops.histories IS 'The topics that were projected under each name, one after the other.';
COMMENT ON COLUMN ops.histories.number IS '1 for the first; more than one: the topic was deleted and made anew.';
GRANT SELECT ON ops.histories TO footfall_reader, footfall_writer;
GRANT INSERT ON ops.histories TO footfall_writer
"""


def upgrade() -> None:
    op.execute(IN_EVERY_GENERATION.format(statements=ADD))
    op.execute(VIEW)
    for statement in HISTORIES.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE ops.histories")
    op.execute("DROP VIEW read.checkpoints")
    op.execute(IN_EVERY_GENERATION.format(statements=DROP))
    op.execute(VIEW)
    op.execute("GRANT SELECT ON read.checkpoints TO footfall_reader, footfall_writer")
