"""Adds the schema `reporting`: documented views for people and tools, and the group role that may read only them.

The views show the default tenant only, like the query side. They read the stable views of schema `read`, so a promotion
does not change them. With `security_barrier`, PostgreSQL checks the tenant before it evaluates a reader's conditions.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ROLE = """
DO $$
BEGIN
    -- Roles belong to the cluster, not to this database: it may be there already, or come at the same moment.
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'footfall_reporter') THEN
        BEGIN
            CREATE ROLE footfall_reporter NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
END $$
"""

# The users of each hour and the products they viewed. So far only the projector read these tables. The active
# generation need not be the first one.
READ_VIEWS = {
    "activity_hourly_users": "SELECT tenant_id, hour, user_id, types FROM %I.activity_hourly_users",
    "product_views_users": "SELECT tenant_id, hour, user_id, products FROM %I.product_views_users",
}
READ_COMMENTS = {
    "VIEW read.activity_hourly_users": "What types of events each user had in each hour; a user may have several rows.",
    "COLUMN read.activity_hourly_users.types": "Sum of the bits LOGIN 1, LOGOUT 2, PRODUCT_VIEW 4.",
    "VIEW read.product_views_users": "Which products each user viewed in each hour; a user may have several rows.",
    "COLUMN read.product_views_users.products": "The different products, in the order of the log.",
}
ON_THE_ACTIVE_GENERATION = """
DO $$
BEGIN
    EXECUTE format('CREATE VIEW read.{name} AS {definition}',
                   (SELECT name FROM ops.generations WHERE state = 'active'));
END $$
"""

# A product id is, as for the projections, 1 to 256 characters without control characters.
EVENTS = r"""
SELECT event_id, user_id, event_type, occurred_at, (occurred_at AT TIME ZONE 'UTC')::date AS day,
       CASE WHEN event_type = 'PRODUCT_VIEW' AND jsonb_typeof(payload -> 'productId') = 'string'
             AND length(payload ->> 'productId') BETWEEN 1 AND 256
             AND payload ->> 'productId' !~ '[\u0001-\u001F\u007F-\u009F]'
            THEN payload ->> 'productId' END AS product_id,
       payload, recorded_at, projected_at
FROM read.processed_events WHERE tenant_id = 'default'
"""

USERS = """
SELECT user_id, logins + logouts + product_views AS events, logins, logouts, product_views, first_seen, last_seen,
       last_login_at, logged_in, last_product_id
FROM read.user_activity WHERE tenant_id = 'default'
"""

SESSIONS = """
SELECT session_id, user_id, started_at, (started_at AT TIME ZONE 'UTC')::date AS day, ended_at, ended_by, duration,
       ended_at IS NULL AS is_open, views AS product_views, products, more_products
FROM read.user_sessions WHERE tenant_id = 'default'
"""

PRODUCT_VIEWS_HOURLY = """
SELECT hour, product_id, views, distinct_users AS users
FROM read.product_views WHERE tenant_id = 'default'
"""

PRODUCT_RANKING = """
SELECT rank() OVER (ORDER BY views DESC) AS rank, product_id, views, users
FROM (
    SELECT product_id, sum(views)::bigint AS views
    FROM read.product_views WHERE tenant_id = 'default' GROUP BY product_id
) AS viewed
JOIN (
    SELECT product_id, count(DISTINCT user_id) AS users
    FROM read.product_views_users CROSS JOIN LATERAL unnest(products) AS product_id
    WHERE tenant_id = 'default' GROUP BY product_id
) AS seen USING (product_id)
"""

ACTIVITY_HOURLY = """
SELECT hour, event_type, events, distinct_users AS users
FROM read.activity_hourly WHERE tenant_id = 'default'
"""

# {unit}: day, week (ISO, from Monday) or month, in UTC whatever the session's time zone is.
ACTIVE_USERS = """
SELECT {unit}, {iso_week}active.users, coalesce(arrived.users, 0) AS new_users, happened.events
FROM (
    SELECT date_trunc('{unit}', hour AT TIME ZONE 'UTC')::date AS {unit}, count(DISTINCT user_id) AS users
    FROM read.activity_hourly_users WHERE tenant_id = 'default' GROUP BY 1
) AS active
JOIN (
    SELECT date_trunc('{unit}', hour AT TIME ZONE 'UTC')::date AS {unit}, sum(events)::bigint AS events
    FROM read.activity_hourly WHERE tenant_id = 'default' GROUP BY 1
) AS happened USING ({unit})
LEFT JOIN (
    SELECT date_trunc('{unit}', first_seen AT TIME ZONE 'UTC')::date AS {unit}, count(*) AS users
    FROM read.user_activity WHERE tenant_id = 'default' GROUP BY 1
) AS arrived USING ({unit})
"""

FUNNEL = """
SELECT day, sessions, sessions_with_view, sessions_with_several,
       round(sessions_with_view::numeric / sessions, 4) AS view_rate, users, users_with_view
