"""Tracks the partitions that this projector may write: Kafka's group assigns them, PostgreSQL grants them."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
import stamina
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from projector.consuming.batch import OwnedPosition
from projector.dead_letters.parking import Parked
from projector.liveness.heartbeat import CLAIM, Heartbeats, Membership
from projector.liveness.stop_retries import StopRetries
from projector.liveness.stops import Stop
from projector.writing.checkpoints import StoredCheckpoint
from projector.writing.claims import Claimed, Claims
from projector.writing.failure import DATABASE_ERRORS, OutsideError, describe_error
from telemetry.logs import get_logger
from telemetry.metrics import PARTITIONS_OWNED, PARTITIONS_PROBED, PARTITIONS_STOPPED

SETTLE_TIMEOUT = 5.0  # seconds that a rebalance waits for batches in progress; after that the fence protects us
DATABASE_TIMEOUT = 60.0  # seconds for one attempt at a transaction; a connection silent for longer is lost
RECLAIM_DELAY = 3.0  # seconds before a fenced owner claims again, if still assigned: time for the group to move it
CHECK_INTERVAL = 2.0  # seconds between two comparisons of held positions with the checkpoints, and with the topic
TOPIC_TIMEOUT = 10.0  # seconds for Kafka to describe the topic
REVERIFY_DELAY = 0.5  # seconds before a position that Kafka could not serve is claimed again


class Stopped(msgspec.Struct, frozen=True):
    """A stopped partition: its position, and why it stopped."""

    position: OwnedPosition
    stop: Stop


class Ownership(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """The positions that this projector holds. Lanes read and advance them; the claim loop loads them from PostgreSQL.

    Everything runs on one event loop. No method holds a lock that a fetch could wait for: aiokafka would deadlock.
    """

    def __init__(self, consumer: AIOKafkaConsumer, claims: Claims, membership: Membership | None = None) -> None:
        self._consumer = consumer
        self._claims = claims
        self.topic = self._topic = claims.topic
        self.generation = claims.generation
        self._owner = claims.owner
        self._log = get_logger("projector").bind(generation=claims.generation, owner=claims.owner)
        self._unclaimed = asyncio.Event()
        self._in_progress = 0
        self._settled = asyncio.Event()
        self._settled.set()
        self.heartbeats = Heartbeats()
        self.membership = membership or Membership()
        self.assigned: frozenset[int] = frozenset()
        self.held: dict[int, OwnedPosition] = {}
        self.parked: dict[int, Parked] = {}  # of the partitions held
        self.stopped: dict[int, Stopped] = {}  # a stopped partition under retry is also in `held`, until it advances
        self._stop_retries = StopRetries()
        self.changed = asyncio.Event()  # set, and replaced by a new event, whenever the lanes' work may have changed

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Releases all partitions, and waits up to `SETTLE_TIMEOUT` for batches and claims in progress."""
        self.release_all()
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT):
                await self._settled.wait()
        except TimeoutError:
            self._log.warning("revoked_with_a_batch_in_hand", partitions=sorted(tp.partition for tp in revoked))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Stores the new assignment and wakes the claim loop. Stopped partitions are tried again."""
        self.assigned = frozenset(tp.partition for tp in assigned)
        self.membership.joined()
        self._set_stopped({})
        self._log.info("partitions_assigned", partitions=sorted(self.assigned))
        self._unclaimed.set()

    def release_all(self) -> None:
        """Releases all partitions at once. A batch in progress may still commit; the next owner's claim fences it."""
        self.assigned = frozenset()
        self.membership.left()
        self._set_held({})

    async def claim_assigned(self) -> None:
        """Claims partitions that are assigned and not held, for ever. Survives any outage of PostgreSQL or Kafka."""
        while True:
            self.heartbeats.begin_turn()
            await self._unclaimed.wait()
            self._unclaimed.clear()
            async for attempt in stamina.retry_context(
                on=self._is_worth_a_retry, attempts=None, timeout=None, wait_initial=0.1, wait_max=2.0
            ):
                # Each attempt reads the assignment again: claiming a partition that moved would fence its new owner.
                with attempt, self.work_in_progress():
                    self.heartbeats.attempt(CLAIM)
                    await self._claim(self.assigned)
            self.heartbeats.succeeded(CLAIM)

    def _is_worth_a_retry(self, error: Exception) -> bool:
        self.heartbeats.failed(error, CLAIM)
        return isinstance(error, (*DATABASE_ERRORS, KafkaError, OutsideError))

    async def _claim(self, assigned: frozenset[int]) -> None:
        retrying = self._stop_retries.retrying()
        wanted = sorted(assigned - self.held.keys() - (self.stopped.keys() - retrying))
        if not wanted:
            return
        async with asyncio.timeout(DATABASE_TIMEOUT):
            claimed = await self._claims.claim(wanted, retrying)
        if assigned is self.assigned:  # else another owner may have claimed them; the new assignment claims again
            self._take_over(claimed)

    def _take_over(self, claimed: Claimed) -> None:
        self.parked.update(claimed.parked)
        held = dict(self.held)
        for position in claimed.positions:
            try:
                self._consumer.seek(TopicPartition(self._topic, position.partition), position.next_offset)
            except IllegalStateError:  # revoked meanwhile; the next assignment claims again
                continue
            held[position.partition] = position
        self._log.info("partitions_claimed", positions={p.partition: p.next_offset for p in claimed.positions})
        self._set_held(held)
        self._record_stops(claimed.stops)

    def holds(self, position: OwnedPosition) -> bool:
        """Returns whether we hold exactly this position: the same offset under the same epoch."""
        return self.held.get(position.partition) == position

    def advance(self, positions: Iterable[OwnedPosition]) -> None:
        """Advances held positions after a commit; ignores partitions that were released meanwhile."""
        for position in self._still_held(positions):
            self.held[position.partition] = position
            if position.partition in self.stopped:
                self._resume(position)

    def _resume(self, position: OwnedPosition) -> None:
        """Marks a stopped partition as running: it advanced, so the cause of its stop is gone."""
        self._set_stopped({p: stopped for p, stopped in self.stopped.items() if p != position.partition})
        self._log.info("partition_goes_on", partition=position.partition)
        self._writing = asyncio.create_task(self._write(self._claims.resume([position])))

    def retry_stopped(self) -> None:
        """Has stopped partitions claimed and tried again whose back-off is over."""
        if due := self._stop_retries.start_due():
            PARTITIONS_PROBED.labels(generation=self.generation).inc(len(due))
            self._log.info("partitions_probed", partitions=due)
            self._unclaimed.set()

    def fenced(self, positions: Iterable[OwnedPosition]) -> None:
        """Releases fenced partitions; claims them at once if an operator moved them, else after `RECLAIM_DELAY`."""
        gone = self._release(self._still_held(positions))
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

    def reverify(self, positions: Iterable[OwnedPosition]) -> None:
        """Releases positions that Kafka cannot serve, and claims them again; the claim verifies the log's history."""
        if self._release(self._still_held(positions)):
            self._claim_later(REVERIFY_DELAY)

    def stop(self, positions: Iterable[OwnedPosition], stop: Stop) -> None:
        """Stops partitions until the next assignment, an operator's remedy or a successful retry; health shows why."""
        gone = self._release(self._still_held(positions))
        if gone:
            self._record_stops(dict.fromkeys(gone, stop))
            self._writing = asyncio.create_task(self._write(self._claims.stop(gone, stop.reason)))

    def _record_stops(self, stops: Mapping[OwnedPosition, Stop]) -> None:
        if stops:
            self._set_stopped(self.stopped | {p.partition: Stopped(p, stop) for p, stop in stops.items()})
            for position, stop in stops.items():
                if stop.probed:
                    self._stop_retries.schedule(position.partition)
            reasons = {position.partition: stop.reason for position, stop in stops.items()}
            self._log.error("partitions_stopped", partitions=sorted(reasons), reasons=reasons)

    async def _write(self, writing: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(DATABASE_TIMEOUT):
                await writing
        except DATABASE_ERRORS as error:  # health and metrics show the stop anyway; the next claim writes it
            self._log.warning("stop_not_stored", error=describe_error(error))

    async def watch_checkpoints(self) -> None:
        """Compares held positions with the checkpoints and retries stopped partitions, for ever."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            with contextlib.suppress(*DATABASE_ERRORS):
                await self.compare_with_stored()
            self.retry_stopped()

    async def watch_topic(self) -> None:
        """Watches the topic for another history, for ever. A claim then verifies the partitions concerned."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(TOPIC_TIMEOUT):
                    changed = await self._claims.changed_partitions()
                self.reverify([position for partition, position in self.held.items() if partition in changed])

    async def compare_with_stored(self) -> None:
        """Compares our positions with the stored checkpoints, and claims partitions again whose checkpoint changed.

        An operator may have moved a partition under our own name. Another owner may have claimed it while it was idle.
        After a crash, a failover or a restore from a backup, the database may be older than our positions.
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
            if not _is_unchanged(position, stored.get(partition), self._owner)
            and partition in now
            and now[partition].epoch == position.epoch  # else we claimed it again meanwhile
        ]
        if changed:
            self._release_changed(changed, stored)

    def _release_changed(self, changed: list[OwnedPosition], stored: Mapping[int, StoredCheckpoint]) -> None:
        gone = {position.partition for position in changed}
        self._log.warning("checkpoints_moved", partitions={p.partition: p.next_offset for p in changed})
        self._set_held({p: position for p, position in self.held.items() if p not in gone})
        self._set_stopped({p: stopped for p, stopped in self.stopped.items() if p not in gone})
        if any(p in stored and stored[p].owner != self._owner for p in gone):
            self._claim_later(RECLAIM_DELAY)  # claims only what the group still assigns to us
        else:
            self._unclaimed.set()

    def positions(self) -> dict[int, OwnedPosition]:
        """Returns the positions of our held and stopped partitions; of those under retry, only the held ones."""
        retrying = self._stop_retries.retrying()
        return {p: stopped.position for p, stopped in self.stopped.items() if p not in retrying} | self.held

    @contextmanager
    def work_in_progress(self) -> Iterator[None]:
        """Marks work in progress: a lane's fetched records, or a claim. A rebalance waits for its end."""
        self._in_progress += 1
        self._settled.clear()
        try:
            yield
        finally:
            self._in_progress -= 1
            if self._in_progress == 0:
                self._settled.set()

    def _still_held(self, positions: Iterable[OwnedPosition]) -> list[OwnedPosition]:
        """Returns the positions that we still hold under the same epoch: a batch may outlive its claim."""
        return [p for p in positions if p.partition in self.held and self.held[p.partition].epoch == p.epoch]

    def _release(self, positions: list[OwnedPosition]) -> list[OwnedPosition]:
        gone = {position.partition for position in positions}
        self._set_held({p: position for p, position in self.held.items() if p not in gone})
        return positions

    def _set_held(self, held: dict[int, OwnedPosition]) -> None:
        self.held = held
        PARTITIONS_OWNED.labels(generation=self.generation).set(len(held))
        self.wake()

    def wake(self) -> None:
        """Wakes the idle lanes, so that they look for work again."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def _set_stopped(self, stopped: dict[int, Stopped]) -> None:
        self._stop_retries.cancel(self.stopped.keys() - stopped.keys())
        self.stopped = stopped
        PARTITIONS_STOPPED.labels(generation=self.generation).set(len(stopped))


def _is_unchanged(ours: OwnedPosition, stored: StoredCheckpoint | None, owner: str) -> bool:
    return (
        stored is not None
        and (stored.owner, stored.epoch) == (owner, ours.epoch)
        and stored.next_offset >= ours.next_offset  # greater: a commit succeeded, and its answer is on the way
    )
