"""Event types are data: what an event means where its type's name does not say it, and counters that are rows.

SQL takes LOGIN, LOGOUT and PRODUCT_VIEW for what they are shipped as. A row says what it means only where the catalogue
of its projector says something else (docs/decisions/0035): no stored row changes, and older projectors go on.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

IN_EVERY_GENERATION = """
DO $$
DECLARE generation text;
BEGIN
    FOR generation IN SELECT name FROM ops.generations WHERE to_regnamespace(name) IS NOT NULL ORDER BY name LOOP
        EXECUTE replace($statement${statement}$statement$, '{{generation}}', quote_ident(generation));
    END LOOP;
END $$
"""
ON_THE_ACTIVE_GENERATION = """
DO $$
BEGIN
    EXECUTE replace($statement${statement}$statement$, '{{generation}}',
                    (SELECT quote_ident(name) FROM ops.generations WHERE state = 'active'));
END $$
"""

# A constant default: no row is written.
COLUMNS = [
    """ALTER TABLE {generation}.processed_events
       ADD COLUMN meaning text NOT NULL DEFAULT '', ADD COLUMN product_id text NOT NULL DEFAULT ''""",
    "ALTER TABLE {generation}.checkpoints ADD COLUMN event_types text",
    """CREATE INDEX processed_events_by_declared_product
       ON {generation}.processed_events (tenant_id, product_id, occurred_at, event_id) WHERE product_id <> ''""",
]

TABLES = {
    "user_activity_types": """
CREATE TABLE {generation}.user_activity_types (
    events          bigint  NOT NULL,
    kafka_partition integer NOT NULL,
    tenant_id       text    NOT NULL,
    user_id         text    NOT NULL,
    event_type      text    NOT NULL,
    meaning         text    NOT NULL,
    CONSTRAINT user_activity_types_pkey PRIMARY KEY (tenant_id, user_id, kafka_partition, event_type, meaning)
) WITH (fillfactor = 70)
""",
    "activity_hourly_type_users": """
CREATE TABLE {generation}.activity_hourly_type_users (
    hour            timestamptz NOT NULL,
    kafka_partition integer     NOT NULL,
    tenant_id       text        NOT NULL,
    event_type      text        NOT NULL,
    user_id         text        NOT NULL,
    CONSTRAINT activity_hourly_type_users_pkey PRIMARY KEY (tenant_id, hour, event_type, user_id, kafka_partition)
)
""",
}

PARTITION = "The partition that these rows come from; its owner alone writes them."
MEANING = "opens_session, closes_session, views_product or nothing"
COMMENTS: dict[str, dict[str, str]] = {
    "processed_events": {
        "event_type": "What happened: a type of the catalogue, or one that was in it.",
        "meaning": f"{MEANING}; empty: what its type's name says.",
        "product_id": "Product of a view, where the meaning is not what its type's name says; else empty.",
    },
    "checkpoints": {"event_types": "Digest of the owner's catalogue of event types; null before an owner told it."},
    "user_activity": {
        "logins": "Events that open a session: LOGIN.",
        "logouts": "Events that close a session: LOGOUT.",
        "product_views": "Events that view a product: PRODUCT_VIEW.",
        "last_login_at": "Timestamp of the latest opening of a session in the log.",
        "logged_in": "Whether the latest opening or closing in the log is an opening; null before either.",
        "changed_at": "Timestamp of that opening or closing.",
    },
    "user_activity_types": {
        "": "How often each user did what no column of user_activity counts by itself, for each partition.",
        "tenant_id": "Whose data it is.",
        "kafka_partition": PARTITION,
        "user_id": "Who acted.",
        "event_type": "The type.",
        "meaning": f"{MEANING}.",
        "events": "How many.",
    },
    "activity_hourly": {"event_type": "A type of the catalogue, or one that was in it."},
    "activity_hourly_type_users": {
        "": "Who had events of types without a bit in each hour: keeps activity_hourly.users exact.",
        "tenant_id": "Whose data it is.",
        "kafka_partition": PARTITION,
        "hour": "The full hour, UTC, of the event's timestamp.",
        "event_type": "The type.",
        "user_id": "Who acted.",
    },
}
REPORTING_COMMENTS: dict[str, dict[str, str]] = {
    "events": {
        "event_type": "What happened: a type of the catalogue, or one that was in it.",
        "product_id": "The product of a view; null for a view of none, and for events that view none.",
    },
    "users": {
        "logins": "Events that open a session: LOGIN.",
        "logouts": "Events that close a session: LOGOUT.",
        "product_views": "Events that view a product, of a product or not: PRODUCT_VIEW.",
    },
    "activity_hourly": {"event_type": "What happened: a type of the catalogue, or one that was in it."},
    "user_event_types": {
        "": "How often each user did what; what they never did has no row.",
        "user_id": "Who acted.",
        "event_type": "What happened: a type of the catalogue, or one that was in it.",
        "events": "How many.",
    },
}

ROW_VIEWS = {
    "processed_events": "CREATE OR REPLACE VIEW read.processed_events AS SELECT * FROM {generation}.processed_events",
    "checkpoints": "CREATE OR REPLACE VIEW read.checkpoints AS SELECT * FROM {generation}.checkpoints",
}
USER_ACTIVITY_TYPES = """
CREATE VIEW read.user_activity_types AS
SELECT tenant_id, user_id, event_type, meaning, sum(events)::bigint AS events
FROM {generation}.user_activity_types GROUP BY tenant_id, user_id, event_type, meaning
"""

MEANT = """CASE WHEN meaning <> '' THEN meaning WHEN event_type = 'LOGIN' THEN 'opens_session'
                            WHEN event_type = 'LOGOUT' THEN 'closes_session'
                            WHEN event_type = 'PRODUCT_VIEW' THEN 'views_product' ELSE 'nothing' END"""
# A product is what the projections take for one: 1 to 256 characters, none of them a control character.
PRODUCT = r"""CASE WHEN product_id <> '' THEN product_id
                            WHEN meaning = '' AND event_type = 'PRODUCT_VIEW'
                             AND jsonb_typeof(payload -> 'productId') = 'string'
                             AND length(payload ->> 'productId') BETWEEN 1 AND 256
                             AND payload ->> 'productId' !~ '[\u0001-\u001F\u007F-\u009F]'
                            THEN payload ->> 'productId' END"""

ELSEWHERE = """ AS stored WHERE NOT EXISTS (
    SELECT FROM {generation}.user_activity AS other
    WHERE other.tenant_id = stored.tenant_id AND other.user_id = stored.user_id
      AND other.kafka_partition <> stored.kafka_partition
)"""
# As in migration 0008, by what each event means.
USER_SESSIONS = f"""
CREATE OR REPLACE VIEW read.user_sessions AS
SELECT tenant_id, user_id, session_id, started_at, ended_at, ended_by,
       greatest(ended_at - started_at, interval '0') AS duration, views,
       products[1:200] AS products, cardinality(products) > 200 AS more_products
