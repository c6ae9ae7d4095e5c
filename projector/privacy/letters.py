"""Finds the dead letters of a user, whatever their records look like, and erases them.

A letter is a user's by its key; or its value says whose event it would be; or it names the user and says nothing else
that can be read.
"""

import json
from collections.abc import Sequence

import asyncpg
import msgspec

from contracts.event import DEFAULT_TENANT
from contracts.record import key_of
from projector.writing.connection import Connection

Gone = tuple[tuple[str, str], int, int]  # tenant and user id; partition and offset of the marker

# Candidates by key, or by the JSON text of the id; `is_of` looks at each.
CANDIDATES = """
SELECT * FROM {generation}.dead_letters
WHERE record_key = ANY ($1::bytea[])
   OR EXISTS (SELECT FROM unnest($2::bytea[]) AS name WHERE position(name IN record_value) > 0)
ORDER BY kafka_topic, kafka_partition, kafka_offset
"""
# That a record was set aside stays known, and nothing of it: a rebuild skips it, as the generation before did.
EMPTY = """
UPDATE {generation}.dead_letters AS letter
SET record_key = NULL, record_value = NULL, header_names = '{{}}', header_values = '{{}}', user_id = NULL,
    state = CASE letter.state WHEN 'parked' THEN 'discarded' ELSE letter.state END,
    resolved_at = coalesce(letter.resolved_at, now()), resolved_by = coalesce(letter.resolved_by, 'erasure'),
    published_at = coalesce(letter.published_at, now())
FROM unnest($2::int[], $3::bigint[]) AS named(kafka_partition, kafka_offset)
WHERE letter.kafka_topic = $1 AND letter.kafka_partition = named.kafka_partition
  AND letter.kafka_offset = named.kafka_offset
"""


async def letters_of(connection: Connection, generation: str, users: Sequence[tuple[str, str]]) -> list[asyncpg.Record]:
    """Returns the candidates among the letters of a generation: those that name one of the users in some way."""
    keys = [key_of(*user) for user in users]
    names = {name for _, user_id in users for name in names_in_json(user_id)}
    found: list[asyncpg.Record] = await connection.fetch(CANDIDATES.format(generation=generation), keys, list(names))
    return found


async def erase_letters(connection: Connection, generation: str, topic: str, gone: Sequence[Gone]) -> bool:
    """Empties the letters of these users from before their markers. Returns whether there were any."""
    here = [
        (row["kafka_partition"], row["kafka_offset"])
        for row in await letters_of(connection, generation, [user for user, _, _ in gone])
        if row["kafka_topic"] == topic and any(_stands_before(row, each) and is_of(row, each[0]) for each in gone)
    ]
    await empty_letters(connection, generation, topic, here)
    return bool(here)


async def empty_letters(connection: Connection, generation: str, topic: str, places: Sequence[tuple[int, int]]) -> None:
    """Empties the letters at these partitions and offsets."""
    if places:
        partitions, offsets = zip(*places, strict=True)
        await connection.execute(EMPTY.format(generation=generation), topic, list(partitions), list(offsets))


def _stands_before(row: asyncpg.Record, gone: Gone) -> bool:
    _, partition, offset = gone
    return bool(row["kafka_partition"] == partition and row["kafka_offset"] < offset)


def names_in_json(user_id: str) -> set[bytes]:
    """How JSON spells a user id: in UTF-8, and in ASCII."""
    return {msgspec.json.encode(user_id), json.dumps(user_id).encode()}


def is_of(letter: asyncpg.Record, user: tuple[str, str]) -> bool:
    """Whether a letter is the user's: tenant and user id."""
    key, value = letter["record_key"], letter["record_value"]
    if key == key_of(*user):
        return True
    if value is None or not any(name in value for name in names_in_json(user[1])):
        return False
    try:
        fields = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True
    if not isinstance(fields, dict) or not isinstance(fields.get("userId"), str):
        return True
    return (fields.get("tenantId", DEFAULT_TENANT), fields["userId"]) == user
