"""Retention by functions of the owner's: so the projector may delete what is too old, and nothing else.

The functions go by `ops.retention`, which only the owner writes, and by one line of it that a projector declares: how
long events and counts of tenants without a line of their own are kept (RETENTION_DAYS). `ops.forgotten` says what is
gone, so that queries answer honestly.
"""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

OLD_CHECKS = (
    "ALTER TABLE ops.retention DROP CONSTRAINT retention_what",
    "DELETE FROM ops.retention WHERE what = 'counts' OR tenant_id = ''",
    "ALTER TABLE ops.retention ADD CONSTRAINT retention_what CHECK (what IN ('events', 'dead_letters'))",
)
NEW_CHECKS = (
    "ALTER TABLE ops.retention DROP CONSTRAINT retention_what",
    "ALTER TABLE ops.retention ADD CONSTRAINT retention_what CHECK (what IN ('events', 'counts', 'dead_letters'))",
)
FORGOTTEN = """
CREATE TABLE ops.forgotten (
    until_offset    bigint      NOT NULL,
    events          bigint      NOT NULL,
    before          timestamptz NOT NULL,
    last_at         timestamptz NOT NULL DEFAULT now(),
    kafka_partition integer     NOT NULL,
    generation      text        NOT NULL REFERENCES ops.generations (name) ON DELETE CASCADE,
    tenant_id       text        NOT NULL,
    CONSTRAINT forgotten_pkey PRIMARY KEY (generation, tenant_id, kafka_partition)
) WITH (fillfactor = 50)
"""
LINES = "CREATE VIEW read.retention AS SELECT tenant_id, what, event_type, days FROM ops.retention"
VIEW = """
CREATE VIEW read.forgotten AS
SELECT tenant_id, kafka_partition, until_offset, before, events, last_at FROM ops.forgotten
WHERE generation = (SELECT name FROM ops.generations WHERE state = 'active')
"""

DECLARE_DAYS = """
CREATE FUNCTION ops.declare_retention(event_days integer, count_days integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    DELETE FROM ops.retention WHERE tenant_id = '' AND (what = 'events' AND event_days IS NULL
                                                        OR what = 'counts' AND count_days IS NULL);
    INSERT INTO ops.retention AS stored (tenant_id, what, days)
    SELECT '', declared.* FROM (VALUES ('events', event_days), ('counts', count_days)) AS declared(what, days)
    WHERE declared.days IS NOT NULL
    ON CONFLICT (tenant_id, what, event_type) DO UPDATE SET days = excluded.days, set_at = now()
    WHERE stored.days <> excluded.days;
END
$function$
"""
# A tenant's own line counts; without one, the line that the projectors declare. Null: it is kept for ever.
# Cut to the hour, so that two generations forget the same, although one comes after the other.
LIMIT = """
CREATE FUNCTION ops.retention_limit(tenant text, of_what text, kind text, as_of timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT date_trunc('hour', least(as_of, now()), 'UTC') - days * interval '1 day' FROM ops.retention
    WHERE tenant_id IN (tenant, '') AND what = of_what AND event_type = kind ORDER BY tenant_id DESC LIMIT 1
$function$
"""
# Rows of users, by hour or by session, go when events of no type of that time are kept.
ROWS_LIMIT = """
CREATE FUNCTION ops.retention_limit_of_rows(tenant text, as_of timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT CASE WHEN bool_or(kind = '') THEN min(ops.retention_limit(tenant, 'events', kind, as_of)) END
           - interval '1 hour'
    FROM (SELECT event_type AS kind FROM ops.retention WHERE tenant_id = tenant AND what = 'events'
          UNION SELECT event_type FROM ops.retention WHERE tenant_id = '' AND what = 'events') AS lines
$function$
"""
GENERATION_IS_KNOWN = """IF NOT EXISTS (SELECT FROM ops.generations AS known WHERE known.name = generation) THEN
        RAISE EXCEPTION 'there is no generation %', generation;
    END IF;"""
