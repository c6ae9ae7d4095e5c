"""Applies erasure markers: deletes what one generation holds of the users, in the batch's transaction.

Counts by hour and product stay, because they name nobody. Each generation meets the marker in its own turn, so a
rebuild counts the same.
"""

import json
from collections.abc import Sequence

import asyncpg
import msgspec

from contracts.erasure import UserErasure
from contracts.event import DEFAULT_TENANT
from contracts.record import key_of
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

# Letters whose record names the user as JSON; whose tenant's user it is, their bytes decide.
LETTERS = """
SELECT kafka_partition, kafka_offset, record_key, record_value, state FROM {generation}.dead_letters
WHERE kafka_topic = $1 AND kafka_partition = ANY ($2::int[])
  AND (record_key = ANY ($3::bytea[])
       OR EXISTS (SELECT FROM unnest($4::bytea[]) AS name WHERE position(name IN record_value) > 0))
"""
DELETE_LETTERS = """
DELETE FROM {generation}.dead_letters AS letter
USING unnest($2::int[], $3::bigint[]) AS named(kafka_partition, kafka_offset)
WHERE letter.kafka_topic = $1 AND letter.kafka_partition = named.kafka_partition
  AND letter.kafka_offset = named.kafka_offset AND letter.state <> 'discarded'
"""
# That an operator discarded a record stays known: a rebuild skips it.
EMPTY_DISCARDED = """
UPDATE {generation}.dead_letters AS letter
SET record_key = NULL, record_value = NULL, header_names = '{{}}', header_values = '{{}}', user_id = NULL
FROM unnest($2::int[], $3::bigint[]) AS named(kafka_partition, kafka_offset)
WHERE letter.kafka_topic = $1 AND letter.kafka_partition = named.kafka_partition
  AND letter.kafka_offset = named.kafka_offset AND letter.state = 'discarded'
"""
REGISTER = """
INSERT INTO ops.erasures (topic, topic_id, partition, kafka_offset, erasure_id, tenant_id, pseudonym, requested_at)
SELECT $1, coalesce(here.topic_id, '00000000-0000-0000-0000-000000000000'), marker.* FROM
    unnest($2::int[], $3::bigint[], $4::uuid[], $5::text[], $6::bytea[], $7::timestamptz[])
        AS marker(partition, kafka_offset, erasure_id, tenant_id, pseudonym, requested_at)
JOIN {generation}.checkpoints AS here ON here.topic = $1 AND here.partition = marker.partition
ON CONFLICT DO NOTHING
"""


class Marker(msgspec.Struct, frozen=True):
    """An erasure, and where its marker stands in the log."""

    erasure: UserErasure
    topic: str
    partition: int
    offset: int

    @property
    def user(self) -> tuple[str, str]:
        """The tenant and the user."""
        return self.erasure.tenant_id, self.erasure.user_id

    @property
    def key(self) -> bytes:
        """The key of the user's records."""
        return key_of(*self.user)


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
    tenants, users = [m.user[0] for m in markers], [m.user[1] for m in markers]
    places = [m.partition for m in markers], [m.offset for m in markers]
    await connection.execute(_statement(generation), tenants, users, *places, topic)
    await _erase_letters(connection, generation, topic, markers)
    key = await pseudonym_key(connection)
    await connection.execute(
        REGISTER.format(generation=generation),
        topic,
        *places,
        [m.erasure.erasure_id for m in markers],
        tenants,
        [pseudonym(key, *m.user) for m in markers],
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


async def _erase_letters(connection: Connection, generation: str, topic: str, markers: Sequence[Marker]) -> None:
    names = {name for marker in markers for name in names_in_json(marker.user[1])}
    partitions, keys = {m.partition for m in markers}, {m.key for m in markers}
    found = await connection.fetch(
        LETTERS.format(generation=generation), topic, list(partitions), list(keys), list(names)
    )
    named = [
        (row["kafka_partition"], row["kafka_offset"])
        for row in found
        if any(_is_of(row["record_key"], row["record_value"], marker) for marker in markers_after(row, markers))
    ]
    if named:
        at = list(zip(*named, strict=True))
        for statement in (DELETE_LETTERS, EMPTY_DISCARDED):
            await connection.execute(statement.format(generation=generation), topic, *map(list, at))


def markers_after(row: asyncpg.Record, markers: Sequence[Marker]) -> list[Marker]:
    """The markers that stand behind a letter in its partition."""
    partition, offset = row["kafka_partition"], row["kafka_offset"]
    return [marker for marker in markers if marker.partition == partition and marker.offset > offset]


def names_in_json(user_id: str) -> set[bytes]:
    """How JSON spells a user id: in UTF-8, and in ASCII."""
    return {msgspec.json.encode(user_id), json.dumps(user_id).encode()}


def _is_of(key: bytes | None, value: bytes | None, marker: Marker) -> bool:
    """Whether a letter is the user's: by its key; or its value says so, or names the user and says nothing."""
    if key == marker.key:
        return True
    if value is None or not any(name in value for name in names_in_json(marker.user[1])):
        return False
    try:
        fields = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True
    if not isinstance(fields, dict) or not isinstance(fields.get("userId"), str):
        return True
    return (fields.get("tenantId", DEFAULT_TENANT), fields["userId"]) == marker.user
