"""Reads and claims checkpoints: positions come from PostgreSQL, never from Kafka's group (docs/decisions/0002)."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

import msgspec

from projector.consuming.batch import OwnedPosition
from read_model.connecting.pool import Connection
from read_model.generations.histories import NUMBER_HISTORY

KNOWN = "SELECT partition FROM {generation}.checkpoints WHERE topic = $1"

CREATE = """
INSERT INTO {generation}.checkpoints (topic, partition, next_offset, epoch, owner, topic_id)
SELECT $1, partition, next_offset, 0, '', $4 FROM unnest($2::int[], $3::bigint[]) AS origin(partition, next_offset)
ON CONFLICT (topic, partition) DO NOTHING
"""

CLAIM = """
UPDATE {generation}.checkpoints
SET epoch = epoch + 1, owner = $3, event_types = $4, updated_at = now()
WHERE topic = $1 AND partition = ANY($2::int[])
RETURNING partition, next_offset, epoch
"""

# Marks partitions as running. It also sets the topic id, which the checkpoint of an older version lacks.
RESUME = """
UPDATE {generation}.checkpoints AS c
SET stopped_reason = NULL, stopped_at = NULL, topic_id = coalesce(topic_id, $4)
FROM unnest($2::int[], $3::bigint[]) AS mine(partition, epoch)
WHERE c.topic = $1 AND c.partition = mine.partition AND c.epoch = mine.epoch
"""

STOP = """
UPDATE {generation}.checkpoints SET stopped_reason = $4, stopped_at = now()
WHERE topic = $1 AND partition = $2 AND epoch = $3
"""

# A checkpoint of an older version has no `last_record`; then the last event below the checkpoint replaces it.
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

# Ends the sessions of projectors that are frozen or whose machine is gone: sessions that have waited for their client
# in the middle of a transaction for over 5 s. Their locks would block the next owner. A role may end its own sessions.
END_FROZEN_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
  AND application_name = current_setting('application_name')
  AND state IN ('active', 'idle in transaction') AND wait_event = 'ClientRead'
  AND xact_start < clock_timestamp() - interval '5 seconds'
"""


class StoredCheckpoint(msgspec.Struct, frozen=True):
    """A checkpoint as PostgreSQL stores it. `topic_id` and `last_record` (see `fingerprint`) identify its history.

    `last_event_at`, `last_event`: offset and id of the last event below a checkpoint without `last_record`.
    """

    next_offset: int
    epoch: int
    owner: str
    topic_id: UUID | None = None
    last_record: int | None = None
    last_event_at: int | None = None
    last_event: UUID | None = None

    @property
    def proof_offset(self) -> int | None:
        """The offset of the record whose comparison proves that the log is the same; None if there is none."""
        return self.next_offset - 1 if self.last_record is not None else self.last_event_at


class Checkpoints:
    """The checkpoints of one topic in one generation."""

    def __init__(self, generation: str, topic: str, event_types: str | None = None) -> None:
        """`event_types`: the digest of the catalogue that this process projects with; a claim stores it."""
        self.generation = generation
        self.topic = topic
        self._event_types = event_types

    def _sql(self, statement: str) -> str:
        return statement.format(generation=self.generation)

    async def partitions(self, connection: Connection) -> set[int]:
        """Returns the partitions of the topic that have a checkpoint."""
        return {row["partition"] for row in await connection.fetch(self._sql(KNOWN), self.topic)}

    async def create(self, connection: Connection, origins: Mapping[int, int], topic_id: UUID | None = None) -> None:
        """Creates the first checkpoints of new partitions; existing checkpoints stay as they are.

        Args:
            connection: a connection outside or inside a transaction.
            origins: the first offset to process, by partition.
            topic_id: the id of the topic; None if its brokers give none.
        """
        offsets = list(origins.keys()), list(origins.values())
        await connection.execute(self._sql(CREATE), self.topic, *offsets, topic_id)

    async def claim(self, connection: Connection, partitions: Sequence[int], owner: str) -> list[OwnedPosition]:
        """Claims partitions under a new epoch: from then on, no earlier owner can commit to them.

        Raises:
            asyncpg.LockNotAvailableError: an earlier owner's transaction is in progress. If that owner is frozen, a
                later attempt ends its session.
        """
        await connection.execute(END_FROZEN_SESSIONS)
        async with connection.transaction():
            await connection.execute(LOCK_TIMEOUT)
            rows = await connection.fetch(self._sql(CLAIM), self.topic, list(partitions), owner, self._event_types)
        return [OwnedPosition(self.topic, row["partition"], row["next_offset"], row["epoch"]) for row in rows]

    async def stop(self, connection: Connection, position: OwnedPosition, reason: str) -> None:
        """Stores why a partition stopped, for `footfall status`, unless a newer owner has claimed it."""
        await connection.execute(self._sql(STOP), self.topic, position.partition, position.epoch, reason)

    async def resume(self, connection: Connection, positions: Iterable[OwnedPosition], topic_id: UUID | None) -> None:
        """Stores that partitions run, and the topic id they belong to, unless a newer owner has claimed them."""
        partitions = [(position.partition, position.epoch) for position in positions]
        places = [partition for partition, _ in partitions], [epoch for _, epoch in partitions]
        await connection.execute(self._sql(RESUME), self.topic, *places, topic_id)
        if topic_id is not None:
            await self.number_history(connection, topic_id)

    async def number_history(self, connection: Connection, topic_id: UUID) -> None:
        """Gives the history of this topic id a number, if it has none yet."""
        await connection.execute(NUMBER_HISTORY, self.topic, topic_id)

    async def stored(self, connection: Connection, partitions: Iterable[int]) -> dict[int, StoredCheckpoint]:
        """Returns the stored checkpoints of the partitions."""
        rows = await connection.fetch(self._sql(STORED), self.topic, list(partitions))
        return {partition: StoredCheckpoint(*fields) for partition, *fields in rows}
