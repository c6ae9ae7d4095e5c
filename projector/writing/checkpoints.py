"""Positions come from PostgreSQL, never from Kafka's group (docs/decisions/0002)."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

import msgspec

from projector.consuming.batch import Position
from projector.writing.connection import Connection
from read_model.generations.histories import SEEN

KNOWN = "SELECT partition FROM {generation}.checkpoints WHERE topic = $1"

CREATE = """
INSERT INTO {generation}.checkpoints (topic, partition, next_offset, epoch, owner, topic_id)
SELECT $1, partition, next_offset, 0, '', $4 FROM unnest($2::int[], $3::bigint[]) AS origin(partition, next_offset)
ON CONFLICT (topic, partition) DO NOTHING
"""

CLAIM = """
UPDATE {generation}.checkpoints
SET epoch = epoch + 1, owner = $3, updated_at = now()
WHERE topic = $1 AND partition = ANY($2::int[])
RETURNING partition, next_offset, epoch
"""

# A partition goes on: it belongs to this topic, which a checkpoint of an older version did not say.
GO_ON = """
UPDATE {generation}.checkpoints AS c
SET stopped_reason = NULL, stopped_at = NULL, topic_id = coalesce(topic_id, $4)
FROM unnest($2::int[], $3::bigint[]) AS mine(partition, epoch)
WHERE c.topic = $1 AND c.partition = mine.partition AND c.epoch = mine.epoch
"""

STOP = """
UPDATE {generation}.checkpoints SET stopped_reason = $4, stopped_at = now()
WHERE topic = $1 AND partition = $2 AND epoch = $3
"""

# What a checkpoint of an older version lacks, the last event below it stands in for.
STORED = """
SELECT c.partition, c.next_offset, c.epoch, c.owner, c.topic_id, c.last_record, e.kafka_offset, e.event_id
FROM {generation}.checkpoints AS c LEFT JOIN LATERAL (
    SELECT kafka_offset, event_id FROM {generation}.processed_events AS e
    WHERE c.last_record IS NULL AND e.kafka_topic = c.topic AND e.kafka_partition = c.partition
      AND e.kafka_offset < c.next_offset ORDER BY e.kafka_offset DESC LIMIT 1
) AS e ON true
WHERE c.topic = $1 AND c.partition = ANY($2::int[])
"""

LOCK_TIMEOUT = "SET LOCAL lock_timeout = '2s'"

# A session that waits for its client in the middle of a transaction, for so long, is that of a projector which is
# frozen or whose machine is gone. Its locks would keep the next owner out. A role may end its own sessions.
EVICT_SLEEPERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
  AND application_name = current_setting('application_name')
  AND state IN ('active', 'idle in transaction') AND wait_event = 'ClientRead'
  AND xact_start < clock_timestamp() - interval '5 seconds'
"""


class Stored(msgspec.Struct, frozen=True):
    """A checkpoint as it is stored. `topic_id` and `last_record` (see `fingerprint`) identify its history.

    `last_event_at`, `last_event`: the last event below it, where it has no `last_record`.
    """

    next_offset: int
    epoch: int
    owner: str
    topic_id: UUID | None = None
    last_record: int | None = None
    last_event_at: int | None = None
    last_event: UUID | None = None

    @property
    def witness(self) -> int | None:
        """The offset of the record that tells whether the log is the same; None without any."""
        return self.next_offset - 1 if self.last_record is not None else self.last_event_at


class Checkpoints:
    """The checkpoints of one topic in one generation."""

    def __init__(self, generation: str, topic: str) -> None:
        self.generation = generation
        self.topic = topic

    def _sql(self, statement: str) -> str:
        return statement.format(generation=self.generation)

    async def known(self, connection: Connection) -> set[int]:
        """The partitions of the topic that have a checkpoint."""
        return {row["partition"] for row in await connection.fetch(self._sql(KNOWN), self.topic)}

    async def create(self, connection: Connection, origins: Mapping[int, int], topic_id: UUID | None = None) -> None:
        """Gives new partitions their first checkpoint, at the offsets of `origins`; existing ones stay as they are."""
        offsets = list(origins.keys()), list(origins.values())
        await connection.execute(self._sql(CREATE), self.topic, *offsets, topic_id)

    async def claim(self, connection: Connection, partitions: Sequence[int], owner: str) -> list[Position]:
        """Takes the partitions under a new epoch: from here on, no earlier owner can commit to them.

        Raises asyncpg.LockNotAvailableError while an earlier owner's transaction is under way. Should that owner be
        asleep in it, a later try ends it.
        """
        await connection.execute(EVICT_SLEEPERS)
        async with connection.transaction():
            await connection.execute(LOCK_TIMEOUT)
            rows = await connection.fetch(self._sql(CLAIM), self.topic, list(partitions), owner)
        return [Position(self.topic, row["partition"], row["next_offset"], row["epoch"]) for row in rows]

    async def stop(self, connection: Connection, position: Position, reason: str) -> None:
        """Writes down why a partition stands still, for `footfall status`; a newer owner's word is not overwritten."""
        await connection.execute(self._sql(STOP), self.topic, position.partition, position.epoch, reason)

    async def go_on(self, connection: Connection, positions: Iterable[Position], topic_id: UUID | None) -> None:
        """Writes down that these belong to this topic and do not stand still, unless a newer owner has them."""
        partitions = [(position.partition, position.epoch) for position in positions]
        places = [partition for partition, _ in partitions], [epoch for _, epoch in partitions]
        await connection.execute(self._sql(GO_ON), self.topic, *places, topic_id)
        if topic_id is not None:
            await self.seen(connection, topic_id)

    async def seen(self, connection: Connection, topic_id: UUID) -> None:
        """Numbers the history of this topic id, if it has no number yet."""
        await connection.execute(SEEN, self.topic, topic_id)

    async def stored(self, connection: Connection, partitions: Iterable[int]) -> dict[int, Stored]:
        """The checkpoint of each of the partitions as it is stored now."""
        rows = await connection.fetch(self._sql(STORED), self.topic, list(partitions))
        return {partition: Stored(*fields) for partition, *fields in rows}