FROM (
    SELECT (started_at AT TIME ZONE 'UTC')::date AS day, count(*) AS sessions,
           count(*) FILTER (WHERE views > 0) AS sessions_with_view,
           count(*) FILTER (WHERE cardinality(products) > 1) AS sessions_with_several,
           count(DISTINCT user_id) AS users,
           count(DISTINCT user_id) FILTER (WHERE views > 0) AS users_with_view
    FROM read.user_sessions WHERE tenant_id = 'default' GROUP BY 1
) AS counted
"""

RETENTION = """
WITH members AS (
    SELECT user_id, date_trunc('week', first_seen AT TIME ZONE 'UTC')::date AS cohort_week
    FROM read.user_activity WHERE tenant_id = 'default'
), cohorts AS (
    SELECT cohort_week, count(*) AS cohort_users FROM members GROUP BY 1
), active AS (
    SELECT DISTINCT user_id, date_trunc('week', hour AT TIME ZONE 'UTC')::date AS week
    FROM read.activity_hourly_users WHERE tenant_id = 'default'
), returned AS (
    SELECT cohort_week, week, count(*) AS users FROM members JOIN active USING (user_id) GROUP BY 1, 2
)
SELECT cohort_week, (week - cohort_week) / 7 AS week_number, week, cohort_users, users,
       round(users::numeric / cohort_users, 4) AS retention
