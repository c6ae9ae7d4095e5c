"""Checkpoints of a sink: those of a generation, but never ahead of what the target itself says that it has."""

from collections.abc import Iterable, Mapping, Set
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from projector.dead_letters.parking import Parked
from projector.generations.history import HistoryCheck
from projector.writing.checkpoints import Checkpoints, StoredCheckpoint
from projector.writing.claims import RELEASE_TIMEOUT, Claimed, Claims
from read_model.connecting.pool import Connection
from sinks.target import Target
from telemetry.logs import get_logger

STORED = """
SELECT partition, next_offset, epoch, owner, topic_id, last_record
FROM {generation}.checkpoints WHERE topic = $1 AND partition = ANY($2::int[])
"""
# Without `last_record` nothing was committed, so nothing can be missing.
WRITTEN = """
SELECT partition, next_offset FROM {generation}.checkpoints
WHERE topic = $1 AND last_record IS NOT NULL
"""
BACK = """
UPDATE {generation}.checkpoints AS c SET next_offset = w.next_offset, last_record = NULL, epoch = c.epoch + 1
FROM unnest($2::int[], $3::bigint[]) AS w(partition, next_offset)
WHERE c.topic = $1 AND c.partition = w.partition AND c.next_offset > w.next_offset
"""
# Their records are read again, and parked again if they are what they were.
FORGET_LETTERS = """
DELETE FROM {generation}.dead_letters AS l USING unnest($2::int[], $3::bigint[]) AS w(partition, next_offset)
WHERE l.kafka_topic = $1 AND l.kafka_partition = w.partition AND l.kafka_offset >= w.next_offset
"""


class Unordered(Parked):
    """The parked letters of one partition of a sink: none waits behind another, for documents have no order."""

    def add(self, key: bytes | None, offset: int) -> None:
        """Adds one letter."""
        self.total += 1
        if key:
            self.count[key] = self.count.get(key, 0) + 1

    def copy(self) -> "Unordered":
        """Returns an independent copy, for a batch whose commit may fail."""
        return unordered(self)


def unordered(parked: Parked) -> Unordered:
    """Returns the letters without their order."""
    return Unordered({}, dict(parked.count), parked.total, parked.discarded, parked.erased)


class SinkCheckpoints(Checkpoints):
    """The checkpoints of one topic in one sink, which has no table of events beside them."""

    async def stored(self, connection: Connection, partitions: Iterable[int]) -> dict[int, StoredCheckpoint]:
        """Returns the stored checkpoints of the partitions."""
        rows = await connection.fetch(self._sql(STORED), self.topic, list(partitions))
        return {partition: StoredCheckpoint(*fields) for partition, *fields in rows}

    async def go_back(self, connection: Connection, positions: Mapping[int, int]) -> None:
        """Moves checkpoints that are ahead of these positions back to them."""
        at = list(positions), list(positions.values())
        async with connection.transaction():
            await connection.execute(self._sql(BACK), self.topic, *at)
            await connection.execute(self._sql(FORGET_LETTERS), self.topic, *at)

    async def written(self, connection: Connection) -> dict[int, int]:
        """Returns the next offset of each partition of which something was committed."""
        rows = await connection.fetch(self._sql(WRITTEN), self.topic)
        return {row["partition"]: row["next_offset"] for row in rows}


class SinkClaims(Claims):
    """Claims on a sink's checkpoints. A target that was restored from a backup gets again what it lost."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        pool: Any,
        checkpoints: SinkCheckpoints,
        history: HistoryCheck,
        *,
        target: Target,
        **named: Any,
    ) -> None:
        super().__init__(consumer, pool, checkpoints, history, **named)
        self._of_sink, self._target = checkpoints, target

    async def claim(self, wanted: list[int], retrying: Set[int] = frozenset()) -> Claimed:
        """Claims partitions, as `Claims.claim`. Raises OutsideError too."""
        await self._go_back()
        claimed = await super().claim(wanted, retrying)
        parked = {partition: unordered(found) for partition, found in claimed.parked.items()}
        return Claimed(claimed.positions, dict(parked), claimed.stops)

    async def _go_back(self) -> None:
        """Moves all checkpoints back that are ahead of what the target has; who holds one notices, and claims it again.

        The checkpoints are read first: what another lane writes meanwhile, the target has before its checkpoint moves.
        """
        async with self._pool.acquire(timeout=RELEASE_TIMEOUT) as connection:
            written = await self._of_sink.written(connection)
            kept = await self._target.positions()
            if kept is None:
                return
            behind = {p: kept[p] for p, offset in written.items() if p in kept and kept[p] < offset}
            behind |= await self._beginnings([p for p in written if p not in kept])
            if behind:
                get_logger("sink").warning("target_is_older", positions=behind)
                await self._of_sink.go_back(connection, behind)

    async def _beginnings(self, partitions: list[int]) -> dict[int, int]:
        found = await self._consumer.beginning_offsets([TopicPartition(self.topic, each) for each in partitions])
        return {tp.partition: offset for tp, offset in found.items()}
