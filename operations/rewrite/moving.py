"""Moves rows and checkpoints of every generation to the new topic, in one transaction.

Offsets stay. So checkpoints, positions and cursors go on where they were.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing
from uuid import UUID

from operations.refusal import RefusedError
from operations.rewrite.register import Rewrite
from operations.rewrite.work import Work
from projector.failpoints import reached
from read_model.connecting.pool import Connection
from read_model.generations.register import list_generations, positions, write_journal

POLL = 0.2  # seconds

# A checkpoint of a topic that is not the log: its topic id is that of the other one, so whoever claims it stops.
BAR = """
INSERT INTO {generation}.checkpoints (topic, partition, next_offset, epoch, owner, topic_id)
SELECT $1, partition, 0, 0, '', $3 FROM unnest($2::int[]) AS barred(partition) ON CONFLICT DO NOTHING
"""
# The record before a checkpoint may be another one now, so its fingerprint goes; the topic's id proves the history.
UNBAR = "DELETE FROM {generation}.checkpoints WHERE topic = $1"
MOVE = (
    "UPDATE {generation}.processed_events SET kafka_topic = $2 WHERE kafka_topic = $1",
    "UPDATE {generation}.dead_letters SET kafka_topic = $2 WHERE kafka_topic = $1",
)
MOVE_CHECKPOINTS = """
UPDATE {generation}.checkpoints
SET topic = $2, topic_id = $3, epoch = epoch + 1, last_record = NULL, stopped_reason = NULL, stopped_at = NULL
WHERE topic = $1
"""
UNPUBLISHED = """
SELECT EXISTS (SELECT FROM {generation}.dead_letters WHERE kafka_topic = $1 AND published_at IS NULL)
"""
MOVE_LATE = "UPDATE ops.late_events SET topic = $2 WHERE topic = $1"
MOVE_HISTORIES = """
INSERT INTO ops.histories (topic, topic_id, number, continues)
SELECT $2, CASE topic_id WHEN $4 THEN $3 ELSE topic_id END, number,
       CASE topic_id WHEN $4 THEN coalesce(continues, $4) ELSE continues END
FROM ops.histories WHERE topic = $1
ON CONFLICT (topic, topic_id) DO UPDATE SET number = excluded.number, continues = excluded.continues
"""
# Erasures that came after the rewrite began: the new topic has these users, and their markers, as the old one had.
COPY_ERASURES = """
INSERT INTO ops.erasures (topic, topic_id, partition, kafka_offset, erasure_id, tenant_id, pseudonym, requested_at,
                          applied_at)
SELECT $2, $3, partition, kafka_offset, erasure_id, tenant_id, pseudonym, requested_at, applied_at
FROM ops.erasures AS known JOIN unnest($4::int[], $5::bigint[]) AS covered(partition, until) USING (partition)
WHERE topic = $1 AND kafka_offset >= covered.until
ON CONFLICT DO NOTHING
"""
SWITCHED = "UPDATE ops.log_rewrites SET state = 'switched', switched_at = now() WHERE number = $1"
# The offsets of markers would tell which stubs in the new topic were whose. That the users were erased stays known.
FORGET_OFFSETS = """
WITH gone AS (
    DELETE FROM ops.erasures AS known USING unnest($2::int[], $3::bigint[]) AS covered(partition, until)
    WHERE known.topic = $1 AND known.partition = covered.partition AND known.kafka_offset < covered.until
      AND known.kafka_offset >= 0
    RETURNING known.*
), one AS (SELECT DISTINCT ON (erasure_id) * FROM gone ORDER BY erasure_id, applied_at)
INSERT INTO ops.erasures (topic, topic_id, partition, kafka_offset, erasure_id, tenant_id, pseudonym, requested_at,
                          applied_at)
SELECT topic, topic_id, -1, -row_number() OVER (ORDER BY random()), erasure_id, tenant_id, pseudonym, requested_at,
       applied_at
