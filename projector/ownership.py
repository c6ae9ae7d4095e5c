"""Which partitions this projector may write, and from where: the group assigns, PostgreSQL decides."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import stamina
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from projector import checkpoints
from projector.batch import Position
from projector.failure import TRANSIENT
from telemetry.logs import get_logger
from telemetry.metrics import PARTITIONS_OWNED, PARTITIONS_STOPPED

SETTLE_TIMEOUT = 5.0  # seconds a rebalance waits for batches in hand; after that the fence protects us
RECLAIM_DELAY = 3.0  # seconds before a fenced owner that is still assigned claims again: one heartbeat interval


class Ownership(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """The positions this projector holds. Lanes read and move them; the keeper fills them from PostgreSQL.

    All of it runs on one event loop; nothing here holds a lock that a fetch could wait for (aiokafka deadlocks then).
    """

    def __init__(self, consumer: AIOKafkaConsumer, pool: Any, *, topic: str, owner: str, start_from: str) -> None:
        self._consumer = consumer
        self._pool = pool
        self._topic = topic
        self._owner = owner
        self._start_from = start_from
        self._log = get_logger("projector").bind(topic=topic, owner=owner)
        self._assigned: set[int] = set()
        self._unclaimed = asyncio.Event()
        self._batches_in_hand = 0
        self._settled = asyncio.Event()
        self._settled.set()
        self.held: dict[int, Position] = {}
        self.stopped: dict[int, str] = {}
        self.changed = asyncio.Event()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Gives partitions up. Batches in hand may still commit; whoever claims next fences them."""
        self._assigned.clear()
        self._set_held({})
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT):
                await self._settled.wait()
        except TimeoutError:
            self._log.warning("revoked_with_a_batch_in_hand", partitions=sorted(tp.partition for tp in revoked))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Notes what the group gave us; the keeper claims it. A stopped partition gets another try."""
        self._assigned = {tp.partition for tp in assigned}
        self._set_stopped({})
        self._log.info("partitions_assigned", partitions=sorted(self._assigned))
        self._unclaimed.set()

    async def keep(self) -> None:
        """Claims, for ever, what is assigned and not held. Survives any outage of PostgreSQL or Kafka."""
        while True:
            await self._unclaimed.wait()
            self._unclaimed.clear()
            wanted = sorted(self._assigned - self.held.keys() - self.stopped.keys())
            if wanted:
                await self._claim(wanted)

    async def _claim(self, wanted: list[int]) -> None:
        async for attempt in stamina.retry_context(
            on=(*TRANSIENT, KafkaError), attempts=None, timeout=None, wait_initial=0.1, wait_max=5.0
        ):
            with attempt:
                self._hold(await self._claim_once(wanted))

    def _hold(self, positions: list[Position]) -> None:
        still_assigned = [position for position in positions if position.partition in self._assigned]
        for position in still_assigned:
            try:
                self._consumer.seek(TopicPartition(self._topic, position.partition), position.next_offset)
            except IllegalStateError:  # revoked in between; the next assignment claims again
                continue
            self.held[position.partition] = position
        self._log.info("partitions_claimed", positions={p.partition: p.next_offset for p in still_assigned})
        self._set_held(self.held)

    async def _claim_once(self, wanted: list[int]) -> list[Position]:
        async with self._pool.acquire() as connection:
            new = await checkpoints.without_checkpoint(connection, self._topic, wanted)
            if new:
                await checkpoints.create(connection, self._topic, await self._origins(new))
            return await checkpoints.claim(connection, self._topic, wanted, self._owner)

    async def _origins(self, partitions: list[int]) -> dict[int, int]:
        topic_partitions = [TopicPartition(self._topic, partition) for partition in partitions]
        if self._start_from == "latest":
            offsets = await self._consumer.end_offsets(topic_partitions)
        else:
            offsets = await self._consumer.beginning_offsets(topic_partitions)
        for tp, offset in offsets.items():
            if offset > 0:
                self._log.warning(
                    "history_skipped", partition=tp.partition, first_offset=offset, reason=self._start_from
                )
        return {tp.partition: offset for tp, offset in offsets.items()}

    def advance(self, positions: Iterable[Position]) -> None:
        """Moves held positions forward after a commit; ignores those given up meanwhile."""
        for position in positions:
            held = self.held.get(position.partition)
            if held is not None and held.epoch == position.epoch:
                self.held[position.partition] = position

    def lost(self, partitions: Iterable[int]) -> None:
        """Another owner moved these partitions; if the group still gives them to us, they are claimed a little later."""
        self._set_held({p: position for p, position in self.held.items() if p not in set(partitions)})
        asyncio.get_running_loop().call_later(RECLAIM_DELAY, self._unclaimed.set)

    def stop(self, partitions: Iterable[int], reason: str) -> None:
        """Stops these partitions until the next assignment; health and metrics show the reason."""
        gone = set(partitions)
        self._set_held({p: position for p, position in self.held.items() if p not in gone})
        self._set_stopped(self.stopped | dict.fromkeys(gone, reason))
        self._log.error("partitions_stopped", partitions=sorted(gone), reason=reason)

    @contextmanager
    def batch_in_hand(self) -> Iterator[None]:
        """While a lane holds fetched records; a rebalance waits for the end."""
        self._batches_in_hand += 1
        self._settled.clear()
        try:
            yield
        finally:
            self._batches_in_hand -= 1
            if self._batches_in_hand == 0:
                self._settled.set()

    def _set_held(self, held: dict[int, Position]) -> None:
        self.held = held
        PARTITIONS_OWNED.set(len(held))
        self.changed.set()

    def _set_stopped(self, stopped: dict[int, str]) -> None:
        self.stopped = stopped
        PARTITIONS_STOPPED.set(len(stopped))