# Looks at `most` events after a place, in the order of time, and deletes those of the type that are too old. A row that
# another transaction changes is left to the next run: this waits for nobody. Offsets count of records that are as old
# and a minute older, as records are not quite in the order of time: so none of an event that was old when it came, and
# hardly ever one behind an event that is kept.
FORGET_EVENTS = f"""
CREATE FUNCTION ops.forget_events(generation text, tenant text, kind text, as_of timestamptz,
    INOUT after_time timestamptz, INOUT after_id uuid, most integer, OUT looked_at bigint, OUT deleted bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
AS $function$
DECLARE
    until timestamptz := ops.retention_limit(tenant, 'events', kind, as_of);
    others text[] := ARRAY(SELECT event_type FROM ops.retention
                           WHERE tenant_id = tenant AND what = 'events' AND event_type <> '');
BEGIN
    {GENERATION_IS_KNOWN}
    EXECUTE format($statement$
        WITH looked AS MATERIALIZED (
            SELECT ctid AS place, occurred_at, event_id,
                   CASE WHEN $3 = '' THEN event_type <> ALL ($4) ELSE event_type = $3 END AS is_old
            FROM %1$I.processed_events
            WHERE tenant_id = $1 AND (occurred_at, event_id) > ($5, $6) AND occurred_at < $2
            ORDER BY tenant_id, occurred_at, event_id LIMIT $7
        ), free AS MATERIALIZED (
            SELECT ctid AS place FROM %1$I.processed_events
            WHERE ctid = ANY (ARRAY(SELECT place FROM looked WHERE is_old)) FOR UPDATE SKIP LOCKED
        ), gone AS (
            DELETE FROM %1$I.processed_events AS event WHERE ctid = ANY (ARRAY(SELECT place FROM free))
            RETURNING event.kafka_partition, event.kafka_offset, event.recorded_at
        ), noted AS (
            INSERT INTO ops.forgotten AS noted (generation, tenant_id, kafka_partition, until_offset, events, before)
            SELECT $8, $1, kafka_partition,
                   coalesce(max(kafka_offset) FILTER (WHERE recorded_at < $2 - interval '1 minute'), -1) + 1,
                   count(*), $2
            FROM gone GROUP BY kafka_partition ORDER BY kafka_partition
            ON CONFLICT ON CONSTRAINT forgotten_pkey DO UPDATE
                SET until_offset = greatest(noted.until_offset, excluded.until_offset), last_at = now(),
                    events = noted.events + excluded.events, before = greatest(noted.before, excluded.before)
        )
        SELECT (SELECT count(*) FROM looked), (SELECT count(*) FROM gone), latest.occurred_at, latest.event_id
        FROM (VALUES (true)) AS one LEFT JOIN LATERAL (
            SELECT occurred_at, event_id FROM looked ORDER BY occurred_at DESC, event_id DESC LIMIT 1) AS latest ON true
        $statement$, generation)
    INTO looked_at, deleted, after_time, after_id
    USING tenant, until, kind, others, after_time, after_id, least(most, 10000), generation;
END
$function$
"""
# Of a table by hour, the rows of the oldest hours. Counts go after the rows of users, which erasure finds by them.
FORGET_HOURS = f"""
CREATE FUNCTION ops.forget_hours(generation text, tenant text, name text, as_of timestamptz, most integer)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET jit = off AS $function$
DECLARE
    until timestamptz := ops.retention_limit_of_rows(tenant, as_of);
    of_counts timestamptz := ops.retention_limit(tenant, 'counts', '', as_of);
    deleted bigint;
BEGIN
    {GENERATION_IS_KNOWN}
    IF name IN ('activity_hourly', 'product_views') THEN
        until := CASE WHEN until IS NOT NULL AND of_counts IS NOT NULL THEN least(until, of_counts) END;
    ELSIF name NOT IN ('activity_hourly_users', 'activity_hourly_type_users', 'product_views_users') THEN
        RAISE EXCEPTION 'there is no retention of %', name;
    END IF;
    EXECUTE format($statement$
        WITH old AS MATERIALIZED (
            SELECT ctid AS place FROM %1$I.%2$I WHERE tenant_id = $1 AND hour < $2
            ORDER BY tenant_id, hour LIMIT $3 FOR UPDATE SKIP LOCKED
        ), gone AS (
            DELETE FROM %1$I.%2$I WHERE ctid = ANY (ARRAY(SELECT place FROM old)) RETURNING 1
        )
        SELECT count(*) FROM gone $statement$, generation, name)
    INTO deleted USING tenant, until, least(most, 10000);
    RETURN deleted;
END
$function$
"""
# Looks at `most` ended sessions after a place, in the order of the key: no index knows their end.
FORGET_SESSIONS = f"""
CREATE FUNCTION ops.forget_sessions(generation text, tenant text, as_of timestamptz,
    INOUT after_user text, INOUT after_partition integer, INOUT after_session uuid, most integer,
    OUT looked_at bigint, OUT deleted bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
AS $function$
BEGIN
    {GENERATION_IS_KNOWN}
    EXECUTE format($statement$
        WITH looked AS MATERIALIZED (
            SELECT ctid AS place, user_id, kafka_partition, session_id, ended_at < $2 AS is_old
            FROM %1$I.user_sessions
            WHERE tenant_id = $1 AND (user_id, kafka_partition, session_id) > ($3, $4, $5)
            ORDER BY tenant_id, user_id, kafka_partition, session_id LIMIT $6
        ), free AS MATERIALIZED (
            SELECT ctid AS place FROM %1$I.user_sessions
            WHERE ctid = ANY (ARRAY(SELECT place FROM looked WHERE is_old)) FOR UPDATE SKIP LOCKED
        ), gone AS (
            DELETE FROM %1$I.user_sessions WHERE ctid = ANY (ARRAY(SELECT place FROM free)) RETURNING 1
        )
        SELECT (SELECT count(*) FROM looked), (SELECT count(*) FROM gone), latest.* FROM (VALUES (true)) AS one
        LEFT JOIN LATERAL (SELECT user_id, kafka_partition, session_id FROM looked
                           ORDER BY user_id DESC, kafka_partition DESC, session_id DESC LIMIT 1) AS latest ON true
        $statement$, generation)
    INTO looked_at, deleted, after_user, after_partition, after_session
    USING tenant, ops.retention_limit_of_rows(tenant, as_of), after_user, after_partition, after_session,
          least(most, 10000);
END
$function$
"""
FUNCTIONS = {
    "declare_retention": "Says for how long events and counts of tenants without a line of their own are kept.",
    "forget_events": "Deletes events that are older than their tenant keeps them.",
    "forget_hours": "Deletes rows by hour that are older than their tenant keeps them.",
    "forget_sessions": "Deletes ended sessions that are older than their tenant keeps them.",
}
COMMENTS = {
    "TABLE ops.retention": "For how long the read model keeps what. A tenant of no name: all without a line.",
    "COLUMN ops.retention.what": "events (with sessions and hours of users), counts (by hour), or dead_letters.",
    "TABLE ops.forgotten": "What retention deleted of each generation, tenant and partition.",
    "COLUMN ops.forgotten.until_offset": "Readers that stand before this offset have missed events.",
    "COLUMN ops.forgotten.events": "Events deleted so far.",
    "COLUMN ops.forgotten.before": "Events with a timestamp before this may be gone.",
    "VIEW read.retention": "For how long the read model keeps what, as ops.retention says.",
    "VIEW read.forgotten": "What retention deleted of the generation that queries read.",
}


