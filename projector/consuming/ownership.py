"""Which partitions this projector may write, and from where: the group assigns, PostgreSQL decides."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
import stamina
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from projector.consuming.batch import Position
from projector.dead_letters.parking import Parked
from projector.liveness.heartbeat import CLAIM, Heartbeats, Membership
from projector.liveness.probation import Probation
from projector.liveness.stops import Stop
from projector.writing.checkpoints import Stored
from projector.writing.claims import Claimed, Claims
from projector.writing.failure import DATABASE_ERRORS, named
from telemetry.logs import get_logger
from telemetry.metrics import PARTITIONS_OWNED, PARTITIONS_PROBED, PARTITIONS_STOPPED

SETTLE_TIMEOUT = 5.0  # seconds a rebalance waits for batches in hand; after that the fence protects us
DATABASE_TIMEOUT = 60.0  # seconds for one try at a transaction; a connection that says nothing for so long is gone
RECLAIM_DELAY = 3.0  # seconds before a fenced owner that is still assigned claims again: one heartbeat interval
LOOK_INTERVAL = 2.0  # seconds between two comparisons of what we hold with what is stored, and with the topic
TOPIC_TIMEOUT = 10.0  # seconds for Kafka to say which topic it is
DOUBT_DELAY = 0.5  # seconds before what Kafka could not serve is claimed anew


class Stopped(msgspec.Struct, frozen=True):
    """Where a partition stands still, and why."""

    position: Position
    stop: Stop


class Ownership(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """The positions this projector holds. Lanes read and move them; the keeper fills them from PostgreSQL.

    All of it runs on one event loop; nothing here holds a lock that a fetch could wait for (aiokafka deadlocks then).
    """

    def __init__(self, consumer: AIOKafkaConsumer, claims: Claims, membership: Membership | None = None) -> None:
        self._consumer = consumer
        self._claims = claims
        self.topic = self._topic = claims.topic
        self.generation = claims.generation
        self._owner = claims.owner
        self._log = get_logger("projector").bind(generation=claims.generation, owner=claims.owner)
        self._unclaimed = asyncio.Event()
        self._in_hand = 0
        self._settled = asyncio.Event()
        self._settled.set()
        self.heartbeats = Heartbeats()
        self.membership = membership or Membership()
        self.assigned: frozenset[int] = frozenset()
        self.held: dict[int, Position] = {}
        self.parked: dict[int, Parked] = {}  # of the partitions held
        self.stopped: dict[int, Stopped] = {}  # one that is tried again is held as well, until it moves
        self._probation = Probation()
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
        self.membership.joined()
        self._set_stopped({})
        self._log.info("partitions_assigned", partitions=sorted(self.assigned))
        self._unclaimed.set()

    def give_up(self) -> None:
        """Gives everything up at once. What is in hand may still commit; whoever claims next fences it."""
        self.assigned = frozenset()
        self.membership.left()
        self._set_held({})

    async def keep(self) -> None:
        """Claims, for ever, what is assigned and not held. Survives any outage of PostgreSQL or Kafka."""
        while True:
            self.heartbeats.turn()
            await self._unclaimed.wait()
            self._unclaimed.clear()
            async for attempt in stamina.retry_context(
                on=self._is_worth_a_retry, attempts=None, timeout=None, wait_initial=0.1, wait_max=2.0
            ):
                # What is wanted is asked anew at each try: claiming what went elsewhere would fence its new owner.
                with attempt, self.in_hand():
                    self.heartbeats.attempt(CLAIM)
                    await self._claim(self.assigned)
            self.heartbeats.succeeded(CLAIM)

    def _is_worth_a_retry(self, error: Exception) -> bool:
        self.heartbeats.failed(error, CLAIM)
        return isinstance(error, (*DATABASE_ERRORS, KafkaError))

    async def _claim(self, assigned: frozenset[int]) -> None:
        on_trial = self._probation.on_trial()
        wanted = sorted(assigned - self.held.keys() - (self.stopped.keys() - on_trial))
        if not wanted:
            return
        async with asyncio.timeout(DATABASE_TIMEOUT):
            claimed = await self._claims.claim(wanted, on_trial)
        if assigned is self.assigned:  # else another owner may have claimed in between; the new assignment claims again
            self._hold(claimed)

    def _hold(self, claimed: Claimed) -> None:
        self.parked.update(claimed.parked)
        held = dict(self.held)
        for position in claimed.positions:
            try:
                self._consumer.seek(TopicPartition(self._topic, position.partition), position.next_offset)
            except IllegalStateError:  # revoked in between; the next assignment claims again
                continue
            held[position.partition] = position
        self._log.info("partitions_claimed", positions={p.partition: p.next_offset for p in claimed.positions})
        self._set_held(held)
        self._stand_still(claimed.stops)

    def holds(self, position: Position) -> bool:
        """Whether we hold this very position: the same offset, under the same epoch."""
        return self.held.get(position.partition) == position

    def advance(self, positions: Iterable[Position]) -> None:
        """Moves held positions forward after a commit; ignores those given up meanwhile."""
        for position in self._still_held(positions):
            self.held[position.partition] = position
            if position.partition in self.stopped:
                self._go_on(position)

    def _go_on(self, position: Position) -> None:
        """A partition that had stopped moves: what stopped it is gone."""
        self._set_stopped({p: stopped for p, stopped in self.stopped.items() if p != position.partition})
        self._log.info("partition_goes_on", partition=position.partition)
        self._writing = asyncio.create_task(self._write(self._claims.go_on([position])))

    def probe(self) -> None:
        """Has those stopped partitions claimed and tried whose pause is over."""
        if due := self._probation.call():
            PARTITIONS_PROBED.labels(generation=self.generation).inc(len(due))
            self._log.info("partitions_probed", partitions=due)
            self._unclaimed.set()

    def lost(self, positions: Iterable[Position]) -> None:
        """Someone moved these partitions. An operator: we claim them at once. Another owner: if the group still gives
        them to us, we claim them a little later.
        """
        gone = self._give_up(self._still_held(positions))
        self._reclaiming = asyncio.create_task(self._reclaim([position.partition for position in gone]))

    async def _reclaim(self, partitions: list[int]) -> None:
        with contextlib.suppress(*DATABASE_ERRORS):
            async with asyncio.timeout(RECLAIM_DELAY):
                now = await self._claims.stored(partitions)
            if all(stored.owner == self._owner for stored in now.values()):
                self._unclaimed.set()
                return
        self._claim_later(RECLAIM_DELAY)

    def _claim_later(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._unclaimed.set)

    def doubt(self, positions: Iterable[Position]) -> None:
        """Kafka cannot serve these positions: they are claimed anew, which finds out whether it is the same history."""
        if self._give_up(self._still_held(positions)):
            self._claim_later(DOUBT_DELAY)

    def stop(self, positions: Iterable[Position], stop: Stop) -> None:
        """Stops these partitions until the next assignment, until an operator has done something about them, or, where
        the cause may go by itself, until a probe succeeds. Health, metrics and the checkpoint show the reason.
        """
        gone = self._give_up(self._still_held(positions))
        if gone:
            self._stand_still(dict.fromkeys(gone, stop))
            self._writing = asyncio.create_task(self._write(self._claims.stop(gone, stop.reason)))

    def _stand_still(self, stops: Mapping[Position, Stop]) -> None:
        if stops:
            self._set_stopped(self.stopped | {p.partition: Stopped(p, stop) for p, stop in stops.items()})
            for position, stop in stops.items():
                if stop.probed:
                    self._probation.begin(position.partition)
            reasons = {position.partition: stop.reason for position, stop in stops.items()}
            self._log.error("partitions_stopped", partitions=sorted(reasons), reasons=reasons)

    async def _write(self, writing: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(DATABASE_TIMEOUT):
                await writing
        except DATABASE_ERRORS as error:  # health and metrics say it all the same; the next claim writes it
            self._log.warning("stop_not_written_down", error=named(error))

    async def watch_stored(self) -> None:
        """Compares, for ever, what we hold with what is stored; and probes what stands still."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            with contextlib.suppress(*DATABASE_ERRORS):
                await self.compare()
            self.probe()

    async def watch_topic(self) -> None:
        """Claims anew, for ever, what may be another history: the claim finds out."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(TOPIC_TIMEOUT):
                    doubtful = await self._claims.in_doubt()
                self.doubt([position for partition, position in self.held.items() if partition in doubtful])

    async def compare(self) -> None:
        """Compares what we hold with what is stored, and claims anew what is not as we left it.

        An operator may have moved a partition under our own name; another owner may have taken it while it was idle;
        and a database may have come back older than we knew it, after a crash, a fail-over, or from a backup.
        """
        ours = self.positions()
        if not ours:
            return
        async with asyncio.timeout(DATABASE_TIMEOUT):
            stored = await self._claims.stored(ours)
        now = self.positions()
        changed = [
            position
            for partition, position in ours.items()
            if not _as_we_left_it(position, stored.get(partition), self._owner)
            and partition in now
            and now[partition].epoch == position.epoch  # else it was claimed meanwhile
        ]
        if changed:
            self._leave(changed, stored)

    def _leave(self, changed: list[Position], stored: Mapping[int, Stored]) -> None:
        gone = {position.partition for position in changed}
        self._log.warning("checkpoints_moved", partitions={p.partition: p.next_offset for p in changed})
        self._set_held({p: position for p, position in self.held.items() if p not in gone})
        self._set_stopped({p: stopped for p, stopped in self.stopped.items() if p not in gone})
        if any(p in stored and stored[p].owner != self._owner for p in gone):
            self._claim_later(RECLAIM_DELAY)  # if the group still gives them to us
        else:
            self._unclaimed.set()

    def positions(self) -> dict[int, Position]:
        """Where every partition stands that is ours, held or stopped; one on trial is held, or is being claimed."""
        on_trial = self._probation.on_trial()
        return {p: stopped.position for p, stopped in self.stopped.items() if p not in on_trial} | self.held

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
        self._probation.end(self.stopped.keys() - stopped.keys())
        self.stopped = stopped
        PARTITIONS_STOPPED.labels(generation=self.generation).set(len(stopped))


def _as_we_left_it(ours: Position, stored: Stored | None, owner: str) -> bool:
    return (
        stored is not None
        and (stored.owner, stored.epoch) == (owner, ours.epoch)
        and stored.next_offset >= ours.next_offset  # further: a commit whose answer is on its way
    )
