"""Erasure reads what it deletes by index, whatever the planner believes about the tables.

Statistics of tables that were filled a moment ago say little of them. With such, the planner once read all users of an
hour for each user to erase: 1,000 of 10,000 users took minutes, or a second, by chance.
"""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

# Of every table of a generation that has rows of users, those of these users in these partitions. Whatever a generation
# has counted of a partition when it meets the marker came before the marker, so rows of an hour go whatever their
# events: some may be gone by retention.
#
# `OFFSET 0` keeps the planner from turning a look by index into a join, and nothing but such looks needs a nested loop.
# Tables by hour are keyed by it. The user's hours are those that have counts, which nothing deletes, between the
# first and the last event. Of many users with many hours, one pass over the table costs less than so many looks.
ERASE = """
CREATE OR REPLACE FUNCTION ops.erase_users(
    generation text, tenants text[], users text[], partitions integer[], offsets bigint[], topic text
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_nestloop = off SET jit = off AS $function$
DECLARE
    found record;
    gone text := 'unnest($1, $2, $3, $4) AS gone(tenant_id, user_id, kafka_partition, kafka_offset)';
    seen text := format('SELECT gone.tenant_id, gone.user_id, gone.kafka_partition, seen.* FROM %s CROSS JOIN LATERAL (
        SELECT first_seen - interval ''1 hour'' AS first, last_seen AS last FROM %I.user_activity AS stored
        WHERE stored.tenant_id = gone.tenant_id AND stored.user_id = gone.user_id
          AND stored.kafka_partition = gone.kafka_partition OFFSET 0) AS seen', gone, generation);
    hours text := format('SELECT DISTINCT tenant_id, hour FROM %I.activity_hourly WHERE tenant_id = ANY (
        SELECT DISTINCT tenant_id FROM seen) AND hour BETWEEN (SELECT min(first) FROM seen)
        AND (SELECT max(last) FROM seen)', generation);
    looks bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM ops.generations AS known WHERE known.name = generation) THEN
        RAISE EXCEPTION 'there is no generation %', generation;
    END IF;
    EXECUTE format('WITH seen AS MATERIALIZED (%s), hours AS MATERIALIZED (%s)
        SELECT (SELECT count(*) FROM seen) * (SELECT count(*) FROM hours)', seen, hours)
        INTO looks USING tenants, users, partitions, offsets;
    FOR found IN
        SELECT c.relname AS name, bool_or(a.attname = 'hour') AS hourly,
               bool_or(a.attname = 'kafka_offset') AS is_events, pg_relation_size(c.oid) / 100 AS rows
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = to_regnamespace(generation) AND c.relkind = 'r'
        GROUP BY c.oid, c.relname
        HAVING count(*) FILTER (WHERE a.attname IN ('tenant_id', 'user_id', 'kafka_partition')) = 3
        ORDER BY hourly DESC, is_events, name  -- the hours are known as long as user_activity has the users
    LOOP
        IF NOT found.hourly THEN
            EXECUTE format('DELETE FROM %1$I.%2$I WHERE ctid = ANY (ARRAY(
                SELECT stored.ctid FROM %3$s CROSS JOIN LATERAL (
                    SELECT looked_at.ctid, looked_at.kafka_partition%4$s FROM %1$I.%2$I AS looked_at
                    WHERE looked_at.tenant_id = gone.tenant_id AND looked_at.user_id = gone.user_id OFFSET 0
                ) AS stored WHERE stored.kafka_partition = gone.kafka_partition%5$s))',
                generation, found.name, gone,
                CASE WHEN found.is_events THEN ', looked_at.kafka_offset, looked_at.kafka_topic' END,
                CASE WHEN found.is_events
                     THEN ' AND (stored.kafka_offset < gone.kafka_offset OR stored.kafka_topic <> $5)' END
            ) USING tenants, users, partitions, offsets, topic;
        ELSIF looks > greatest(10000, found.rows / 10) THEN
            EXECUTE format('DELETE FROM %I.%I AS stored USING %s WHERE stored.tenant_id = gone.tenant_id
                AND stored.user_id = gone.user_id AND stored.kafka_partition = gone.kafka_partition',
                generation, found.name, gone) USING tenants, users, partitions, offsets;
        ELSIF looks > 0 THEN
            EXECUTE format('DELETE FROM %1$I.%2$I WHERE ctid = ANY (ARRAY(
                WITH seen AS MATERIALIZED (%3$s), hours AS MATERIALIZED (%4$s)
                SELECT stored.ctid FROM (
                    SELECT seen.tenant_id, seen.user_id, seen.kafka_partition, hours.hour FROM seen
                    JOIN hours ON hours.tenant_id = seen.tenant_id AND hours.hour BETWEEN seen.first AND seen.last
                ) AS gone CROSS JOIN LATERAL (
                    SELECT looked_at.ctid, looked_at.kafka_partition FROM %1$I.%2$I AS looked_at
                    WHERE looked_at.tenant_id = gone.tenant_id AND looked_at.hour = gone.hour
                      AND looked_at.user_id = gone.user_id OFFSET 0
                ) AS stored WHERE stored.kafka_partition = gone.kafka_partition))',
                generation, found.name, seen, hours) USING tenants, users, partitions, offsets;
        END IF;
    END LOOP;
END
$function$
"""


def upgrade() -> None:
    op.execute(ERASE.replace(":", r"\:"))  # SQLAlchemy takes a colon for a parameter


def downgrade() -> None:
    """Keeps the function: it does the same, only sooner."""
