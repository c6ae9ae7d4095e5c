"""Erasures: the register of them, the key of its pseudonyms, and the projector's right to delete a user's rows."""

from alembic import op

revision = "0011"
down_revision = "0009"
branch_labels = None
depends_on = None

IN_EVERY_GENERATION = """
DO $$
DECLARE generation text;
BEGIN
    FOR generation IN SELECT name FROM ops.generations LOOP
        EXECUTE replace('{statement}', '(generation)', generation);
    END LOOP;
END $$
"""
# Tables that hold rows of a user. The projector may change their rows already.
TABLES = (
    *("processed_events", "dead_letters", "user_activity", "user_activity_types", "user_sessions"),
    *("user_sessions_open", "product_views_users", "activity_hourly_users", "activity_hourly_type_users"),
)

REGISTER = """
CREATE TABLE ops.erasures (
    topic        text        NOT NULL,
    topic_id     uuid        NOT NULL,
    partition    integer     NOT NULL,
    kafka_offset bigint      NOT NULL,
    erasure_id   uuid        NOT NULL,
    tenant_id    text        NOT NULL,
    pseudonym    bytea       NOT NULL,
    requested_at timestamptz NOT NULL,
    applied_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT erasures_pkey PRIMARY KEY (topic, topic_id, partition, kafka_offset)
);
CREATE INDEX erasures_by_id ON ops.erasures (erasure_id);
CREATE TABLE ops.pseudonym_key (
    only_one boolean NOT NULL DEFAULT true,
    key      bytea   NOT NULL,
    CONSTRAINT pseudonym_key_pkey PRIMARY KEY (only_one),
    CONSTRAINT pseudonym_key_only_one CHECK (only_one),
    CONSTRAINT pseudonym_key_length CHECK (length(key) = 32)
);
INSERT INTO ops.pseudonym_key (key) SELECT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
                                                  || uuid_send(gen_random_uuid()));
GRANT SELECT, INSERT ON ops.erasures TO footfall_writer;
GRANT SELECT ON ops.pseudonym_key TO footfall_writer
"""

COMMENTS = {
    "TABLE ops.erasures": "Which users were erased, and up to which record of each partition; no ids of users.",
    "COLUMN ops.erasures.topic_id": "The topic that the offset counts in (Kafka''s id); zero where Kafka gives none.",
    "COLUMN ops.erasures.kafka_offset": "Offset of the marker: what the user did before it is forgotten.",
    "COLUMN ops.erasures.erasure_id": "The request: one marker in each partition.",
    "COLUMN ops.erasures.pseudonym": "HMAC-SHA256 of tenant and user id with ops.pseudonym_key.",
    "COLUMN ops.erasures.requested_at": "When it was asked for.",
    "COLUMN ops.erasures.applied_at": "When a projector first met the marker.",
    "TABLE ops.pseudonym_key": "The random key of every pseudonym in this database.",
}


def upgrade() -> None:
    for statement in REGISTER.split(";"):
        op.execute(statement)
    for target, comment in COMMENTS.items():
        op.execute(f"COMMENT ON {target} IS '{comment}'")
    _every_table("GRANT DELETE ON {table} TO footfall_writer")


def downgrade() -> None:
    """Refuses while someone is erased: without the register a rebuild would show them for a while."""
    op.execute(
        """DO $$ BEGIN IF EXISTS (SELECT FROM ops.erasures) THEN
        RAISE EXCEPTION 'users were erased; this version knows who, and an earlier one would not'; END IF; END $$"""
    )
    _every_table("REVOKE DELETE ON {table} FROM footfall_writer", but=("user_sessions_open",))
    op.execute("DROP TABLE ops.erasures, ops.pseudonym_key")


def _every_table(statement: str, but: tuple[str, ...] = ()) -> None:
    for table in TABLES:
        if table not in but:
            op.execute(IN_EVERY_GENERATION.format(statement=statement.format(table=f"(generation).{table}")))
