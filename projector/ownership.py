"""Which partitions this projector may write, and from where: the group assigns, PostgreSQL decides."""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import stamina
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from projector.batch import Position
from projector.checkpoints import Checkpoints
from projector.dead_letters import Parked, load_parked
from projector.failure import DATABASE_ERRORS, named
from projector.pulse import Pulse
from projector.stops import Stop
from telemetry.logs import get_logger
from telemetry.metrics import PARTITIONS_OWNED, PARTITIONS_STOPPED

SETTLE_TIMEOUT = 5.0  # seconds a rebalance waits for batches in hand; after that the fence protects us
DATABASE_TIMEOUT = 60.0  # seconds for one try at a transaction; a connection that says nothing for so long is gone
RELEASE_TIMEOUT = 5.0  # seconds to get a connection, and to give a broken one back
RECLAIM_DELAY = 3.0  # seconds before a fenced owner that is still assigned claims again: one heartbeat interval


class Stopped(msgspec.Struct, frozen=True):
    """Where a partition stands still, and why."""

    position: Position
    stop: Stop


class Ownership(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """The positions this projector holds. Lanes read and move them; the keeper fills them from PostgreSQL.

    All of it runs on one event loop; nothing here holds a lock that a fetch could wait for (aiokafka deadlocks then).
    """

    def __init__(
        self, consumer: AIOKafkaConsumer, pool: Any, checkpoints: Checkpoints, *, owner: str, start_from: str
    ) -> None:
        self._consumer = consumer
        self._pool = pool
        self._checkpoints = checkpoints
        self.topic = self._topic = checkpoints.topic
        self.generation = checkpoints.generation
        self._owner = owner
        self._start_from = start_from
        self._log = get_logger("projector").bind(generation=checkpoints.generation, owner=owner)
        self._unclaimed = asyncio.Event()
        self._in_hand = 0
        self._settled = asyncio.Event()
        self._settled.set()
        self.pulse = Pulse()
        self.joining_since: float | None = None  # by time.monotonic(); None while an assignment stands
        self.assigned: frozenset[int] = frozenset()
        self.held: dict[int, Position] = {}
        self.parked: dict[int, Parked] = {}  # of the partitions held
        self.stopped: dict[int, Stopped] = {}
        self.changed = asyncio.Event()  # set, and replaced, whenever lanes may find other work than before

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Gives partitions up, and waits a while for the batches and claims in hand."""
        self.give_up()
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT):
                await self._settled.wait()
        except TimeoutError:
            self._log.warning("revoked_with_a_batch_in_hand", partitions=sorted(tp.partition for tp in revoked))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Notes what the group gave us; the keeper claims it. A stopped partition gets another try."""
        self.assigned = frozenset(tp.partition for tp in assigned)
        self.joining_since = None
        self._set_stopped({})
        self._log.info("partitions_assigned", partitions=sorted(self.assigned))
        self._unclaimed.set()

    def give_up(self) -> None:
        """Gives everything up at once. What is in hand may still commit; whoever claims next fences it."""
        self.assigned = frozenset()
        self.joining_since = self.joining_since or time.monotonic()
        self._set_held({})

    async def keep(self) -> None:
        """Claims, for ever, what is assigned and not held. Survives any outage of PostgreSQL or Kafka."""
        while True:
            self.pulse.turn()
            await self._unclaimed.wait()
            self._unclaimed.clear()
            async for attempt in stamina.retry_context(
                on=(*DATABASE_ERRORS, KafkaError), attempts=None, timeout=None, wait_initial=0.1, wait_max=2.0
            ):
                # What is wanted is asked anew at each try: claiming what went elsewhere would fence its new owner.
                with attempt, self.in_hand():
                    self.pulse.attempt()
                    await self._claim(self.assigned)

    async def _claim(self, assigned: frozenset[int]) -> None:
        wanted = sorted(assigned - self.held.keys() - self.stopped.keys())
        if not wanted:
            return
        async with asyncio.timeout(DATABASE_TIMEOUT):
            positions, parked = await self._claim_once(wanted)
        if assigned is self.assigned:  # else another owner may have claimed in between; the new assignment claims again
            self._hold(positions, parked)

    def _hold(self, positions: list[Position], parked: dict[int, Parked]) -> None:
        self.parked.update(parked)
        held = dict(self.held)
        for position in positions:
            try:
                self._consumer.seek(TopicPartition(self._topic, position.partition), position.next_offset)
            except IllegalStateError:  # revoked in between; the next assignment claims again
                continue
            held[position.partition] = position
        self._log.info("partitions_claimed", positions={p.partition: p.next_offset for p in positions})
        self._set_held(held)

    async def _claim_once(self, wanted: list[int]) -> tuple[list[Position], dict[int, Parked]]:
        checkpoints = self._checkpoints
        async with self._pool.acquire(timeout=RELEASE_TIMEOUT) as connection:
            new = await checkpoints.without_checkpoint(connection, wanted)
            if new:
                await checkpoints.create(connection, await self._origins(new))
            positions = await checkpoints.claim(connection, wanted, self._owner)
            # After the claim: from here on nobody else parks or redrives without fencing us first.
            return positions, await load_parked(connection, checkpoints.generation, self._topic, wanted)

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

    def holds(self, position: Position) -> bool:
        """Whether we hold this very position: the same offset, under the same epoch."""
        return self.held.get(position.partition) == position

    def advance(self, positions: Iterable[Position]) -> None:
        """Moves held positions forward after a commit; ignores those given up meanwhile."""
        for position in self._still_held(positions):
            self.held[position.partition] = position

    def lost(self, positions: Iterable[Position]) -> None:
        """Someone moved these partitions. An operator: we claim them at once. Another owner: if the group still gives
        them to us, we claim them a little later.
        """
        gone = self._give_up(self._still_held(positions))
        self._reclaiming = asyncio.create_task(self._reclaim([position.partition for position in gone]))

    async def _reclaim(self, partitions: list[int]) -> None:
        with contextlib.suppress(*DATABASE_ERRORS):
            async with asyncio.timeout(RECLAIM_DELAY), self._pool.acquire(timeout=RELEASE_TIMEOUT) as connection:
                now = await self._checkpoints.epochs(connection, partitions)
            if all(owner == self._owner for _, owner in now.values()):
                self._unclaimed.set()
                return
        asyncio.get_running_loop().call_later(RECLAIM_DELAY, self._unclaimed.set)

    def stop(self, positions: Iterable[Position], stop: Stop) -> None:
        """Stops these partitions until the next assignment, or until an operator has done something about them.

        Health, metrics and the checkpoint show the reason.
        """
        gone = self._give_up(self._still_held(positions))
        if gone:
            self._set_stopped(self.stopped | {p.partition: Stopped(p, stop) for p in gone})
            self._log.error("partitions_stopped", partitions=sorted(p.partition for p in gone), reason=stop.reason)
            self._writing = asyncio.create_task(self._write_stops(gone, stop.reason))

    async def _write_stops(self, positions: list[Position], reason: str) -> None:
        try:
            async with asyncio.timeout(DATABASE_TIMEOUT), self._pool.acquire(timeout=RELEASE_TIMEOUT) as connection:
                for position in positions:
                    await self._checkpoints.stop(connection, position, reason)
        except DATABASE_ERRORS as error:  # health and metrics say it all the same
            self._log.warning("stop_not_written_down", error=named(error))

    async def notice_operators(self) -> None:
        """Claims anew what was moved under our own name: an operator redrove or discarded dead letters."""
        ours = {p: position.epoch for p, position in self.held.items()}
        ours |= {p: stopped.position.epoch for p, stopped in self.stopped.items()}
        if not ours:
            return
        async with asyncio.timeout(DATABASE_TIMEOUT), self._pool.acquire(timeout=RELEASE_TIMEOUT) as connection:
            now = await self._checkpoints.epochs(connection, list(ours))
        moved = {p for p, epoch in ours.items() if now.get(p, (epoch, ""))[0] > epoch and now[p][1] == self._owner}
        moved &= {p for p, e in ours.items() if self._epoch_of(p) == e}
        if moved:
            self._set_held({p: position for p, position in self.held.items() if p not in moved})
            self._set_stopped({p: stopped for p, stopped in self.stopped.items() if p not in moved})
            self._unclaimed.set()

    def _epoch_of(self, partition: int) -> int | None:
        if partition in self.held:
            return self.held[partition].epoch
        return self.stopped[partition].position.epoch if partition in self.stopped else None

    @contextmanager
    def in_hand(self) -> Iterator[None]:
        """While a lane holds fetched records, or a claim is under way; a rebalance waits for the end."""
        self._in_hand += 1
        self._settled.clear()
        try:
            yield
        finally:
            self._in_hand -= 1
            if self._in_hand == 0:
                self._settled.set()

    def _still_held(self, positions: Iterable[Position]) -> list[Position]:
        """Those whose partition we hold under the same epoch. A batch may outlive the hold it was fetched under."""
        return [p for p in positions if p.partition in self.held and self.held[p.partition].epoch == p.epoch]

    def _give_up(self, positions: list[Position]) -> list[Position]:
        gone = {position.partition for position in positions}
        self._set_held({p: position for p, position in self.held.items() if p not in gone})
        return positions

    def _set_held(self, held: dict[int, Position]) -> None:
        self.held = held
        PARTITIONS_OWNED.labels(generation=self.generation).set(len(held))
        self.wake()

    def wake(self) -> None:
        """Lets lanes without work look again whether there is some."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def _set_stopped(self, stopped: dict[int, Stopped]) -> None:
        self.stopped = stopped
        PARTITIONS_STOPPED.labels(generation=self.generation).set(len(stopped))
