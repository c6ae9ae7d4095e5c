"""What a projector knows of the partitions that it should project: the answer of `projecting.judge`, every few seconds.

It looks at its own positions, at the log and at the consumer group, each over connections that no stuck consumer could
hold up. Partitions that other projectors hold are theirs to tell.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiokafka import TopicPartition

from contracts.topic_promises import broken_promises
from projector.consuming.consumer_group import GroupDescription, describe_group
from projector.consuming.log_probe import LogOffsets, LogProbe
from projector.consuming.ownership import Ownership
from projector.consuming.topic_description import look_at_topic
from projector.generations.loop import GenerationLoop, group_of
from projector.liveness.projecting import Effort, Facts, Lock, judge
from projector.liveness.verdicts import Joining, Unowned, Verdict
from projector.settings import ProjectorSettings
from projector.writing.locks import lock_in_the_way
from telemetry.logs import get_logger
from telemetry.metrics import PARTITION_STATES

INTERVAL = 3.0  # seconds between looks
PATIENCE = 5.0  # seconds of one look; a Kafka that takes longer is away
TOPIC_INTERVAL = 60.0  # seconds between looks at the topic's configuration
LONG_EFFORT = 2.0  # seconds of one try; a shorter one is work


class Stand(msgspec.Struct, frozen=True):
    """Where a partition was first seen, and when (monotonic seconds)."""

    position: int
    since: float


class Outlook:
    """The latest look at the active generation. `verdicts`: by partition, of those that are not another projector's."""

    def __init__(
        self, settings: ProjectorSettings, pool: Any, loop: Callable[[], GenerationLoop | None], probe: LogProbe
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._loop = loop
        self._probe = probe
        self._stands: dict[int, Stand] = {}
        self._group = GroupDescription("")
        self._log = get_logger("projector")
        self._topic_looked_at = float("-inf")
        self.verdicts: Mapping[int, Verdict] = {}
        self.broken_promises: Sequence[str] = ()

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """Looks again and again while the body runs."""
        looking = asyncio.create_task(self._look_on(), name="outlook")
        try:
            yield
        finally:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking
            await self._probe.close()

    def joining(self) -> Joining | None:
        """How the group stands to us while it has assigned us nothing; known at once, not at the next look."""
        loop = self._loop()
        if loop is None or loop.membership.joining_since is None:
            return None
        foreign_members = tuple(map(str, self._group.of(-1).foreign_members(loop.limits.name)))
        return Joining(loop.membership.joining_for(time.monotonic()), loop.membership.refusal, foreign_members)

    async def _look_on(self) -> None:
        while True:
            await self._look_at_topic()
            loop = self._loop()
            ownership = None if loop is None else loop.ownership
            if loop is not None and ownership is not None:
                await self._look(loop, ownership)
            self._show("" if loop is None else loop.limits.name)
            await asyncio.sleep(INTERVAL)

    async def _look_at_topic(self) -> None:
        """Now and then, for somebody may change it."""
        now = time.monotonic()
        if now - self._topic_looked_at < TOPIC_INTERVAL:
            return
        try:
            async with asyncio.timeout(PATIENCE):
                topic = await look_at_topic(self._settings.client_options(), self._settings.kafka_topic)
        except Exception as error:  # noqa: BLE001 - the probe of Kafka says that it is away
            self._log.info("topic_not_checked", error=type(error).__name__)
            return
        broken = broken_promises(topic)
        for sentence in broken:
            if sentence not in self.broken_promises:
                self._log.warning("topic_promise_broken", reason=sentence)
        self.broken_promises, self._topic_looked_at = broken, now

    async def _look(self, loop: GenerationLoop, ownership: Ownership) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                self.verdicts = await self._verdicts(loop, ownership)
        except Exception as error:  # noqa: BLE001 - the probe of Kafka says that it is away; what was seen is old
            self._log.info("outlook_unknown", error=type(error).__name__)
            self.verdicts = {}
            await self._probe.close()

    async def _verdicts(self, loop: GenerationLoop, ownership: Ownership) -> dict[int, Verdict]:
        topic, generation = self._settings.kafka_topic, loop.limits.name
        options, group_id = self._settings.client_options(), group_of(self._settings, generation)
        held = {p: position.next_offset for p, position in ownership.held.items()}  # before the ends
        marks = await self._probe.log_offsets(await self._probe.partitions_of(topic), PATIENCE)
        self._group = await describe_group(options, group_id, topic)
        ours = held.keys() | ownership.stopped.keys() | ownership.assigned
        efforts = _efforts(ownership)
        lock = await self._lock(generation) if efforts else None
        self._note(held)
        verdicts = {}
        for tp, found in marks.items():
            partition = tp.partition
            if partition not in ours and self._is_anothers(partition, generation):
                continue
            facts = self._facts(loop, ownership, partition, held.get(partition), found)
            facts = msgspec.structs.replace(facts, effort=efforts.get(partition), lock=lock)
            verdict = await self._judged(facts, tp)
            if loop.membership.joining_since is None or not isinstance(verdict, Unowned):  # else `joining` tells
                verdicts[partition] = verdict
        return verdicts

    def _is_anothers(self, partition: int, generation: str) -> bool:
        group = self._group.of(partition)
        return not group.settled or (group.holder is not None and group.holder.projects(generation))

    def _facts(
        self, loop: GenerationLoop, ownership: Ownership, partition: int, position: int | None, marks: LogOffsets
    ) -> Facts:
        stopped = ownership.stopped.get(partition)
        stand = self._stands.get(partition)
        return Facts(
            loop.limits.name,
            loop.limits.current.state,
            True,
            position if stopped is None else stopped.position.next_offset,
            marks.beginning,
            marks.readable,
            marks.end,
            self._group.of(partition),
            None if stopped is None else stopped.stop.reason,
            loop.limits.limit(partition),
            None if stand is None else time.monotonic() - stand.since,
            open_since=None if marks.open_since is None else max(0.0, time.time() - marks.open_since / 1000),
            patience=self._settings.watchdog_interval_ms / 1000,
        )

    async def _judged(self, facts: Facts, tp: TopicPartition) -> Verdict:
        """Whether records really wait is asked only where it matters: what is left may be markers of transactions."""
        verdict = judge(facts)
        if verdict.well or facts.position is None or not facts.beginning <= facts.position < facts.readable:
            return verdict
        records = await self._probe.first_records({tp: facts.position}, PATIENCE)
        return judge(msgspec.structs.replace(facts, only_markers=not records))

    def _note(self, held: Mapping[int, int]) -> None:
        now = time.monotonic()
        known = self._stands
        self._stands = {
            partition: known[partition]
            if partition in known and known[partition].position == position
            else Stand(position, now)
            for partition, position in held.items()
        }

    async def _lock(self, generation: str) -> Lock | None:
        async with asyncio.timeout(PATIENCE), self._pool.acquire(timeout=PATIENCE) as connection:
            return await lock_in_the_way(connection, generation)

    def _show(self, generation: str) -> None:
        PARTITION_STATES.clear()
        for state, count in Counter(found.state for found in self.verdicts.values()).items():
            PARTITION_STATES.labels(generation=generation, state=state).set(count)


def _efforts(ownership: Ownership) -> dict[int, Effort]:
    """The longest effort that each partition waits for."""
    unclaimed = ownership.assigned - ownership.held.keys() - ownership.stopped.keys()
    found: dict[int, Effort] = {}
    for serves, effort in ownership.heartbeats.efforts():
        if effort.error is None and effort.since < LONG_EFFORT:
            continue
        for partition in serves or unclaimed:
            if partition not in found or found[partition].since < effort.since:
                found[partition] = effort
    return found
