"""Positions come from PostgreSQL, never from Kafka's group (docs/decisions/0002)."""

from collections.abc import Mapping, Sequence

from projector.batch import Position
from projector.commit import Connection
from read_model.tables import GENERATION

KNOWN = f"SELECT partition FROM {GENERATION}.checkpoints WHERE topic = $1 AND partition = ANY($2::int[])"

CREATE = f"""
INSERT INTO {GENERATION}.checkpoints (topic, partition, next_offset, epoch, owner)
SELECT $1, partition, next_offset, 0, '' FROM unnest($2::int[], $3::bigint[]) AS origin(partition, next_offset)
ON CONFLICT (topic, partition) DO NOTHING
"""

CLAIM = f"""
UPDATE {GENERATION}.checkpoints SET epoch = epoch + 1, owner = $3, updated_at = now()
WHERE topic = $1 AND partition = ANY($2::int[])
RETURNING partition, next_offset, epoch
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


async def without_checkpoint(connection: Connection, topic: str, partitions: Sequence[int]) -> list[int]:
    """Those partitions that no projector has ever claimed."""
    known = {row["partition"] for row in await connection.fetch(KNOWN, topic, list(partitions))}
    return [partition for partition in partitions if partition not in known]


async def create(connection: Connection, topic: str, origins: Mapping[int, int]) -> None:
    """Gives new partitions their first checkpoint, at the offsets of `origins`; existing ones stay as they are."""
    await connection.execute(CREATE, topic, list(origins.keys()), list(origins.values()))


async def claim(connection: Connection, topic: str, partitions: Sequence[int], owner: str) -> list[Position]:
    """Takes the partitions under a new epoch: from here on, no earlier owner can commit to them.

    Raises asyncpg.LockNotAvailableError while an earlier owner's transaction is under way. Should that owner be asleep
    in it, a later try ends it.
    """
    await connection.execute(EVICT_SLEEPERS)
    async with connection.transaction():
        await connection.execute(LOCK_TIMEOUT)
        rows = await connection.fetch(CLAIM, topic, list(partitions), owner)
    return [Position(topic, row["partition"], row["next_offset"], row["epoch"]) for row in rows]
