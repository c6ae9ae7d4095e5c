"""The histories that a topic's name has had, and what an operator may accept of them (docs/decisions/0024).

A topic that is deleted and made anew is another history under the same name, and so is one whose end was lost and
written anew. A partition whose checkpoint is not of the log's history stands still until somebody decides: a rebuild
reads the new history into a new generation; or one of the two functions here, called in a transaction by the owner's
role, lets the generation go on. The projector notices both within seconds, for they raise the epoch.
"""

from collections.abc import Mapping
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from read_model.tables import late_events

Connection = PoolConnectionProxy | asyncpg.Connection

# Histories that no topic id tells apart are named here, with ids that Kafka gives no topic: 0 to 99 are its own.
UNNAMED, FIRST_OF_KAFKA = UUID(int=0), UUID(int=100)

SEEN = """
INSERT INTO ops.histories (topic, topic_id, number)
SELECT $1, $2, coalesce((SELECT max(number) FROM ops.histories WHERE topic = $1), 0) + 1
WHERE NOT EXISTS (SELECT FROM ops.histories WHERE topic = $1 AND topic_id = $2)
ON CONFLICT DO NOTHING
"""

NAMED_HERE = "SELECT count(*) FROM ops.histories WHERE topic = $1 AND topic_id < $2"
STANDS_AT = "SELECT next_offset FROM {generation}.checkpoints WHERE topic = $1 AND partition = $2"

TOPIC_IDS = "SELECT DISTINCT topic_id FROM {generation}.checkpoints WHERE topic = $1 AND topic_id IS NOT NULL"

GO_ON_AT = """
UPDATE {generation}.checkpoints
SET next_offset = $3, last_record = NULL, topic_id = coalesce($4, topic_id), epoch = epoch + 1, updated_at = now(),
    stopped_reason = NULL, stopped_at = NULL
WHERE topic = $1 AND partition = $2
"""

SET_ASIDE = (
    "UPDATE {generation}.processed_events SET kafka_topic = $2 WHERE kafka_topic = $1",
    "UPDATE {generation}.dead_letters SET kafka_topic = $2 WHERE kafka_topic = $1",
    "UPDATE {generation}.checkpoints SET topic = $2 WHERE topic = $1",
)
BEGIN = """
INSERT INTO {generation}.checkpoints (topic, partition, next_offset, epoch, owner, topic_id)
SELECT $1, partition, next_offset, 0, '', $4 FROM unnest($2::int[], $3::bigint[]) AS origin(partition, next_offset)
"""


async def topic_ids(connection: Connection, generation: str, topic: str) -> set[UUID]:
    """The topics that a generation's checkpoints count in: one as a rule, none where Kafka gives no ids."""
    rows = await connection.fetch(TOPIC_IDS.format(generation=generation), topic)
    return {row["topic_id"] for row in rows}


async def accept_position(
    connection: Connection, generation: str, topic: str, partition: int, next_offset: int, topic_id: UUID | None = None
) -> None:
    """Lets one partition go on at `next_offset` of the log as it is now; nothing is asked of the record before.

    For `history_trimmed`: the log's first offset; the records in between are lost to this generation. For
    `history_cut`: any offset up to the log's end. One below the checkpoint reads again from there: events that are
    stored already are recognised by their ids, and counted as duplicates. `topic_id`: given, it replaces the one in the
    checkpoint, which is right only where the topic holds the same records at the same offsets (a cluster restored from
    a backup). Going back begins a history: what cursors have read beyond `next_offset` is another record now.
    """
    before = await connection.fetchval(STANDS_AT.format(generation=generation), topic, partition)
    if before is not None and next_offset < before:
        await begin_unnamed(connection, topic)
    await connection.execute(GO_ON_AT.format(generation=generation), topic, partition, next_offset, topic_id)


async def accept_history(
    connection: Connection, generation: str, topic: str, topic_id: UUID | None, beginnings: Mapping[int, int]
) -> str:
    """Lets a generation go on with the topic that has the old one's name, from `beginnings` (partition to offset).

    For `another_history`, where the rows must stay though the log that they came from is gone: what is stored is set
    aside under the name that is returned, so that no two records have one position; queries by user, time and product
    still find it, and the feed tells it no more. Cursors and positions of the old history end. Rewrites every row.
    """
    old = await topic_ids(connection, generation, topic)
    named = await connection.fetchval(NAMED_HERE, topic, FIRST_OF_KAFKA)  # a second history without ids needs a name
    aside = f"{topic}@{'+'.join(sorted(map(str, old))) or f'before-{max(named, 1)}'}"
    for statement in SET_ASIDE:
        await connection.execute(statement.format(generation=generation), topic, aside)
    places = list(beginnings.keys()), list(beginnings.values())
    await connection.execute(BEGIN.format(generation=generation), topic, *places, topic_id)
    await connection.execute(late_events.FORGET, topic)
    if topic_id is None:
        await begin_unnamed(connection, topic)
    else:
        await connection.execute(SEEN, topic, topic_id)
    return aside


async def begin_unnamed(connection: Connection, topic: str) -> None:
    """From now on the topic has another history, though no id of Kafka's says so: cursors made before are refused."""
    known = await connection.fetchval(NAMED_HERE, topic, FIRST_OF_KAFKA)
    for number in range(max(known, 1) + 1):  # the first stands for what was before
        await connection.execute(SEEN, topic, UUID(int=number))
