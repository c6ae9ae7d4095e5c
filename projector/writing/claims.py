"""Claims partitions in PostgreSQL: creates first checkpoints, raises epochs and verifies the topic's history."""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Literal

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from projector.consuming.batch import OwnedPosition
from projector.consuming.topic_metadata import TopicMetadata
from projector.dead_letters.parking import Parked, load_parked
from projector.generations.history import HistoryCheck, Unproven
from projector.liveness.stops import Stop, StopCause
from projector.privacy.erased_users import erased_ahead
from projector.writing.checkpoints import Checkpoints, StoredCheckpoint
from read_model.generations.histories import UNNAMED
from telemetry.logs import get_logger

RELEASE_TIMEOUT = 5.0  # seconds to get a connection, and to return a broken one to the pool


class Claimed(msgspec.Struct, frozen=True):
    """The result of a claim: positions to continue from, the letters parked there, and partitions that must stop."""

    positions: list[OwnedPosition]
    parked: dict[int, Parked] = msgspec.field(default_factory=dict)
    stops: dict[OwnedPosition, Stop] = msgspec.field(default_factory=dict)


class Claims:
    """The claims of one owner on the checkpoints of one topic in one generation."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        pool: Any,
        checkpoints: Checkpoints,
        history: HistoryCheck,
        *,
        owner: str,
        start_from: Literal["earliest", "latest"],
        products: frozenset[str] = frozenset(),
    ) -> None:
        """`products`: the payload fields that name a product; of erased users nothing else is kept."""
        self._consumer, self._pool, self._checkpoints, self._history = consumer, pool, checkpoints, history
        self.topic, self.generation, self.owner = checkpoints.topic, checkpoints.generation, owner
        self._start_from, self._products = start_from, products
        self._topic: TopicMetadata | None = None
        self._log = get_logger("projector").bind(generation=checkpoints.generation, owner=owner)

    async def claim(self, wanted: list[int], retrying: Set[int] = frozenset()) -> Claimed:
        """Claims partitions under a new epoch, and stops those whose checkpoint belongs to another history.

        After an error, the whole claim can be tried again.

        Args:
            wanted: the partitions to claim.
            retrying: the stopped partitions among them that are retried; their checkpoints keep the reason of the stop
                until they advance.

        Raises:
            Exception: errors of asyncpg and aiokafka.
        """
        topic = await self._history.metadata()
        self._topic = self._topic or topic
        checkpoints = self._checkpoints
        async with self._pool.acquire(timeout=RELEASE_TIMEOUT) as connection:
            known = await checkpoints.partitions(connection)
            if not known.issuperset(wanted):
                first = await self._first_offsets(known, wanted, topic)
                await checkpoints.create(connection, first, topic.topic_id)
                if known:
                    await self._tell_of_added(connection, known, first)
            positions = await checkpoints.claim(connection, wanted, self.owner)
            # Load after the claim: from here on, nobody else can park or redrive without fencing us.
            parked = await load_parked(connection, checkpoints.generation, self.topic, wanted)
            for partition, erased in (
                await erased_ahead(connection, checkpoints.generation, self.topic, wanted, self._products)
            ).items():
                parked[partition].erased = erased
            stored = await checkpoints.stored(connection, wanted)
            stops = await self._stops(positions, stored, topic)
            for position, stop in stops.items():
                await checkpoints.stop(connection, position, stop.reason)
                if stop.cause is StopCause.ANOTHER_HISTORY and stored[position.partition].topic_id is None:
                    # The history without a topic id gets a number too; it precedes the one in the log.
                    await checkpoints.number_history(connection, UNNAMED)
            sound = [position for position in positions if position not in stops]
            running = [position for position in sound if position.partition not in retrying]
            await checkpoints.resume(connection, running, topic.topic_id)
        return Claimed(sound, parked, stops)

    async def _stops(
        self, positions: list[OwnedPosition], stored: Mapping[int, StoredCheckpoint], topic: TopicMetadata
    ) -> dict[OwnedPosition, Stop]:
        claimed = {position.partition: position for position in positions}
        verdicts = await self._history.verdicts({p: stored[p] for p in claimed}, topic.topic_id)
        unproven = sorted(p for p, verdict in verdicts.items() if isinstance(verdict, Unproven))
        if unproven:
            self._log.warning("history_unproven", partitions=unproven)
        return {claimed[p]: verdict for p, verdict in verdicts.items() if isinstance(verdict, Stop)}

    async def _first_offsets(self, known: set[int], wanted: list[int], topic: TopicMetadata) -> dict[int, int]:
        """Returns the first offsets of the partitions without a checkpoint.

        The very first claim decides where all partitions of the topic start, by `start_from`. A partition that is added
        later starts at its beginning: it held no records when the topic was first read.
        """
        new = sorted(set(wanted).union(topic.leader_epochs) - known)
        latest = self._start_from == "latest" and not known
        topic_partitions = [TopicPartition(self.topic, partition) for partition in new]
        look = self._consumer.end_offsets if latest else self._consumer.beginning_offsets
        offsets = {tp.partition: offset for tp, offset in (await look(topic_partitions)).items()}
        skipped = {partition: offset for partition, offset in offsets.items() if offset > 0}
        if skipped:
            reason = "latest" if latest else "earliest"
            self._log.warning("history_skipped", first_offsets=skipped, reason=reason)
        return offsets

    async def _tell_of_added(self, connection: Any, known: Set[int], added: Mapping[int, int]) -> None:
        """Logs where the order of users may break: what lies before these positions was placed by the former number."""
        stored = await self._checkpoints.stored(connection, known)
        positions = {partition: checkpoint.next_offset for partition, checkpoint in sorted(stored.items())}
        self._log.warning(
            "partitions_added",
            partitions=sorted(added),
            positions=positions,
            reason="the order of a user's events that lie on both sides is that of their times; see docs/producers.md",
        )

    async def changed_partitions(self) -> set[int]:
        """Returns the partitions whose log may have changed since the last call.

        Those are partitions with a new leader; or all partitions, if the topic was deleted and created again. Raises
        KafkaError.
        """
        topic = await self._history.metadata()
        before, self._topic = self._topic or topic, topic
        if topic.topic_id != before.topic_id:
            return {*topic.leader_epochs, *before.leader_epochs}
        return {p for p, epoch in topic.leader_epochs.items() if before.leader_epochs.get(p, epoch) != epoch}

    async def stored(self, partitions: Iterable[int]) -> dict[int, StoredCheckpoint]:
        """Returns the stored checkpoints of the partitions."""
        async with self._pool.acquire(timeout=RELEASE_TIMEOUT) as connection:
            return await self._checkpoints.stored(connection, partitions)

    async def resume(self, positions: Sequence[OwnedPosition]) -> None:
        """Stores that the partitions run again."""
        async with self._pool.acquire(timeout=RELEASE_TIMEOUT) as connection:
            await self._checkpoints.resume(connection, positions, None)

    async def stop(self, positions: Iterable[OwnedPosition], reason: str) -> None:
        """Stores why the partitions stopped."""
        async with self._pool.acquire(timeout=RELEASE_TIMEOUT) as connection:
            for position in positions:
                await self._checkpoints.stop(connection, position, reason)
