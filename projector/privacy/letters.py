"""Finds the dead letters of a user, whatever their records look like, and erases them.

A letter is a user's by its key, or by the user id that its value has as JSON (`users_of_record`). A value that is no
JSON is nobody's: words in it prove nothing.
"""

from collections.abc import AsyncIterator, Collection, Sequence

import asyncpg
import msgspec

from contracts.record import key_of
from projector.privacy.erased_users import User, users_of_record
from read_model.connecting.pool import Connection

Gone = tuple[User, int, int]  # tenant and user id; partition and offset of the marker

# Candidates by key, or by value: the one `"userId":".."` is a name, or it is written otherwise: an
# escape may spell any id, and white space or a second "userId" may stand anywhere, which only a JSON parser can tell.
# Names are looked up in a hash table: to look for each of them in each value took minutes for 1,000 users.
CANDIDATES = r"""
SELECT letter.* FROM {generation}.dead_letters AS letter
CROSS JOIN LATERAL (SELECT position('"userId"'::bytea IN record_value) AS at OFFSET 0) AS named
CROSS JOIN LATERAL (SELECT substring(record_value FROM named.at + 10) AS rest OFFSET 0) AS behind
WHERE record_key = ANY ($1::bytea[]) OR position('\x5c'::bytea IN record_value) > 0
   OR named.at > 0 AND CASE
      WHEN substring(record_value FROM named.at FOR 10) <> '"userId":"'::bytea
           OR position('"userId"'::bytea IN behind.rest) > 0 THEN true
      ELSE substring(behind.rest FROM 1 FOR greatest(position('"'::bytea IN behind.rest) - 1, 0)) = ANY ($2::bytea[])
      END
ORDER BY kafka_topic, kafka_partition, kafka_offset
"""
AT_ONCE = 50  # letters that are read from the server at a time
# That a record was set aside stays known, and nothing of it: a rebuild skips it, as the generation before did.
# Its key keeps the tenant (`TENANT_OF_KEY`), and no user; a key that names what is no tenant goes as a whole.
TENANT_ONLY = r"""CASE WHEN coalesce(position('\x1f'::bytea IN record_key), 0) = 0 THEN ''::bytea
     WHEN encode(substring(record_key FROM 1 FOR position('\x1f'::bytea IN record_key) - 1), 'escape')
          ~ '^[A-Za-z0-9._-]{{1,64}}$'
     THEN substring(record_key FROM 1 FOR position('\x1f'::bytea IN record_key)) END"""
EMPTIED = f"""record_key = {TENANT_ONLY}, record_value = NULL,
    header_names = ARRAY[]::text[], header_values = ARRAY[]::bytea[],
    user_id = NULL, error_message = 'The record is erased.'"""
EMPTY = f"""
UPDATE {{generation}}.dead_letters AS letter
SET {EMPTIED},
    state = CASE letter.state WHEN 'parked' THEN 'discarded' ELSE letter.state END,
    resolved_at = coalesce(letter.resolved_at, now()), resolved_by = coalesce(letter.resolved_by, 'erasure'),
    published_at = coalesce(letter.published_at, now())
FROM unnest($2::int[], $3::bigint[]) AS named(kafka_partition, kafka_offset)
WHERE letter.kafka_topic = $1 AND letter.kafka_partition = named.kafka_partition
  AND letter.kafka_offset = named.kafka_offset
"""


async def letters_of(
    connection: Connection, generation: str, users: Collection[User]
) -> AsyncIterator[tuple[asyncpg.Record, list[User]]]:
    """Yields each letter of one of the users, in a generation, with whose it is. Needs a transaction."""
    keys = [key_of(*user) for user in users]
    names = [msgspec.json.encode(user_id)[1:-1] for _, user_id in users]
    letters = connection.cursor(CANDIDATES.format(generation=generation), keys, names, prefetch=AT_ONCE)
    wanted = frozenset(users)
    async for letter in letters:
        found = [user for user in users_of_record(letter["record_key"], letter["record_value"]) if user in wanted]
        if found:
            yield letter, found


async def erase_letters(connection: Connection, generation: str, topic: str, gone: Sequence[Gone]) -> bool:
    """Empties the letters of these users from before their markers. Returns whether there were any."""
    until: dict[tuple[User, int], int] = {}
    for user, partition, offset in gone:
        until[user, partition] = max(offset, until.get((user, partition), -1))
    here = []
    async for letter, users in letters_of(connection, generation, {user for user, _ in until}):
        partition, offset = letter["kafka_partition"], letter["kafka_offset"]
        if letter["kafka_topic"] == topic and any(offset < until.get((user, partition), -1) for user in users):
            here.append((partition, offset))
    await empty_letters(connection, generation, topic, here)
    return bool(here)


async def empty_letters(connection: Connection, generation: str, topic: str, places: Sequence[tuple[int, int]]) -> None:
    """Empties the letters at these partitions and offsets."""
    if places:
        partitions, offsets = zip(*places, strict=True)
        await connection.execute(EMPTY.format(generation=generation), topic, list(partitions), list(offsets))
