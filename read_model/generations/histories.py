"""The histories of a topic name, and how an operator accepts a new one (docs/decisions/0024).

A topic that was deleted and created again has another history under the same name. So has a log that lost its end and
was written again. A partition whose checkpoint belongs to another history stops until an operator decides. A rebuild
reads the new history into a new generation. Or one of the two functions here lets the generation continue; the owner's
role calls it in a transaction. The functions raise the epoch, so the projector notices within seconds.
"""

from collections.abc import Mapping
from uuid import UUID

from read_model.connecting.pool import Connection
from read_model.tables import late_events

# Histories without a topic id of Kafka's get ids from 0 to 99. Kafka reserves these and gives them to no topic.
UNNAMED, FIRST_OF_KAFKA = UUID(int=0), UUID(int=100)

NUMBER_HISTORY = """
INSERT INTO ops.histories (topic, topic_id, number)
SELECT $1, $2, coalesce((SELECT max(number) FROM ops.histories WHERE topic = $1), 0) + 1
WHERE NOT EXISTS (SELECT FROM ops.histories WHERE topic = $1 AND topic_id = $2)
ON CONFLICT DO NOTHING
"""

COUNT_UNNAMED = "SELECT count(*) FROM ops.histories WHERE topic = $1 AND topic_id < $2"
NEXT_OFFSET = "SELECT next_offset FROM {generation}.checkpoints WHERE topic = $1 AND partition = $2"

TOPIC_IDS = "SELECT DISTINCT topic_id FROM {generation}.checkpoints WHERE topic = $1 AND topic_id IS NOT NULL"

RESUME_AT = """
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
    """Returns the topic ids in a generation's checkpoints: usually one; none where Kafka gives no ids."""
    rows = await connection.fetch(TOPIC_IDS.format(generation=generation), topic)
    return {row["topic_id"] for row in rows}


async def accept_position(
    connection: Connection, generation: str, topic: str, partition: int, next_offset: int, topic_id: UUID | None = None
) -> None:
    """Lets one partition continue at `next_offset` of the current log, without comparing the record before it.

    If `next_offset` lies before the checkpoint, a new history begins, because cursors may have read other records
    beyond it. The projector then reads again from there, and counts already stored events as duplicates.

    Args:
        connection: a connection of the owner's role, in a transaction.
        generation: the generation's schema.
        topic: the topic's name.
        partition: the stopped partition.
        next_offset: for `history_trimmed`, the first offset of the log; this generation loses the records before it.
            For `history_cut`, any offset up to the log's end.
        topic_id: replaces the topic id in the checkpoint. That is right only if the topic holds the same records at the
            same offsets (a cluster restored from a backup). None: keep the id.
    """
    before = await connection.fetchval(NEXT_OFFSET.format(generation=generation), topic, partition)
    if before is not None and next_offset < before:
        await begin_unnamed(connection, topic)
    await connection.execute(RESUME_AT.format(generation=generation), topic, partition, next_offset, topic_id)


async def accept_history(
    connection: Connection, generation: str, topic: str, topic_id: UUID | None, beginnings: Mapping[int, int]
) -> str:
    """Lets a generation continue with a new topic of the same name; keeps the rows of the old topic.

    Use it for `another_history`, when the rows must stay although their log is gone. It moves the stored rows to
    another topic name, so that no two records have one position, and rewrites every row for that. Queries by user, time
    and product still find the rows; the feed no longer delivers them. Cursors and positions of the old history become
    invalid.

    Args:
        connection: a connection of the owner's role, in a transaction.
        generation: the generation's schema.
        topic: the topic's name.
        topic_id: the id of the new topic; None if the brokers give none.
        beginnings: the first offset to process, by partition.

    Returns:
        The topic name under which the old rows now are.
    """
    old = await topic_ids(connection, generation, topic)
    # A second history without a topic id needs a name of its own.
    named = await connection.fetchval(COUNT_UNNAMED, topic, FIRST_OF_KAFKA)
    old_name = f"{topic}@{'+'.join(sorted(map(str, old))) or f'before-{max(named, 1)}'}"
    for statement in SET_ASIDE:
        await connection.execute(statement.format(generation=generation), topic, old_name)
    places = list(beginnings.keys()), list(beginnings.values())
    await connection.execute(BEGIN.format(generation=generation), topic, *places, topic_id)
    await connection.execute(late_events.FORGET, topic)
    if topic_id is None:
        await begin_unnamed(connection, topic)
    else:
        await connection.execute(NUMBER_HISTORY, topic, topic_id)
    return old_name


async def begin_unnamed(connection: Connection, topic: str) -> None:
    """Begins another history of a topic without a new topic id from Kafka. Older cursors are refused from then on."""
    known = await connection.fetchval(COUNT_UNNAMED, topic, FIRST_OF_KAFKA)
    for number in range(max(known, 1) + 1):  # the first id stands for the history before
        await connection.execute(NUMBER_HISTORY, topic, UUID(int=number))