FROM {{generation}}.user_sessions{ELSEWHERE}
UNION ALL
SELECT tenant_id, user_id, session_id, started_at, NULL, NULL, NULL, views,
       products[1:200], cardinality(products) > 200
FROM {{generation}}.user_sessions_open{ELSEWHERE}
UNION ALL
SELECT tenant_id, user_id, session_id, started_at, ended_at, ended_by,
       CASE WHEN ended_at IS NOT NULL THEN greatest(ended_at - started_at, interval '0') END, views,
       products[1:200], cardinality(products) > 200
FROM (
    SELECT tenant_id, user_id FROM {{generation}}.user_activity GROUP BY tenant_id, user_id HAVING count(*) > 1
) AS scattered
CROSS JOIN LATERAL (
    SELECT session_id, started_at, views, products,
           coalesce(closed_at, lead(started_at) OVER (ORDER BY session)) AS ended_at,
           CASE WHEN closed_at IS NOT NULL THEN closed_by
                ELSE lead(opened_by) OVER (ORDER BY session) END AS ended_by
    FROM (
        SELECT session,
               (array_agg(event_id ORDER BY place))[1] AS session_id,
               (array_agg(occurred_at ORDER BY place))[1] AS started_at,
               (array_agg(event_type ORDER BY place))[1] AS opened_by,
               (array_agg(occurred_at ORDER BY place) FILTER (WHERE meant = 'closes_session'))[1] AS closed_at,
               (array_agg(event_type ORDER BY place) FILTER (WHERE meant = 'closes_session'))[1] AS closed_by,
               count(*) FILTER (WHERE meant = 'views_product' AND place < closing_place) AS views,
               coalesce((array_agg(product ORDER BY place)
                         FILTER (WHERE product IS NOT NULL AND time_seen = 1 AND place < closing_place))[1:201],
                        '{{}}') AS products
        FROM (
            SELECT *,
                   coalesce(min(place) FILTER (WHERE meant = 'closes_session') OVER (PARTITION BY session),
                            9223372036854775807) AS closing_place,
                   row_number() OVER (PARTITION BY session, product ORDER BY place) AS time_seen
            FROM (
                SELECT event_id, event_type, occurred_at, meant, product,
                       row_number() OVER log AS place,
                       count(*) FILTER (WHERE meant = 'opens_session') OVER log AS session
                FROM (
                    SELECT event_id, event_type, occurred_at, kafka_partition, kafka_offset,
                           {MEANT} AS meant,
                           {PRODUCT} AS product,
                           max(occurred_at) OVER (PARTITION BY kafka_partition ORDER BY kafka_offset) AS not_before
                    FROM {{generation}}.processed_events AS event
                    WHERE event.tenant_id = scattered.tenant_id AND event.user_id = scattered.user_id
                ) AS timed
                WINDOW log AS (ORDER BY not_before, kafka_partition, kafka_offset)
            ) AS placed
        ) AS known
        WHERE session > 0 GROUP BY session
    ) AS counted
) AS merged
"""

REPORTED_EVENTS = f"""
CREATE OR REPLACE VIEW reporting.events WITH (security_barrier = true) AS
SELECT event_id, user_id, event_type, occurred_at, (occurred_at AT TIME ZONE 'UTC')::date AS day,
       {PRODUCT} AS product_id,
       payload, recorded_at, projected_at
