"""Four read models beside the events: activity and sessions of users, hourly views of products, hourly activity.

Each row belongs to one Kafka partition, so two projectors never write the same row; the views add up the partitions.
Columns of fixed width come first, so there is no padding between them and rows are smaller. Tables with updates leave
free space on each page (fillfactor), so that an update changes no index.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = {
    "user_activity": """
CREATE TABLE read_g1.user_activity (
    first_seen      timestamptz NOT NULL,
    last_seen       timestamptz NOT NULL,
    logins          bigint      NOT NULL,
    logouts         bigint      NOT NULL,
    product_views   bigint      NOT NULL,
    last_login_at   timestamptz,
    changed_at      timestamptz,
    last_product_at timestamptz,
    kafka_partition integer     NOT NULL,
    logged_in       boolean,
    tenant_id       text        NOT NULL,
    user_id         text        NOT NULL,
    last_product_id text,
    CONSTRAINT user_activity_pkey PRIMARY KEY (tenant_id, user_id, kafka_partition)
) WITH (fillfactor = 70)
""",
    "user_sessions": """
CREATE TABLE read_g1.user_sessions (
    started_at      timestamptz NOT NULL,
    ended_at        timestamptz NOT NULL,
    views           bigint      NOT NULL,
    session_id      uuid        NOT NULL,
    kafka_partition integer     NOT NULL,
    ended_by        text        NOT NULL,
    tenant_id       text        NOT NULL,
    user_id         text        NOT NULL,
    products        text[]      NOT NULL,
    CONSTRAINT user_sessions_pkey PRIMARY KEY (tenant_id, user_id, kafka_partition, session_id)
)
""",
    "user_sessions_open": """
CREATE TABLE read_g1.user_sessions_open (
    started_at      timestamptz NOT NULL,
    views           bigint      NOT NULL,
    session_id      uuid        NOT NULL,
    kafka_partition integer     NOT NULL,
    tenant_id       text        NOT NULL,
    user_id         text        NOT NULL,
    products        text[]      NOT NULL,
    CONSTRAINT user_sessions_open_pkey PRIMARY KEY (tenant_id, user_id, kafka_partition)
) WITH (fillfactor = 70)
""",
    "product_views": """
CREATE TABLE read_g1.product_views (
    hour            timestamptz NOT NULL,
    views           bigint      NOT NULL,
    users           bigint      NOT NULL,
    kafka_partition integer     NOT NULL,
    tenant_id       text        NOT NULL,
    product_id      text        NOT NULL,
    CONSTRAINT product_views_pkey PRIMARY KEY (tenant_id, hour, product_id, kafka_partition)
) WITH (fillfactor = 70)
""",
    "product_views_users": """
CREATE TABLE read_g1.product_views_users (
    hour            timestamptz NOT NULL,
    kafka_partition integer     NOT NULL,
    tenant_id       text        NOT NULL,
    user_id         text        NOT NULL,
    products        text[]      NOT NULL,
    CONSTRAINT product_views_users_pkey PRIMARY KEY (tenant_id, hour, user_id, kafka_partition)
) WITH (fillfactor = 70)
""",
    "activity_hourly": """
CREATE TABLE read_g1.activity_hourly (
    hour            timestamptz NOT NULL,
    events          bigint      NOT NULL,
    users           bigint      NOT NULL,
    kafka_partition integer     NOT NULL,
    tenant_id       text        NOT NULL,
    event_type      text        NOT NULL,
    CONSTRAINT activity_hourly_pkey PRIMARY KEY (tenant_id, hour, event_type, kafka_partition)
) WITH (fillfactor = 50)
""",
    "activity_hourly_users": """
CREATE TABLE read_g1.activity_hourly_users (
    hour            timestamptz NOT NULL,
    kafka_partition integer     NOT NULL,
    types           integer     NOT NULL,
    tenant_id       text        NOT NULL,
    user_id         text        NOT NULL,
    CONSTRAINT activity_hourly_users_pkey PRIMARY KEY (tenant_id, hour, user_id, kafka_partition)
) WITH (fillfactor = 80)
""",
}

# Of several partitions, the latest LOGIN or LOGOUT by timestamp decides these columns, and likewise the latest view.
VIEWS = {
    "user_activity": """
CREATE VIEW read.user_activity AS
SELECT tenant_id, user_id,
       sum(logins)::bigint AS logins, sum(logouts)::bigint AS logouts, sum(product_views)::bigint AS product_views,
       min(first_seen) AS first_seen, max(last_seen) AS last_seen,
       max(last_login_at) AS last_login_at,
       coalesce((array_agg(logged_in ORDER BY changed_at DESC NULLS LAST, kafka_partition))[1], false) AS logged_in,
       (array_agg(last_product_id ORDER BY last_product_at DESC NULLS LAST, kafka_partition))[1] AS last_product_id
FROM read_g1.user_activity
GROUP BY tenant_id, user_id
""",
    "user_sessions": """
CREATE VIEW read.user_sessions AS
SELECT tenant_id, user_id, session_id, started_at, ended_at, ended_by,
       greatest(ended_at - started_at, interval '0') AS duration, views,
       products[1:200] AS products, cardinality(products) > 200 AS more_products
FROM read_g1.user_sessions
UNION ALL
SELECT tenant_id, user_id, session_id, started_at, NULL, NULL, NULL, views,
       products[1:200], cardinality(products) > 200
FROM read_g1.user_sessions_open
""",
    "product_views": """
CREATE VIEW read.product_views AS
SELECT tenant_id, hour, product_id, sum(views)::bigint AS views, sum(users)::bigint AS distinct_users
FROM read_g1.product_views
GROUP BY tenant_id, hour, product_id
""",
    "activity_hourly": """
