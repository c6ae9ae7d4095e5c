"""The first generation of the read model, its views, and the roles that may use them."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROLES = """
DO $$
DECLARE wanted text;
BEGIN
    -- Roles belong to the cluster, not to this database: they may be there already, or come at the same moment.
    FOREACH wanted IN ARRAY ARRAY['footfall_reader', 'footfall_writer'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
            END;
        END IF;
    END LOOP;
END $$
"""

PROCESSED_EVENTS = """
CREATE TABLE read_g1.processed_events (
    kafka_offset    bigint      NOT NULL,
    occurred_at     timestamptz NOT NULL,
    recorded_at     timestamptz NOT NULL,
    projected_at    timestamptz NOT NULL DEFAULT now(),
    event_id        uuid        NOT NULL,
    kafka_partition integer     NOT NULL,
    kafka_topic     text        NOT NULL,
    user_id         text        NOT NULL,
    event_type      text        NOT NULL,
    payload         jsonb       NOT NULL,
    event_json      text        NOT NULL,
    CONSTRAINT processed_events_event_id_key UNIQUE (event_id)
)
"""

CHECKPOINTS = """
CREATE TABLE read_g1.checkpoints (
    topic       text        NOT NULL,
    partition   integer     NOT NULL,
    next_offset bigint      NOT NULL,
    epoch       bigint      NOT NULL,
    owner       text        NOT NULL,
    stored      bigint      NOT NULL DEFAULT 0,
    duplicates  bigint      NOT NULL DEFAULT 0,
    malformed   bigint      NOT NULL DEFAULT 0,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT checkpoints_pkey PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50)
"""

COMMENTS = {
    "TABLE read_g1.processed_events": "Every event, exactly once.",
    "COLUMN read_g1.processed_events.kafka_offset": "Offset of the record the event came in.",
    "COLUMN read_g1.processed_events.occurred_at": "When it happened (the event's timestamp).",
    "COLUMN read_g1.processed_events.recorded_at": "When Kafka's record was made.",
    "COLUMN read_g1.processed_events.projected_at": "When the projector stored it.",
    "COLUMN read_g1.processed_events.event_id": "Unique id of the event.",
    "COLUMN read_g1.processed_events.kafka_partition": "Partition of the record.",
    "COLUMN read_g1.processed_events.kafka_topic": "Topic of the record.",
    "COLUMN read_g1.processed_events.user_id": "Who acted.",
    "COLUMN read_g1.processed_events.event_type": "LOGIN, LOGOUT or PRODUCT_VIEW.",
    "COLUMN read_g1.processed_events.payload": "Free-form details, for SQL.",
    "COLUMN read_g1.processed_events.event_json": "The event as queries answer it: rendered once, when stored.",
    "TABLE read_g1.checkpoints": "Where each partition stands; moved in the same transaction as the rows.",
    "COLUMN read_g1.checkpoints.next_offset": "The next offset to process.",
    "COLUMN read_g1.checkpoints.epoch": "Raised by each new owner; an older owner can change nothing.",
    "COLUMN read_g1.checkpoints.owner": "Who projects this partition: host, process, start.",
    "COLUMN read_g1.checkpoints.stored": "Events stored.",
    "COLUMN read_g1.checkpoints.duplicates": "Records skipped as duplicates.",
    "COLUMN read_g1.checkpoints.malformed": "Records skipped as malformed.",
}


def upgrade() -> None:
    op.execute(ROLES)
    op.execute("CREATE SCHEMA read_g1")
    op.execute("CREATE SCHEMA read")
    op.execute(PROCESSED_EVENTS)
    op.execute("CREATE INDEX processed_events_by_time ON read_g1.processed_events (occurred_at, event_id)")
    op.execute(CHECKPOINTS)
    for target, comment in COMMENTS.items():
        quoted = comment.replace("'", "''")
        op.execute(f"COMMENT ON {target} IS '{quoted}'")
    op.execute("CREATE VIEW read.processed_events AS SELECT * FROM read_g1.processed_events")
    op.execute("CREATE VIEW read.checkpoints AS SELECT * FROM read_g1.checkpoints")
    op.execute("GRANT USAGE ON SCHEMA read TO footfall_reader, footfall_writer")
    op.execute("GRANT SELECT ON read.processed_events, read.checkpoints TO footfall_reader, footfall_writer")
    op.execute("GRANT USAGE ON SCHEMA read_g1 TO footfall_writer")
    op.execute("GRANT SELECT, INSERT ON read_g1.processed_events TO footfall_writer")
    op.execute("GRANT SELECT, INSERT, UPDATE ON read_g1.checkpoints TO footfall_writer")


def downgrade() -> None:
    # Keep the roles: other databases of the cluster may use them.
    op.execute("DROP SCHEMA read CASCADE")
    op.execute("DROP SCHEMA read_g1 CASCADE")