FROM read.processed_events WHERE tenant_id = 'default'
"""
REPORTED_USERS = """
CREATE OR REPLACE VIEW reporting.users WITH (security_barrier = true) AS
SELECT user_id,
       logins + logouts + product_views + coalesce((
           SELECT sum(others.events) FROM read.user_activity_types AS others
           WHERE others.tenant_id = 'default' AND others.user_id = users.user_id AND others.meaning = 'nothing'
       ), 0)::bigint AS events,
       logins, logouts, product_views, first_seen, last_seen, last_login_at, logged_in, last_product_id
FROM read.user_activity AS users WHERE tenant_id = 'default'
"""
# The columns count meanings: what rows count by name is taken out, and what is left is of the type that has the name.
REPORTED_TYPES = """
CREATE VIEW reporting.user_event_types WITH (security_barrier = true) AS
SELECT user_id, event_type, sum(events)::bigint AS events
FROM (
    SELECT user_id, event_type, events FROM read.user_activity_types WHERE tenant_id = 'default'
    UNION ALL
    SELECT user_id, named.event_type, named.events - coalesce((
               SELECT sum(others.events) FROM read.user_activity_types AS others
               WHERE others.tenant_id = 'default' AND others.user_id = users.user_id
                 AND others.meaning = named.meaning), 0)
    FROM read.user_activity AS users CROSS JOIN LATERAL (VALUES
        ('LOGIN', 'opens_session', logins), ('LOGOUT', 'closes_session', logouts),
        ('PRODUCT_VIEW', 'views_product', product_views)
    ) AS named(event_type, meaning, events)
    WHERE tenant_id = 'default'
) AS counted
GROUP BY user_id, event_type HAVING sum(events) > 0
"""
GRANTS = [
    "GRANT SELECT ON read.user_activity_types TO footfall_reader, footfall_writer",
    "GRANT SELECT ON reporting.user_event_types TO footfall_reporter",
]


def upgrade() -> None:
    grants = [f"GRANT SELECT, INSERT, UPDATE ON {{generation}}.{table} TO footfall_writer" for table in TABLES]
    for statement in [*COLUMNS, *TABLES.values(), *grants, *_comments("{generation}", COMMENTS)]:
        _everywhere(statement)
    for statement in [*ROW_VIEWS.values(), USER_ACTIVITY_TYPES, USER_SESSIONS]:
        _on_the_active(statement)
    comments = _comments("reporting", REPORTING_COMMENTS)
    for statement in [REPORTED_EVENTS, REPORTED_USERS, REPORTED_TYPES, *GRANTS, *comments]:
        _execute(statement)


def downgrade() -> None:
    script = op.get_context().script
    assert script is not None
    reporting, sessions = (script.get_revision(number).module for number in ("0005", "0008"))
    for view in ("user_event_types", "events"):
        _execute(f"DROP VIEW reporting.{view}")
    _execute(f"CREATE OR REPLACE VIEW reporting.users WITH (security_barrier = true) AS {reporting.USERS}")
    sessions.upgrade()
    for view in ("user_activity_types", *ROW_VIEWS):
        _execute(f"DROP VIEW read.{view}")
    _everywhere("DROP INDEX {generation}.processed_events_by_declared_product")
    _everywhere("ALTER TABLE {generation}.processed_events DROP COLUMN meaning, DROP COLUMN product_id")
    _everywhere("ALTER TABLE {generation}.checkpoints DROP COLUMN event_types")
    for table in TABLES:
        _everywhere(f"DROP TABLE {{generation}}.{table}")
    for statement in ROW_VIEWS.values():
        _on_the_active(statement)
    _execute("GRANT SELECT ON read.processed_events, read.checkpoints TO footfall_reader, footfall_writer")
    _execute(f"CREATE VIEW reporting.events WITH (security_barrier = true) AS {reporting.EVENTS}")
    _execute("GRANT SELECT ON reporting.events TO footfall_reporter")
    for statement in _comments("reporting", {"events": reporting.COMMENTS["events"]}):
        _execute(statement)


def _comments(schema: str, comments: dict[str, dict[str, str]]) -> list[str]:
    kind = "VIEW" if schema == "reporting" else "TABLE"
    return [
        f"COMMENT ON {f'COLUMN {schema}.{name}.{column}' if column else f'{kind} {schema}.{name}'} IS "
        f"'{text.replace(chr(39), chr(39) * 2)}'"
        for name, texts in comments.items()
        for column, text in texts.items()
    ]


def _everywhere(statement: str) -> None:
    _execute(IN_EVERY_GENERATION.format(statement=statement))


def _on_the_active(statement: str) -> None:
    _execute(ON_THE_ACTIVE_GENERATION.format(statement=statement))


def _execute(statement: str) -> None:
    op.execute(statement.replace(":", r"\:"))  # SQLAlchemy takes a colon for a parameter
