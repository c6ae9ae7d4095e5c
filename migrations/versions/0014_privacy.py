"""Retention in days, and erasure by a function: so the projector needs no right to delete what it likes."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE ops.retention (
    tenant_id  text        NOT NULL,
    what       text        NOT NULL,
    event_type text        NOT NULL DEFAULT '',
    days       integer     NOT NULL,
    set_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT retention_pkey PRIMARY KEY (tenant_id, what, event_type),
    CONSTRAINT retention_what CHECK (what IN ('events', 'dead_letters')),
    CONSTRAINT retention_days CHECK (days BETWEEN 1 AND 36500),
    CONSTRAINT retention_type CHECK (what = 'events' OR event_type = '')
)
"""
# Of every table of a generation that has rows of users, those of these users in these partitions. Whatever a generation
# has counted of a partition when it meets the marker came before the marker, so rows of an hour go whatever their
# events: some may be gone by retention. The hours, for the index, are those that have counts, which nothing deletes.
ERASE = """
CREATE FUNCTION ops.erase_users(
    generation text, tenants text[], users text[], partitions integer[], offsets bigint[], topic text
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    found record;
    gone text := 'SELECT * FROM unnest($1, $2, $3, $4) AS gone(tenant_id, user_id, kafka_partition, kafka_offset)';
    those text;
    more text;
BEGIN
    IF NOT EXISTS (SELECT FROM ops.generations AS known WHERE known.name = generation) THEN
        RAISE EXCEPTION 'there is no generation %', generation;
    END IF;
    FOR found IN
        SELECT c.relname AS name, bool_or(a.attname = 'hour') AS hourly,
               bool_or(a.attname = 'kafka_offset') AS is_events
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = to_regnamespace(generation) AND c.relkind = 'r'
        GROUP BY c.oid, c.relname
        HAVING count(*) FILTER (WHERE a.attname IN ('tenant_id', 'user_id', 'kafka_partition')) = 3
        ORDER BY is_events, name
    LOOP
        those := gone;
        more := '';
        IF found.hourly THEN
            those := format('SELECT gone.*, hours.hour FROM (%s) AS gone JOIN (
                SELECT DISTINCT tenant_id, hour, kafka_partition FROM %I.activity_hourly WHERE tenant_id = ANY ($1)
                ) AS hours USING (tenant_id, kafka_partition)', gone, generation);
            more := ' AND stored.hour = those.hour';
        ELSIF found.is_events THEN
            more := ' AND (stored.kafka_offset < those.kafka_offset OR stored.kafka_topic <> $5)';
        END IF;
        EXECUTE format('DELETE FROM %I.%I AS stored USING (%s) AS those WHERE stored.tenant_id = those.tenant_id
            AND stored.user_id = those.user_id AND stored.kafka_partition = those.kafka_partition%s',
            generation, found.name, those, more) USING tenants, users, partitions, offsets, topic;
    END LOOP;
END
$function$
"""
GRANTS = (
    "REVOKE ALL ON FUNCTION ops.erase_users FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION ops.erase_users TO footfall_writer",
    "COMMENT ON FUNCTION ops.erase_users IS 'Deletes the rows of users from before their markers.'",
)
# What migration 0011 granted.
TABLES = (
    *("processed_events", "dead_letters", "user_activity", "user_activity_types", "user_sessions"),
    *("product_views_users", "activity_hourly_users", "activity_hourly_type_users"),
)
IN_EVERY_GENERATION = """
DO $$
DECLARE generation text;
BEGIN
    FOR generation IN SELECT name FROM ops.generations WHERE to_regnamespace(name) IS NOT NULL LOOP
        EXECUTE replace('{statement}', '(generation)', generation);
    END LOOP;
END $$
"""
COMMENTS = {
    "TABLE ops.retention": "For how long the read model keeps what; a tenant without a line keeps everything.",
    "COLUMN ops.retention.what": "events (with sessions and hours of users) or dead_letters.",
    "COLUMN ops.retention.event_type": "Events of this type; empty: of every type without a line of its own.",
    "COLUMN ops.retention.days": "From the timestamp of an event, or from the end of a dead letter.",
}


def upgrade() -> None:
    for statement in (TABLE, ERASE, *GRANTS):
        op.execute(statement.replace(":", r"\:"))  # SQLAlchemy takes a colon for a parameter
    for target, comment in COMMENTS.items():
        op.execute(f"COMMENT ON {target} IS '{comment}'")
    _every_table("REVOKE DELETE ON {table} FROM footfall_writer")


def downgrade() -> None:
    _every_table("GRANT DELETE ON {table} TO footfall_writer")
    op.execute("DROP FUNCTION ops.erase_users")
    op.execute("DROP TABLE ops.retention")


def _every_table(statement: str) -> None:
    for table in TABLES:
        op.execute(IN_EVERY_GENERATION.format(statement=statement.format(table=f"(generation).{table}")))
