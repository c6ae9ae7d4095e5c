"""Claiming partitions in PostgreSQL: the first checkpoints, a new epoch, and whether it still is the same history."""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Literal

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from projector.consuming.batch import Position
from projector.consuming.topic_metadata import TopicMetadata
from projector.dead_letters.parking import Parked, load_parked
from projector.generations.history import Histories, Unproven
from projector.liveness.stops import Stop, StopCause
from projector.writing.checkpoints import Checkpoints, Stored
from read_model.generations.histories import UNNAMED
from telemetry.logs import get_logger

RELEASE_TIMEOUT = 5.0  # seconds to get a connection, and to give a broken one back


class Claimed(msgspec.Struct, frozen=True):
    """What a claim came to: positions to go on from, what is parked there, and partitions that must stand still."""

    positions: list[Position]
    parked: dict[int, Parked] = msgspec.field(default_factory=dict)
    stops: dict[Position, Stop] = msgspec.field(default_factory=dict)


class Claims:
    """What one owner does with the checkpoints of one topic in one generation."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        pool: Any,
        checkpoints: Checkpoints,
        histories: Histories,
        *,
        owner: str,
        start_from: Literal["earliest", "latest"],
    ) -> None:
        self._consumer, self._pool, self._checkpoints, self._histories = consumer, pool, checkpoints, histories
        self.topic, self.generation, self.owner = checkpoints.topic, checkpoints.generation, owner
        self._start_from = start_from
        self._topic: TopicMetadata | None = None
        self._log = get_logger("projector").bind(generation=checkpoints.generation, owner=owner)

    async def claim(self, wanted: list[int], on_trial: Set[int] = frozenset()) -> Claimed:
        """Takes the partitions under a new epoch, and stops those whose checkpoint is not of the topic's history.

        What is `on_trial` keeps the reason of its stop in the checkpoint, until it has moved.
        Raises what asyncpg and Kafka raise; then everything may be tried again.
        """
        topic = await self._histories.metadata()
        self._topic = self._topic or topic
        checkpoints = self._checkpoints
        async with self._pool.acquire(timeout=RELEASE_TIMEOUT) as connection:
            known = await checkpoints.known(connection)
            if not known.issuperset(wanted):
                await checkpoints.create(connection, await self._origins(known, wanted, topic), topic.topic_id)
            positions = await checkpoints.claim(connection, wanted, self.owner)
            # After the claim: from here on nobody else parks or redrives without fencing us first.
            parked = await load_parked(connection, checkpoints.generation, self.topic, wanted)
            stored = await checkpoints.stored(connection, wanted)
            stops = await self._stops(positions, stored, topic)
            for position, stop in stops.items():
                await checkpoints.stop(connection, position, stop.reason)
                if stop.cause is StopCause.ANOTHER_HISTORY and stored[position.partition].topic_id is None:
                    await checkpoints.seen(connection, UNNAMED)  # it came before the one that is found
            sound = [position for position in positions if position not in stops]
            free = [position for position in sound if position.partition not in on_trial]
            await checkpoints.go_on(connection, free, topic.topic_id)
        return Claimed(sound, parked, stops)

    async def _stops(
        self, positions: list[Position], stored: Mapping[int, Stored], topic: TopicMetadata
    ) -> dict[Position, Stop]:
        claimed = {position.partition: position for position in positions}
        verdicts = await self._histories.verdicts({p: stored[p] for p in claimed}, topic.topic_id)
        unproven = sorted(p for p, verdict in verdicts.items() if isinstance(verdict, Unproven))
        if unproven:
            self._log.warning("history_unproven", partitions=unproven)
        return {claimed[p]: verdict for p, verdict in verdicts.items() if isinstance(verdict, Stop)}

    async def _origins(self, known: set[int], wanted: list[int], topic: TopicMetadata) -> dict[int, int]:
        """Where partitions without a checkpoint begin.

        The first claim of all settles where every partition of the topic begins. One that is added later is part of a
        known topic, and begins at its beginning: nothing of it was there before.
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

    async def in_doubt(self) -> set[int]:
        """Partitions whose log may be another since the last question: a leader was elected, or the topic made anew.

        Raises KafkaError.
        """
        topic = await self._histories.metadata()
        before, self._topic = self._topic or topic, topic
        if topic.topic_id != before.topic_id:
            return {*topic.leader_epochs, *before.leader_epochs}
        return {p for p, epoch in topic.leader_epochs.items() if before.leader_epochs.get(p, epoch) != epoch}

    async def stored(self, partitions: Iterable[int]) -> dict[int, Stored]:
        """The checkpoints as they are stored now."""
        async with self._pool.acquire(timeout=RELEASE_TIMEOUT) as connection:
            return await self._checkpoints.stored(connection, partitions)

    async def go_on(self, positions: Sequence[Position]) -> None:
        """Writes down that they do not stand still any more."""
        async with self._pool.acquire(timeout=RELEASE_TIMEOUT) as connection:
            await self._checkpoints.go_on(connection, positions, None)

    async def stop(self, positions: Iterable[Position], reason: str) -> None:
        """Writes down why they stand still."""
        async with self._pool.acquire(timeout=RELEASE_TIMEOUT) as connection:
            for position in positions:
                await self._checkpoints.stop(connection, position, reason)