CREATE VIEW read.activity_hourly AS
SELECT tenant_id, hour, event_type, sum(events)::bigint AS events, sum(users)::bigint AS distinct_users
FROM read_g1.activity_hourly
GROUP BY tenant_id, hour, event_type
""",
}

_KEY_COMMENTS = {
    "tenant_id": "Whose data it is.",
    "kafka_partition": "The partition that these rows come from; its owner alone writes them.",
}
_HOUR = "The full hour, UTC, of the event's timestamp."

TABLE_COMMENTS: dict[str, dict[str, str]] = {
    "user_activity": {
        "": "What each user did, for each partition.",
        **_KEY_COMMENTS,
        "user_id": "Who acted.",
        "logins": "LOGIN events.",
        "logouts": "LOGOUT events.",
        "product_views": "PRODUCT_VIEW events.",
        "first_seen": "The least timestamp.",
        "last_seen": "The greatest timestamp.",
        "last_login_at": "Timestamp of the latest LOGIN in the log.",
        "logged_in": "Whether the latest LOGIN or LOGOUT in the log is a LOGIN; null before either.",
        "changed_at": "Timestamp of that LOGIN or LOGOUT.",
        "last_product_id": "Product of the latest view of a product in the log.",
        "last_product_at": "Timestamp of that view.",
    },
    "user_sessions": {
        "": "Sessions that ended; rows never change.",
        **_KEY_COMMENTS,
        "user_id": "Who was logged in.",
        "session_id": "Event id of the LOGIN.",
        "started_at": "Timestamp of the LOGIN.",
        "ended_at": "Timestamp of what ended it; clocks may make it earlier than the start.",
        "ended_by": "LOGOUT, or LOGIN: the next one.",
        "views": "PRODUCT_VIEW events.",
        "products": "The different products, in the order they first were seen; a 201st says that there are more.",
    },
    "user_sessions_open": {
        "": "The open session of each user who has one.",
        **_KEY_COMMENTS,
        "user_id": "Who is logged in.",
        "session_id": "Event id of the LOGIN.",
        "started_at": "Timestamp of the LOGIN.",
        "views": "PRODUCT_VIEW events so far.",
        "products": "The different products, in the order they first were seen; a 201st says that there are more.",
    },
    "product_views": {
        "": "Views of each product in each hour, for each partition.",
        **_KEY_COMMENTS,
        "hour": _HOUR,
        "product_id": "payload.productId.",
        "views": "PRODUCT_VIEW events.",
        "users": "Different users among them.",
    },
    "product_views_users": {
        "": "Which products each user viewed in each hour: keeps product_views.users exact.",
        **_KEY_COMMENTS,
        "hour": _HOUR,
        "user_id": "Who viewed.",
        "products": "The different products, in the order of the log.",
    },
    "activity_hourly": {
        "": "Events of each type in each hour, for each partition.",
        **_KEY_COMMENTS,
        "hour": _HOUR,
        "event_type": "LOGIN, LOGOUT or PRODUCT_VIEW.",
        "events": "How many.",
        "users": "Different users among them.",
    },
    "activity_hourly_users": {
        "": "What types of events each user had in each hour: keeps activity_hourly.users exact.",
        **_KEY_COMMENTS,
        "hour": _HOUR,
        "user_id": "Who acted.",
        "types": "Sum of the bits LOGIN 1, LOGOUT 2, PRODUCT_VIEW 4.",
    },
}

VIEW_COMMENTS: dict[str, dict[str, str]] = {
    "user_activity": {
        "": "What each user did.",
        "last_login_at": "Timestamp of the latest LOGIN.",
        "logged_in": "Whether the latest LOGIN or LOGOUT is a LOGIN.",
        "last_product_id": "Product of the latest view of a product; null without one.",
    },
    "user_sessions": {
        "": "Sessions, ended and open.",
        "ended_at": "Null while open.",
        "ended_by": "LOGOUT, or LOGIN: the next one; null while open.",
        "duration": "From start to end, never negative; null while open.",
        "products": "The different products seen, in the order they first were, at most 200.",
        "more_products": "Whether more than 200 were seen.",
    },
    "product_views": {"": "Views of each product in each hour (UTC).", "distinct_users": "Different users who viewed."},
    "activity_hourly": {"": "Events of each type in each hour (UTC).", "distinct_users": "Different users who acted."},
}


def statements() -> list[str]:
    """Returns the statements of the upgrade, in order."""
    grants = [f"GRANT SELECT, INSERT, UPDATE ON read_g1.{table} TO footfall_writer" for table in TABLES]
    grants.append("GRANT DELETE ON read_g1.user_sessions_open TO footfall_writer")
    grants += [f"GRANT SELECT ON read.{view} TO footfall_reader, footfall_writer" for view in VIEWS]
    return [
        *TABLES.values(),
        *VIEWS.values(),
        *_comments("TABLE", "read_g1", TABLE_COMMENTS),
        *_comments("VIEW", "read", VIEW_COMMENTS),
        *grants,
    ]


def _comments(kind: str, schema: str, comments: dict[str, dict[str, str]]) -> list[str]:
    found = []
    for name, texts in comments.items():
        for column, text in texts.items():
            quoted = text.replace("'", "''")
            target = f"COLUMN {schema}.{name}.{column}" if column else f"{kind} {schema}.{name}"
            found.append(f"COMMENT ON {target} IS '{quoted}'")
    return found


def upgrade() -> None:
    for statement in statements():
        op.execute(statement.replace("[1:", r"[1\:"))  # SQLAlchemy takes a colon for a parameter


def downgrade() -> None:
    for view in VIEWS:
        op.execute(f"DROP VIEW read.{view}")
    for table in TABLES:
        op.execute(f"DROP TABLE read_g1.{table}")