def upgrade() -> None:
    for statement in (
        *NEW_CHECKS,
        FORGOTTEN,
        VIEW,
        LINES,
        DECLARE_DAYS,
        LIMIT,
        ROWS_LIMIT,
        FORGET_EVENTS,
        FORGET_HOURS,
    ):
        op.execute(statement.replace(":", r"\:"))  # SQLAlchemy takes a colon for a parameter
    op.execute(FORGET_SESSIONS.replace(":", r"\:"))
    for function, comment in FUNCTIONS.items():
        op.execute(f"REVOKE ALL ON FUNCTION ops.{function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION ops.{function} TO footfall_writer")
        op.execute(f"COMMENT ON FUNCTION ops.{function} IS '{comment}'")
    for target, comment in COMMENTS.items():
        op.execute(f"COMMENT ON {target} IS '{comment}'")
    op.execute("GRANT SELECT ON read.forgotten, read.retention TO footfall_reader, footfall_writer")


def downgrade() -> None:
    for function in (*FUNCTIONS, "retention_limit_of_rows", "retention_limit"):
        op.execute(f"DROP FUNCTION ops.{function}")
    op.execute("DROP VIEW read.forgotten, read.retention")
    op.execute("DROP TABLE ops.forgotten")
    for statement in OLD_CHECKS:
        op.execute(statement)
