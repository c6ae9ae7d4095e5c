"""Adds the tenant to every key, the table of dead letters, and the register of generations."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# The collation "C" compares code points: this is cheaper, and the same on every server.
TENANTS = """
ALTER TABLE read_g1.processed_events
    ADD COLUMN tenant_id text COLLATE "C" NOT NULL DEFAULT 'default',
    DROP CONSTRAINT processed_events_event_id_key,
    ADD CONSTRAINT processed_events_event_id_key UNIQUE (tenant_id, event_id);
ALTER TABLE read_g1.processed_events ALTER COLUMN tenant_id DROP DEFAULT;
DROP INDEX read_g1.processed_events_by_time;
CREATE INDEX processed_events_by_time ON read_g1.processed_events (tenant_id, occurred_at, event_id);
CREATE OR REPLACE VIEW read.processed_events AS SELECT * FROM read_g1.processed_events
"""

NO_TENANTS = """
DROP VIEW read.processed_events;
DELETE FROM read_g1.processed_events WHERE tenant_id <> 'default';
ALTER TABLE read_g1.processed_events
    DROP CONSTRAINT processed_events_event_id_key,
    ADD CONSTRAINT processed_events_event_id_key UNIQUE (event_id);
DROP INDEX read_g1.processed_events_by_time;
CREATE INDEX processed_events_by_time ON read_g1.processed_events (occurred_at, event_id);
ALTER TABLE read_g1.processed_events DROP COLUMN tenant_id;
CREATE VIEW read.processed_events AS SELECT * FROM read_g1.processed_events;
GRANT SELECT ON read.processed_events TO footfall_reader, footfall_writer
"""

STOPPED = """
ALTER TABLE read_g1.checkpoints ADD COLUMN stopped_reason text, ADD COLUMN stopped_at timestamptz;
CREATE OR REPLACE VIEW read.checkpoints AS SELECT * FROM read_g1.checkpoints
"""

NOT_STOPPED = """
DROP VIEW read.checkpoints;
ALTER TABLE read_g1.checkpoints DROP COLUMN stopped_reason, DROP COLUMN stopped_at;
CREATE VIEW read.checkpoints AS SELECT * FROM read_g1.checkpoints;
GRANT SELECT ON read.checkpoints TO footfall_reader, footfall_writer
"""

DEAD_LETTERS = """
CREATE TABLE read_g1.dead_letters (
    kafka_offset    bigint      NOT NULL,
    recorded_at     timestamptz NOT NULL,
    parked_at       timestamptz NOT NULL DEFAULT now(),
    behind_offset   bigint,
    published_at    timestamptz,
    resolved_at     timestamptz,
    kafka_partition integer     NOT NULL,
    attempts        integer     NOT NULL DEFAULT 1,
    kafka_topic     text        NOT NULL,
    cause           text        NOT NULL,
    state           text        NOT NULL DEFAULT 'parked',
    error_class     text        NOT NULL,
    error_message   text        NOT NULL,
    user_id         text,
    resolved_by     text,
    record_key      bytea,
    record_value    bytea,
    header_names    text[]      NOT NULL,
    header_values   bytea[]     NOT NULL,
    CONSTRAINT dead_letters_pkey PRIMARY KEY (kafka_topic, kafka_partition, kafka_offset),
    CONSTRAINT dead_letters_cause CHECK (cause IN ('poison', 'newer_version', 'behind')),
    CONSTRAINT dead_letters_state CHECK (state IN ('parked', 'redriven', 'discarded'))
);
CREATE INDEX dead_letters_parked ON read_g1.dead_letters (kafka_topic, kafka_partition, kafka_offset)
    WHERE state = 'parked';
CREATE INDEX dead_letters_unpublished ON read_g1.dead_letters (kafka_topic, kafka_partition, kafka_offset)
    WHERE published_at IS NULL;
CREATE VIEW read.dead_letters AS
SELECT kafka_topic, kafka_partition, kafka_offset, recorded_at, parked_at, cause, state, error_class, error_message,
       behind_offset, attempts, published_at, resolved_at, resolved_by
