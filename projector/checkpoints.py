"""Positions come from PostgreSQL, never from Kafka's group (docs/decisions/0002)."""

from collections.abc import Mapping, Sequence

from projector.batch import Position
from projector.connection import Connection

KNOWN = "SELECT partition FROM {generation}.checkpoints WHERE topic = $1 AND partition = ANY($2::int[])"

CREATE = """
INSERT INTO {generation}.checkpoints (topic, partition, next_offset, epoch, owner)
SELECT $1, partition, next_offset, 0, '' FROM unnest($2::int[], $3::bigint[]) AS origin(partition, next_offset)
ON CONFLICT (topic, partition) DO NOTHING
"""

CLAIM = """
UPDATE {generation}.checkpoints
SET epoch = epoch + 1, owner = $3, updated_at = now(), stopped_reason = NULL, stopped_at = NULL
WHERE topic = $1 AND partition = ANY($2::int[])
RETURNING partition, next_offset, epoch
"""

STOP = """
UPDATE {generation}.checkpoints SET stopped_reason = $4, stopped_at = now()
WHERE topic = $1 AND partition = $2 AND epoch = $3
"""

EPOCHS = "SELECT partition, epoch, owner FROM {generation}.checkpoints WHERE topic = $1 AND partition = ANY($2::int[])"

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


class Checkpoints:
    """The checkpoints of one topic in one generation."""

    def __init__(self, generation: str, topic: str) -> None:
        self.generation = generation
        self.topic = topic

    def _sql(self, statement: str) -> str:
        return statement.format(generation=self.generation)

    async def without_checkpoint(self, connection: Connection, partitions: Sequence[int]) -> list[int]:
        """Those partitions that no projector has ever claimed."""
        known = {row["partition"] for row in await connection.fetch(self._sql(KNOWN), self.topic, list(partitions))}
        return [partition for partition in partitions if partition not in known]

    async def create(self, connection: Connection, origins: Mapping[int, int]) -> None:
        """Gives new partitions their first checkpoint, at the offsets of `origins`; existing ones stay as they are."""
        await connection.execute(self._sql(CREATE), self.topic, list(origins.keys()), list(origins.values()))

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

    async def epochs(self, connection: Connection, partitions: Sequence[int]) -> dict[int, tuple[int, str]]:
        """The epoch and the owner of each of the partitions now."""
        rows = await connection.fetch(self._sql(EPOCHS), self.topic, list(partitions))
        return {row["partition"]: (row["epoch"], row["owner"]) for row in rows}