FROM returned JOIN cohorts USING (cohort_week)
"""

VIEWS = {
    "events": EVENTS,
    "users": USERS,
    "sessions": SESSIONS,
    "product_ranking": PRODUCT_RANKING,
    "product_views_hourly": PRODUCT_VIEWS_HOURLY,
    "activity_hourly": ACTIVITY_HOURLY,
    "active_users_daily": ACTIVE_USERS.format(unit="day", iso_week=""),
    "active_users_weekly": ACTIVE_USERS.format(unit="week", iso_week="""to_char(week, 'IYYY-"W"IW') AS iso_week, """),
    "active_users_monthly": ACTIVE_USERS.format(unit="month", iso_week=""),
    "login_to_view_funnel": FUNNEL,
    "retention_weekly": RETENTION,
}

_ACTIVE = {
    "users": "Different users with at least one event.",
    "new_users": "Users among them who never were there before.",
    "events": "Events of every type.",
}

COMMENTS: dict[str, dict[str, str]] = {
    "events": {
        "": "Every event, exactly once.",
        "event_id": "Unique id of the event.",
        "user_id": "Who acted.",
        "event_type": "LOGIN, LOGOUT or PRODUCT_VIEW.",
        "occurred_at": "When it happened: the event's timestamp.",
        "day": "The day of occurred_at in UTC. To choose a span, compare occurred_at: it has an index.",
        "product_id": "The product of a PRODUCT_VIEW, payload.productId; null for a view of none, and for other types.",
        "payload": "Free-form details.",
        "recorded_at": "When Kafka's record was made.",
        "projected_at": "When it came into the read model.",
    },
    "users": {
        "": "Each user who ever acted.",
        "user_id": "Who acted.",
        "events": "Events of every type.",
        "logins": "LOGIN events.",
        "logouts": "LOGOUT events.",
        "product_views": "PRODUCT_VIEW events, of a product or not.",
        "first_seen": "The least timestamp of their events.",
        "last_seen": "The greatest timestamp of their events.",
        "last_login_at": "Timestamp of the latest LOGIN; null without one.",
        "logged_in": "Whether the latest LOGIN or LOGOUT is a LOGIN; false without either.",
        "last_product_id": "The product viewed last; null without one.",
    },
    "sessions": {
        "": "From each LOGIN to the LOGOUT or LOGIN of the same user that ended it, in the order of the log.",
        "session_id": "Event id of the LOGIN.",
        "user_id": "Who was logged in.",
        "started_at": "Timestamp of the LOGIN.",
        "day": "The day of started_at in UTC.",
        "ended_at": "Timestamp of what ended it; null while open.",
        "ended_by": "LOGOUT, or LOGIN: the next one; null while open.",
        "duration": "From start to end, never negative; null while open.",
        "is_open": "Whether nothing has ended it yet.",
        "product_views": "PRODUCT_VIEW events.",
        "products": "The different products seen, in the order they first were, at most 200.",
        "more_products": "Whether more than 200 were seen.",
    },
    "product_ranking": {
        "": "Products by their views since the beginning; for a span of time, sum up product_views_hourly.",
        "rank": "1 for the most views; products with as many views share a rank.",
        "product_id": "The product.",
        "views": "PRODUCT_VIEW events.",
        "users": "Different users who viewed it.",
    },
    "product_views_hourly": {
        "": "Views of each product in each hour; an hour without a view has no row.",
        "hour": "The full hour (UTC) of the events' timestamps.",
        "product_id": "The product.",
        "views": "PRODUCT_VIEW events.",
        "users": "Different users in this hour; not to be summed up over hours.",
    },
    "activity_hourly": {
        "": "Events of each type in each hour; what did not happen has no row.",
        "hour": "The full hour (UTC) of the events' timestamps.",
        "event_type": "LOGIN, LOGOUT or PRODUCT_VIEW.",
        "events": "How many.",
        "users": "Different users in this hour; not to be summed up over hours or types.",
    },
    "active_users_daily": {
        "": "Daily active users; a day without events has no row.",
        "day": "The day in UTC.",
        **_ACTIVE,
    },
    "active_users_weekly": {
        "": "Weekly active users; a week without events has no row.",
        "week": "The Monday of the ISO week, in UTC.",
        "iso_week": "The ISO week as year and number, such as 2026-W53; the year is that of its Thursday.",
        **_ACTIVE,
    },
    "active_users_monthly": {
        "": "Monthly active users; a month without events has no row.",
        "month": "The first day of the month, in UTC.",
        **_ACTIVE,
    },
    "login_to_view_funnel": {
        "": "How many sessions get from the LOGIN to a product, by the day they started; open ones count.",
        "day": "The day of the LOGIN in UTC.",
        "sessions": "Sessions that started.",
        "sessions_with_view": "Those of them with at least one PRODUCT_VIEW, on whatever day.",
        "sessions_with_several": "Those of them with at least two different products.",
        "view_rate": "sessions_with_view of sessions: 0 to 1, with four decimals.",
        "users": "Different users who started one.",
        "users_with_view": "Those of them with a PRODUCT_VIEW in one.",
    },
    "retention_weekly": {
        "": "Of the users who came in one ISO week, how many were there in each week since; one with none has no row.",
        "cohort_week": "The Monday of the week (UTC) in which these users were first seen.",
        "week_number": "Weeks since then; 0 is the first week itself.",
        "week": "The Monday of the week that is looked at.",
        "cohort_users": "Users of the cohort.",
        "users": "Those of them with at least one event in that week.",
        "retention": "users of cohort_users: 0 to 1, with four decimals.",
    },
}


def upgrade() -> None:
    op.execute(ROLE)
    for name, definition in READ_VIEWS.items():
        op.execute(ON_THE_ACTIVE_GENERATION.format(name=name, definition=definition))
    op.execute("CREATE SCHEMA reporting")
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW reporting.{name} WITH (security_barrier = true) AS {query}")
    comments = {**READ_COMMENTS, "SCHEMA reporting": "For people and tools: the default tenant's data, documented."}
    for view, texts in COMMENTS.items():
        comments |= {
            f"COLUMN reporting.{view}.{column}" if column else f"VIEW reporting.{view}": text
            for column, text in texts.items()
        }
    for target, text in comments.items():
        quoted = text.replace("'", "''").replace(":", r"\:")  # SQLAlchemy takes a colon for a parameter
        op.execute(f"COMMENT ON {target} IS '{quoted}'")
    op.execute("GRANT USAGE ON SCHEMA reporting TO footfall_reporter")
    op.execute("GRANT SELECT ON ALL TABLES IN SCHEMA reporting TO footfall_reporter")


def downgrade() -> None:
    # Keep the role: other databases of the cluster may use it.
    op.execute("DROP SCHEMA reporting CASCADE")
    for name in READ_VIEWS:
        op.execute(f"DROP VIEW read.{name}")
