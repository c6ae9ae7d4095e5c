"""Judges every few seconds whether the partitions that this projector should project are being projected.

It compares its own positions with the log and the consumer group, over connections that a stuck consumer cannot block.
`projecting.judge` gives the verdicts. It leaves out partitions that other projectors hold: they report them.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, get_args

import msgspec
from aiokafka import TopicPartition

from contracts.topic_promises import broken_promises
from projector.consuming.consumer_group import GroupDescription, describe_group
from projector.consuming.log_probe import LogOffsets, LogProbe
from projector.consuming.ownership import Ownership
from projector.consuming.topic_description import describe_topic
from projector.facts.lag import LagReport
from projector.generations.loop import GenerationLoop, group_of
from projector.liveness.projecting import Facts, Lock, PendingOperation, judge
from projector.liveness.verdicts import Joining, State, Unassigned, Verdict
from projector.settings import ProjectorSettings
from projector.writing.locks import blocking_lock
from read_model.connecting.unavailable import OF_POSTGRESQL
from telemetry.background import running_beside
from telemetry.logs import get_logger
from telemetry.metrics import PARTITION_STATES
from telemetry.server_facts import TOPIC_BROKEN_PROMISES

INTERVAL = 3.0  # seconds between checks
PATIENCE = 5.0  # seconds for one check; a Kafka that takes longer counts as unreachable
LOCK_PATIENCE = 2.0  # seconds of it for PostgreSQL
TOPIC_INTERVAL = 60.0  # seconds between checks of the topic's configuration
LONG_ATTEMPT = 2.0  # seconds; a first attempt that lasts no longer counts as normal work


class HeldSince(msgspec.Struct, frozen=True):
    """A partition's position, and since when it has not changed (monotonic seconds)."""

    position: int
    since: float


