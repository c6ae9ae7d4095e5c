"""Indexes for events of one user, of one product and in the order of the log; and the key that signs cursors.

Each index costs the projector on every event, so there is one for each question that would read the whole table without
it. They are made in every generation that the register lists. Making them holds up the projectors, not the queries.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Not unique by position: a topic that was deleted and made again begins anew at offset 0.
# The topic is left out: a generation holds one, and its name would double the size of the index. Products have at most
# 256 characters; what is longer is none, and would not fit into an index.
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

# Random, and the same for every process that reads this database. What PostgreSQL calls strong are its random UUIDs.
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
