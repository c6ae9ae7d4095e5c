"""Applies erasure markers: deletes what one generation holds of the users, in the batch's transaction.

Counts by hour and product stay, because they name nobody. Each generation meets the marker in its own turn, so a
rebuild counts the same.
"""

from collections.abc import Sequence

from projector.privacy.erased_users import stub_id
from projector.privacy.letters import erase_letters
from projector.privacy.marker import Marker
from projector.writing.connection import Connection
from read_model.pseudonyms import pseudonym, pseudonym_key

# The tables that hold a user's rows by the user's key, and those by the hour of the user's events.
BY_USER = ("user_activity", "user_activity_types", "user_sessions", "user_sessions_open")
BY_HOUR = ("product_views_users", "activity_hourly_users")
BY_HOUR_AND_TYPE = ("activity_hourly_type_users",)
ERASED_TABLES = ("processed_events", "dead_letters", *BY_USER, *BY_HOUR, *BY_HOUR_AND_TYPE)

GONE = """
gone AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::bigint[])
        AS marker(tenant_id, user_id, kafka_partition, kafka_offset)
)"""
VISITS = """
visits AS (
    SELECT DISTINCT event.tenant_id, event.user_id, event.kafka_partition, event.event_type,
           date_trunc('hour', event.occurred_at, 'UTC') AS hour
    FROM gone JOIN {generation}.processed_events AS event
      ON event.tenant_id = gone.tenant_id AND event.user_id = gone.user_id
     AND event.kafka_partition = gone.kafka_partition
)"""
DELETE = """
{table}_gone AS (
    DELETE FROM {generation}.{table} AS stored USING {those}
    WHERE stored.tenant_id = those.tenant_id AND stored.user_id = those.user_id
      AND stored.kafka_partition = those.kafka_partition{more}
)"""
AT_THE_HOUR = " AND stored.hour = those.hour"
BEFORE_THE_MARKER = " AND (stored.kafka_offset < those.kafka_offset OR stored.kafka_topic <> $5)"

REGISTER = """
INSERT INTO ops.erasures (topic, topic_id, partition, kafka_offset, erasure_id, tenant_id, pseudonym, requested_at)
SELECT $1, coalesce(here.topic_id, '00000000-0000-0000-0000-000000000000'), marker.* FROM
    unnest($2::int[], $3::bigint[], $4::uuid[], $5::text[], $6::bytea[], $7::timestamptz[])
        AS marker(partition, kafka_offset, erasure_id, tenant_id, pseudonym, requested_at)
JOIN {generation}.checkpoints AS here ON here.topic = $1 AND here.partition = marker.partition
ON CONFLICT DO NOTHING
"""


async def erase(connection: Connection, generation: str, markers: Sequence[Marker]) -> None:
    """Deletes what the generation holds of these users from before their markers, and registers the markers.

    Args:
        connection: a connection in the transaction that moves the checkpoints of the markers' partitions.
        generation: the schema.
        markers: markers of one topic.
    """
    if not markers:
        return
    topic = markers[0].topic
    secret = await pseudonym_key(connection)
    # A rebuild knows users that are erased already by their stubs.
    gone = [(user, m) for m in markers for user in (m.user, (m.user[0], stub_id(secret, m.user)))]
    await connection.execute(
        _statement(generation),
        [user[0] for user, _ in gone],
        [user[1] for user, _ in gone],
        [m.partition for _, m in gone],
        [m.offset for _, m in gone],
        topic,
    )
    await erase_letters(connection, generation, topic, [(user, m.partition, m.offset) for user, m in gone])
    await connection.execute(
        REGISTER.format(generation=generation),
        topic,
        [m.partition for m in markers],
        [m.offset for m in markers],
        [m.erasure.erasure_id for m in markers],
        [m.user[0] for m in markers],
        [pseudonym(secret, *m.user) for m in markers],
        [m.erasure.requested_at for m in markers],
    )


def _statement(generation: str) -> str:
    deletes = [(table, "gone AS those", "") for table in BY_USER]
    deletes += [(table, "visits AS those", AT_THE_HOUR) for table in BY_HOUR]
    deletes += [
        (table, "visits AS those", f"{AT_THE_HOUR} AND stored.event_type = those.event_type")
        for table in BY_HOUR_AND_TYPE
    ]
    deletes.append(("processed_events", "gone AS those", BEFORE_THE_MARKER))
    parts = [GONE, VISITS.format(generation=generation)]
    parts += [
        DELETE.format(table=table, generation=generation, those=those, more=more) for table, those, more in deletes
    ]
    return f"WITH {','.join(parts)}\nSELECT"
