"""Adds indexes for events by user, by product and in log order, and the key that signs cursors.

Each index costs the projector time for every event, so there are indexes only for queries that would otherwise read the
whole table. They are created in every generation of the register. Creating them blocks the projectors, not the queries.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# The index by position is not unique: a topic that was deleted and created again starts at offset 0 again. It does not
# contain the topic: a generation holds one topic, whose name would double the size of the index. Product ids have at
# most 256 characters; a longer text is not a product id, and would not fit into an index.
INDEXES = {
    "processed_events_by_user": "(tenant_id, user_id, occurred_at, event_id)",
    "processed_events_by_product": "(tenant_id, (payload ->> ''productId''), occurred_at, event_id)"
    " WHERE event_type = ''PRODUCT_VIEW'' AND length(payload ->> ''productId'') <= 256",
    "processed_events_by_position": "(kafka_partition, kafka_offset)",
}

IN_EVERY_GENERATION = """
DO $$
DECLARE generation text;
BEGIN
    FOR generation IN SELECT name FROM ops.generations WHERE to_regnamespace(name) IS NOT NULL ORDER BY name LOOP
        EXECUTE format('{statement}', generation);
    END LOOP;
END $$
"""

# A random key, the same for every process that reads this database. PostgreSQL's random UUIDs are cryptographically
# strong.
CURSOR_KEY = """
CREATE TABLE ops.secrets (
    name       text        NOT NULL,
    value      bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT secrets_pkey PRIMARY KEY (name)
);
COMMENT ON TABLE ops.secrets IS 'Keys that every query side shares; each is random and made by the migration.';
INSERT INTO ops.secrets (name, value)
VALUES ('cursors', sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')));
GRANT SELECT ON ops.secrets TO footfall_reader
"""


def upgrade() -> None:
    for part in CURSOR_KEY.split(";\n"):
        op.execute(part)
    for name, definition in INDEXES.items():
        statement = f"CREATE INDEX {name} ON %I.processed_events {definition}"
        op.execute(IN_EVERY_GENERATION.format(statement=statement))


def downgrade() -> None:
    op.execute("DROP TABLE ops.secrets")
    for name in INDEXES:
        op.execute(IN_EVERY_GENERATION.format(statement=f"DROP INDEX %I.{name}"))