FROM read_g1.dead_letters;
GRANT SELECT, INSERT, UPDATE ON read_g1.dead_letters TO footfall_writer;
GRANT SELECT ON read.dead_letters TO footfall_reader, footfall_writer
"""

GENERATIONS = """
CREATE SCHEMA ops;
CREATE SEQUENCE ops.generation_number START 2;
CREATE TABLE ops.generations (
    name         text        NOT NULL,
    state        text        NOT NULL,
    max_rate     integer,
    holds        jsonb,
    held_until   timestamptz,
    verified     jsonb,
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text        NOT NULL DEFAULT current_user,
    verified_at  timestamptz,
    promoted_at  timestamptz,
    demoted_at   timestamptz,
    CONSTRAINT generations_pkey PRIMARY KEY (name),
    CONSTRAINT generations_name CHECK (name ~ '^read_g[1-9][0-9]{0,5}$'),
    CONSTRAINT generations_state CHECK (state IN ('active', 'building', 'paused', 'standby', 'dropping')),
    CONSTRAINT generations_max_rate CHECK (max_rate > 0),
    CONSTRAINT generations_one_each EXCLUDE USING btree (state WITH =) WHERE (state IN ('active', 'standby'))
        DEFERRABLE INITIALLY DEFERRED
);
CREATE UNIQUE INDEX generations_one_build ON ops.generations ((true)) WHERE state IN ('building', 'paused');
INSERT INTO ops.generations (name, state, promoted_at) VALUES ('read_g1', 'active', now());
CREATE TABLE ops.journal (
    id     bigint      GENERATED ALWAYS AS IDENTITY,
    at     timestamptz NOT NULL DEFAULT now(),
    actor  text        NOT NULL,
    action text        NOT NULL,
    detail jsonb       NOT NULL,
    CONSTRAINT journal_pkey PRIMARY KEY (id)
);
GRANT USAGE ON SCHEMA ops TO footfall_reader, footfall_writer;
GRANT SELECT ON ops.generations TO footfall_reader, footfall_writer;
GRANT SELECT ON ops.journal TO footfall_reader;
GRANT SELECT, INSERT ON ops.journal TO footfall_writer
"""

COMMENTS = {
    "COLUMN read_g1.processed_events.tenant_id": "Whose event it is.",
    "COLUMN read_g1.checkpoints.stopped_reason": "Why its owner stopped; null while it goes on.",
    "COLUMN read_g1.checkpoints.stopped_at": "Since when it stands still.",
    "TABLE read_g1.dead_letters": "Records that could not be applied, and those parked behind them, as they came.",
    "COLUMN read_g1.dead_letters.kafka_offset": "Offset of the record.",
    "COLUMN read_g1.dead_letters.recorded_at": "When Kafka's record was made.",
    "COLUMN read_g1.dead_letters.parked_at": "When it was set aside.",
    "COLUMN read_g1.dead_letters.behind_offset": "Offset of the first parked record of its key, which it waits behind.",
    "COLUMN read_g1.dead_letters.published_at": "When it was published to the dead-letter topic.",
    "COLUMN read_g1.dead_letters.resolved_at": "When it was redriven or discarded.",
    "COLUMN read_g1.dead_letters.kafka_partition": "Partition of the record.",
    "COLUMN read_g1.dead_letters.attempts": "How often it was tried.",
    "COLUMN read_g1.dead_letters.kafka_topic": "Topic of the record.",
    "COLUMN read_g1.dead_letters.cause": "poison, newer_version, or behind: it waits for an earlier one.",
    "COLUMN read_g1.dead_letters.state": "parked, redriven (its event is applied) or discarded.",
    "COLUMN read_g1.dead_letters.error_class": "The kind of error.",
    "COLUMN read_g1.dead_letters.error_message": "What was wrong, in words; nothing of the value.",
    "COLUMN read_g1.dead_letters.user_id": "The user, as the key names them; null without a readable key.",
    "COLUMN read_g1.dead_letters.resolved_by": "Who redrove or discarded it.",
    "COLUMN read_g1.dead_letters.record_key": "The record's key, byte for byte.",
    "COLUMN read_g1.dead_letters.record_value": "The record's value, byte for byte.",
    "COLUMN read_g1.dead_letters.header_names": "Names of the record's headers, in order.",
    "COLUMN read_g1.dead_letters.header_values": "Their values, in the same order.",
    "TABLE ops.generations": "Every generation of the read model, and what it is for now.",
    "COLUMN ops.generations.state": "active (queries see it), building, paused, standby (to roll back to), dropping.",
    "COLUMN ops.generations.max_rate": "Events a second, over all projectors, while it is built; null: no cap.",
    "COLUMN ops.generations.holds": "Partition to offset beyond which no projector goes, until held_until.",
    "COLUMN ops.generations.held_until": "When holds end by themselves, should whoever set them be gone.",
    "COLUMN ops.generations.verified": "Partition to offset at which it was last found equal to the active one.",
    "TABLE ops.journal": "What operators did, who and when.",
}


def upgrade() -> None:
    for block in (TENANTS, STOPPED, DEAD_LETTERS, GENERATIONS):
        _run(block)
    for target, comment in COMMENTS.items():
        op.execute("COMMENT ON {} IS '{}'".format(target, comment.replace("'", "''")))


def downgrade() -> None:
    for block in (
        "DROP SCHEMA ops CASCADE",
        "DROP VIEW read.dead_letters; DROP TABLE read_g1.dead_letters",
        NOT_STOPPED,
        NO_TENANTS,
    ):
        _run(block)


def _run(block: str) -> None:
    for statement in block.split(";"):
        op.execute(statement)
