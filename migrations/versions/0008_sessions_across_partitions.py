"""Merges the sessions of users whose events are in several partitions, by time, when a query reads them.

Added partitions, and producers with another partitioner, put a user's LOGIN and LOGOUT into different partitions. The
projector of a partition knows only its own part, so no stored row can hold the session. `user_activity` has a row for
each partition of a user. For a user with several rows, the view computes sessions from the events; for all others, it
reads the stored sessions.

Within a partition the log's order counts, whatever the timestamps say: an event counts as no earlier than those before
it.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

STORED = """
SELECT tenant_id, user_id, session_id, started_at, ended_at, ended_by,
       greatest(ended_at - started_at, interval '0') AS duration, views,
       products[1:200] AS products, cardinality(products) > 200 AS more_products
FROM {generation}.user_sessions{ended_here}
UNION ALL
SELECT tenant_id, user_id, session_id, started_at, NULL, NULL, NULL, views,
       products[1:200], cardinality(products) > 200
FROM {generation}.user_sessions_open{open_here}
"""

ELSEWHERE = """ AS stored WHERE NOT EXISTS (
    SELECT FROM {generation}.user_activity AS other
    WHERE other.tenant_id = stored.tenant_id AND other.user_id = stored.user_id
      AND other.kafka_partition <> stored.kafka_partition
)"""

# A product id is, as for the projections, 1 to 256 characters without control characters.
MERGED = r"""
UNION ALL
SELECT tenant_id, user_id, session_id, started_at, ended_at, ended_by,
       CASE WHEN ended_at IS NOT NULL THEN greatest(ended_at - started_at, interval '0') END, views,
       products[1:200], cardinality(products) > 200
FROM (
    SELECT tenant_id, user_id FROM {generation}.user_activity GROUP BY tenant_id, user_id HAVING count(*) > 1
) AS scattered
CROSS JOIN LATERAL (
    SELECT session_id, started_at, views, products,
           coalesce(logged_out_at, lead(started_at) OVER (ORDER BY session)) AS ended_at,
           CASE WHEN logged_out_at IS NOT NULL THEN 'LOGOUT'
                WHEN lead(started_at) OVER (ORDER BY session) IS NOT NULL THEN 'LOGIN' END AS ended_by
    FROM (
        SELECT session,
               (array_agg(event_id ORDER BY place))[1] AS session_id,
               (array_agg(occurred_at ORDER BY place))[1] AS started_at,
               (array_agg(occurred_at ORDER BY place) FILTER (WHERE event_type = 'LOGOUT'))[1] AS logged_out_at,
               count(*) FILTER (WHERE event_type = 'PRODUCT_VIEW' AND place < logout_place) AS views,
               coalesce((array_agg(product ORDER BY place)
                         FILTER (WHERE product IS NOT NULL AND time_seen = 1 AND place < logout_place))[1:201],
                        '{}') AS products
        FROM (
            SELECT *,
                   coalesce(min(place) FILTER (WHERE event_type = 'LOGOUT') OVER (PARTITION BY session),
                            9223372036854775807) AS logout_place,
                   row_number() OVER (PARTITION BY session, product ORDER BY place) AS time_seen
            FROM (
                SELECT event_id, event_type, occurred_at,
                       CASE WHEN event_type = 'PRODUCT_VIEW' AND jsonb_typeof(payload -> 'productId') = 'string'
                             AND length(payload ->> 'productId') BETWEEN 1 AND 256
                             AND payload ->> 'productId' !~ '[\u0001-\u001F\u007F-\u009F]'
                            THEN payload ->> 'productId' END AS product,
                       row_number() OVER log AS place,
                       count(*) FILTER (WHERE event_type = 'LOGIN') OVER log AS session
                FROM (
                    SELECT event_id, event_type, occurred_at, payload, kafka_partition, kafka_offset,
                           max(occurred_at) OVER (PARTITION BY kafka_partition ORDER BY kafka_offset) AS not_before
                    FROM {generation}.processed_events AS event
                    WHERE event.tenant_id = scattered.tenant_id AND event.user_id = scattered.user_id
                ) AS timed
                WINDOW log AS (ORDER BY not_before, kafka_partition, kafka_offset)
            ) AS placed
        ) AS known
        WHERE session > 0 GROUP BY session
    ) AS counted
) AS merged
"""

ON_THE_ACTIVE_GENERATION = """
DO $$
BEGIN
    EXECUTE replace($view$CREATE OR REPLACE VIEW read.user_sessions AS {definition}$view$, '{{generation}}',
                    (SELECT quote_ident(name) FROM ops.generations WHERE state = 'active'));
END $$
"""

COMMENT = """
COMMENT ON VIEW read.user_sessions IS
'Sessions, ended and open; of a user with events in several partitions, merged by time.'
"""


def _define(definition: str) -> None:
    text = ON_THE_ACTIVE_GENERATION.format(definition=definition)
    op.execute(text.replace(":", r"\:"))  # SQLAlchemy takes a colon for a parameter


def upgrade() -> None:
    here = ELSEWHERE
    _define(STORED.replace("{ended_here}", here).replace("{open_here}", here) + MERGED)
    op.execute(COMMENT)


def downgrade() -> None:
    _define(STORED.replace("{ended_here}", "").replace("{open_here}", ""))
    op.execute("COMMENT ON VIEW read.user_sessions IS 'Sessions, ended and open.'")
