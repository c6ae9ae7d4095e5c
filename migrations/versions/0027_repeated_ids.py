"""An id that is used again after its event was too old to keep is a new event, whenever the old row goes.

Which of two records is the event must not depend on when retention ran: a rebuild meets both at once.
"""

from alembic import op

revision = "0027"
down_revision = "0023"
branch_labels = None
depends_on = None

FUNCTION = "ops.forget_repeated(text, text[], uuid[], timestamptz[])"
# `as_of`: when the record that uses the id again was made. As `ops.forget_events`, and noted like that.
FORGET_REPEATED = """
CREATE FUNCTION ops.forget_repeated(generation text, tenants text[], ids uuid[], as_of timestamptz[])
RETURNS TABLE (tenant text, id uuid)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
AS $function$
BEGIN
    IF NOT EXISTS (SELECT FROM ops.generations AS known WHERE known.name = generation) THEN
        RAISE EXCEPTION 'there is no generation %', generation;
    END IF;
    IF NOT EXISTS (SELECT FROM ops.retention WHERE what = 'events') THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format($statement$
        WITH asked AS MATERIALIZED (
            SELECT event.ctid AS place, ops.retention_limit(event.tenant_id, 'events', CASE WHEN EXISTS (
                       SELECT FROM ops.retention AS line WHERE line.tenant_id = event.tenant_id
                       AND line.what = 'events' AND line.event_type = event.event_type)
                   THEN event.event_type ELSE '' END, again.as_of) AS until
            FROM unnest($1, $2, $3) AS again(tenant, id, as_of)
            JOIN %1$I.processed_events AS event ON event.tenant_id = again.tenant AND event.event_id = again.id
        ), gone AS (
            DELETE FROM %1$I.processed_events AS event USING asked
            WHERE event.ctid = asked.place AND event.occurred_at < asked.until
            RETURNING event.tenant_id, event.event_id, event.kafka_partition, event.kafka_offset, event.recorded_at,
                      asked.until
        ), noted AS (
            INSERT INTO ops.forgotten AS noted (generation, tenant_id, kafka_partition, until_offset, events, before)
            SELECT $4, tenant_id, kafka_partition,
                   coalesce(max(kafka_offset) FILTER (WHERE recorded_at < until - interval '1 minute'), -1) + 1,
                   count(*), max(until)
            FROM gone GROUP BY tenant_id, kafka_partition ORDER BY tenant_id, kafka_partition
            ON CONFLICT ON CONSTRAINT forgotten_pkey DO UPDATE
                SET until_offset = greatest(noted.until_offset, excluded.until_offset), last_at = now(),
                    events = noted.events + excluded.events, before = greatest(noted.before, excluded.before)
        )
        SELECT tenant_id, event_id FROM gone $statement$, generation)
    USING tenants, ids, as_of, generation;
END
$function$
"""


def upgrade() -> None:
    op.execute(FORGET_REPEATED.replace(":", r"\:"))  # SQLAlchemy takes a colon for a parameter
    op.execute(f"REVOKE ALL ON FUNCTION {FUNCTION} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {FUNCTION} TO footfall_writer")
    op.execute(f"COMMENT ON FUNCTION {FUNCTION} IS 'Deletes events that were too old when their ids were used again.'")


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {FUNCTION}")