FROM one
ON CONFLICT DO NOTHING
"""


async def wait_until_projected(work: Work, rewrite: Rewrite, ends: Mapping[int, int], patience: float) -> None:
    """Waits until the generations that are projected have all of the log. Raises RefusedError if they do not."""
    deadline = time.monotonic() + patience
    while behind := await _behind(work, rewrite, ends):
        if time.monotonic() > deadline:
            raise RefusedError(
                f"{behind} has not projected all of {rewrite.topic} after {patience:g} s. Does a projector "
                "run? The old topic is open again. Then try again."
            )
        await asyncio.sleep(POLL)


async def wait_until_published(work: Work, rewrite: Rewrite, patience: float) -> None:
    """Waits until every dead letter of the active generation is in its topic. Raises RefusedError if they are not."""
    deadline = time.monotonic() + patience
    active = next(each.name for each in await list_generations(work.connection) if each.state == "active")
    while await work.connection.fetchval(UNPUBLISHED.format(generation=active), rewrite.topic):
        if time.monotonic() > deadline:
            raise RefusedError(
                f"Dead letters of {active} are not in {rewrite.dead_letters} after {patience:g} s. Does a projector "
                "run? The old topics are open again. Then try again."
            )
        await asyncio.sleep(POLL)


async def _behind(work: Work, rewrite: Rewrite, ends: Mapping[int, int]) -> str | None:
    for each in await list_generations(work.connection):
        if each.state in ("active", "standby"):
            stands = await positions(work.connection, each.name, rewrite.topic)
            for partition, end in ends.items():
                if await _has_records(work, rewrite.topic, partition, stands.get(partition, 0), end):
                    return each.name
    return None


async def _has_records(work: Work, topic: str, partition: int, begin: int, end: int) -> bool:
    """Whether there are records: a checkpoint may stand before the end of a transaction, which is none."""
    async with aclosing(work.reader.records(topic, partition, begin, end)) as records:
        async for _ in records:
            return True
    return False


async def move(work: Work, rewrite: Rewrite) -> list[str]:
    """Moves every row of every generation to the new topic. Returns the generations."""
    connection = work.connection
    new_id = await work.topics.topic_id(rewrite.new_topic)
    names = [each.name for each in await list_generations(connection) if each.state != "dropping"]
    async with connection.transaction():
        for name in names:
            await _move_generation(connection, name, rewrite, new_id)
        covered = list(rewrite.covered), list(rewrite.covered.values())
        await connection.execute(MOVE_LATE, rewrite.topic, rewrite.new_topic)
        await connection.execute(MOVE_HISTORIES, rewrite.topic, rewrite.new_topic, new_id, rewrite.topic_id)
        await connection.execute(COPY_ERASURES, rewrite.topic, rewrite.new_topic, new_id, *covered)
        await connection.execute(SWITCHED, rewrite.number)
        detail = {"old": rewrite.topic, "new": rewrite.new_topic, "generations": names}
        await write_journal(connection, work.actor, "privacy rewrite switch", detail)
        await reached("rewrite_before_switch")
    return names


async def _move_generation(connection: Connection, name: str, rewrite: Rewrite, new_id: UUID) -> None:
    await connection.execute(f"LOCK TABLE {name}.checkpoints IN SHARE ROW EXCLUSIVE MODE")
    await connection.execute(UNBAR.format(generation=name), rewrite.new_topic)
    for statement in MOVE:
        await connection.execute(statement.format(generation=name), rewrite.topic, rewrite.new_topic)
    await connection.execute(MOVE_CHECKPOINTS.format(generation=name), rewrite.topic, rewrite.new_topic, new_id)
    await connection.execute(BAR.format(generation=name), rewrite.topic, list(rewrite.covered), new_id)


async def forget_offsets(connection: Connection, rewrite: Rewrite) -> None:
    """Forgets where the markers of covered erasures stood."""
    covered = list(rewrite.covered), list(rewrite.covered.values())
    await connection.execute(FORGET_OFFSETS, rewrite.topic, *covered)
