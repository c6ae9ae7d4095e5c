"""Adds the ledger of late events for the feed, and the event ids of dead letters.

A redriven event appears at an offset that readers of the feed have already passed. The ledger numbers such events, for
each partition in commit order, and a feed cursor carries that number beside the offset. The ledger belongs to no
generation, because cursors outlive generations.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

LATE_EVENTS = """
CREATE TABLE ops.late_events (
    number       bigint      NOT NULL,
    kafka_offset bigint      NOT NULL,
    came_at      timestamptz NOT NULL DEFAULT now(),
    partition    integer     NOT NULL,
    topic        text        NOT NULL,
    CONSTRAINT late_events_pkey PRIMARY KEY (topic, partition, number)
);
CREATE INDEX late_events_by_position ON ops.late_events (topic, partition, kafka_offset);
COMMENT ON TABLE ops.late_events IS 'Events that became visible below a checkpoint, numbered in order of commit.';
COMMENT ON COLUMN ops.late_events.number IS 'One more than the last of its partition; from 1.';
COMMENT ON COLUMN ops.late_events.kafka_offset IS 'Offset of the record the event came in.';
GRANT SELECT ON ops.late_events TO footfall_reader, footfall_writer;
GRANT INSERT ON ops.late_events TO footfall_writer
"""

# A producer may write any bytes into the header. They are escaped to be text, and cut to fit into an index.
EVENT_ID = "left(encode(header_values[array_position(header_names, 'event-id')], 'escape'), 64)"

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
EXECUTE format('CREATE INDEX dead_letters_by_event ON %I.dead_letters (({}))', generation);
""".format(EVENT_ID.replace("'", "''"))

DROP = "EXECUTE format('DROP INDEX %I.dead_letters_by_event', generation);"

COLUMNS = """kafka_topic, kafka_partition, kafka_offset, recorded_at, parked_at, cause, state, error_class,
error_message, behind_offset, attempts, published_at, resolved_at, resolved_by"""

VIEW = """
DO $$
DECLARE generation text := (SELECT name FROM ops.generations WHERE state = 'active');
BEGIN
    EXECUTE format('CREATE OR REPLACE VIEW read.dead_letters AS SELECT {columns} FROM %I.dead_letters', generation);
END $$
"""


def upgrade() -> None:
    for statement in LATE_EVENTS.split(";\n"):
        op.execute(statement)
    op.execute(IN_EVERY_GENERATION.format(statements=ADD))
    event_id = EVENT_ID.replace("'", "''")
    op.execute(VIEW.format(columns=f"{COLUMNS}, {event_id} AS event_id"))
    op.execute("COMMENT ON COLUMN read.dead_letters.event_id IS 'Its event, as the header event-id names it.'")


def downgrade() -> None:
    op.execute("DROP VIEW read.dead_letters")
    op.execute(VIEW.format(columns=COLUMNS))
    op.execute("GRANT SELECT ON read.dead_letters TO footfall_reader, footfall_writer")
    op.execute(IN_EVERY_GENERATION.format(statements=DROP))
    op.execute("DROP TABLE ops.late_events")