class PartitionMonitor:
    """The latest verdicts on the active generation's partitions, except those that other projectors hold."""

    def __init__(
        self, settings: ProjectorSettings, pool: Any, loop: Callable[[], GenerationLoop | None], probe: LogProbe
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._loop = loop
        self._probe = probe
        self._lag = LagReport(probe)
        self._held_since: dict[int, HeldSince] = {}
        self._group = GroupDescription("")
        self._log = get_logger("projector")
        self._topic_checked_at = float("-inf")
        self.verdicts: Mapping[int, Verdict] = {}
        self.broken_promises: Sequence[str] = ()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs the checks while the body runs."""
        try:
            async with running_beside(self._run, "partition monitor"):
                yield
        finally:
            await self._probe.close()

    def joining(self) -> Joining | None:
        """Returns the state of joining the group while there is no assignment, else None.

        It is always current: it does not wait for the next check.
        """
        loop = self._loop()
        if loop is None or loop.membership.joining_since is None:
            return None
        foreign_members = tuple(map(str, self._group.for_partition(-1).foreign_members(loop.limits.name)))
        return Joining(loop.membership.joining_for(time.monotonic()), loop.membership.refusal, foreign_members)

    async def _run(self) -> None:
        while True:
            await self._check_topic()
            loop = self._loop()
            ownership = None if loop is None else loop.ownership
            if loop is not None and ownership is not None:
                await self._check(loop, ownership)
            self._export_states("" if loop is None else loop.limits.name)
            await asyncio.sleep(INTERVAL)

    async def _check_topic(self) -> None:
        """Checks the topic's configuration every `TOPIC_INTERVAL` seconds, because operators can change it."""
        now = time.monotonic()
        if now - self._topic_checked_at < TOPIC_INTERVAL:
            return
        try:
            async with asyncio.timeout(PATIENCE):
                topic = await describe_topic(self._settings.client_options(), self._settings.kafka_topic)
        except Exception as error:  # noqa: BLE001 - the health probe of Kafka reports it
            self._log.info("topic_not_checked", error=type(error).__name__)
            return
        broken = broken_promises(topic)
        for sentence in broken:
            if sentence not in self.broken_promises:
                self._log.warning("topic_promise_broken", reason=sentence)
        self.broken_promises, self._topic_checked_at = broken, now
        TOPIC_BROKEN_PROMISES.labels(topic=self._settings.kafka_topic).set(len(broken))

    async def _check(self, loop: GenerationLoop, ownership: Ownership) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                self.verdicts = await self._verdicts(loop, ownership)
        except Exception as error:  # noqa: BLE001 - the probe of Kafka reports it; the old verdicts no longer hold
            self._log.info("partitions_not_checked", error=type(error).__name__)
            self.verdicts = {}
            self._lag.hide()
            await self._probe.close()

    async def _verdicts(self, loop: GenerationLoop, ownership: Ownership) -> dict[int, Verdict]:
        topic, generation = self._settings.kafka_topic, loop.limits.name
        options, group_id = self._settings.client_options(), group_of(self._settings, generation)
        # Read the positions before the log's ends, so that a position never lies beyond its end.
        held = {p: position.next_offset for p, position in ownership.held.items()}
        marks = await self._probe.log_offsets(await self._probe.partitions_of(topic), PATIENCE)
        self._group = await describe_group(options, group_id, topic)
        ours = held.keys() | ownership.stopped.keys() | ownership.assigned
        operations = _longest_pending(ownership)
        lock = await self._lock(generation) if operations else None
        self._remember_positions(held)
        verdicts, known = {}, {}
        for tp, found in marks.items():
            partition = tp.partition
            if partition not in ours and self._belongs_to_another(partition, generation):
                continue
            facts = self._facts(loop, ownership, partition, held.get(partition), found)
            facts = msgspec.structs.replace(facts, pending=operations.get(partition), lock=lock)
            known[partition] = facts
            verdict = await self._verdict_on(facts, tp)
            if isinstance(verdict, Unassigned) and loop.membership.joining_since is not None:
                continue  # `joining` reports it
            verdicts[partition] = verdict
        await self._lag.show(topic, generation, known)
        return verdicts

    def _belongs_to_another(self, partition: int, generation: str) -> bool:
        group = self._group.for_partition(partition)
        return not group.settled or (group.holder is not None and group.holder.projects(generation))

    def _facts(
        self, loop: GenerationLoop, ownership: Ownership, partition: int, position: int | None, marks: LogOffsets
    ) -> Facts:
        stopped = ownership.stopped.get(partition)
        held_since = self._held_since.get(partition)
        return Facts(
            loop.limits.name,
            loop.limits.current.state,
            True,
            position if stopped is None else stopped.position.next_offset,
            marks.beginning,
            marks.readable,
            marks.end,
            self._group.for_partition(partition),
            None if stopped is None else stopped.stop.reason,
            loop.limits.limit(partition),
            None if held_since is None else time.monotonic() - held_since.since,
            open_since=None if marks.open_since is None else max(0.0, time.time() - marks.open_since / 1000),
            patience=self._settings.watchdog_interval_ms / 1000,
        )

    async def _verdict_on(self, facts: Facts, tp: TopicPartition) -> Verdict:
        """Judges a partition. It asks for unread records only where the verdict depends on them.

        The offsets between position and end may hold only transaction markers.
        """
        verdict = judge(facts)
        if verdict.healthy or facts.position is None or not facts.beginning <= facts.position < facts.readable:
            return verdict
        records = await self._probe.first_records({tp: facts.position}, PATIENCE)
        return judge(msgspec.structs.replace(facts, only_markers=not records))

    def _remember_positions(self, held: Mapping[int, int]) -> None:
        now = time.monotonic()
        known = self._held_since
        self._held_since = {
            partition: known[partition]
            if partition in known and known[partition].position == position
            else HeldSince(position, now)
            for partition, position in held.items()
        }

    async def _lock(self, generation: str) -> Lock | None:
        """Returns None also while PostgreSQL does not answer: what is retried says so, and Kafka knows the lag."""
        try:
            async with asyncio.timeout(LOCK_PATIENCE), self._pool.acquire(timeout=LOCK_PATIENCE) as connection:
                return await blocking_lock(connection, generation)
        except OF_POSTGRESQL:
            return None

    def _export_states(self, generation: str) -> None:
        PARTITION_STATES.clear()
        counts = Counter(found.state for found in self.verdicts.values())
        for state in get_args(State) if generation else ():
            PARTITION_STATES.labels(generation=generation, state=state).set(counts[state])


def _longest_pending(ownership: Ownership) -> dict[int, PendingOperation]:
    """Returns the longest operation in progress that each partition waits for."""
    unclaimed = ownership.assigned - ownership.held.keys() - ownership.stopped.keys()
    found: dict[int, PendingOperation] = {}
    for serves, pending in ownership.heartbeats.pending_operations():
        if pending.error is None and pending.since < LONG_ATTEMPT:
            continue
        for partition in serves or unclaimed:
            if partition not in found or found[partition].since < pending.since:
                found[partition] = pending
    return found
