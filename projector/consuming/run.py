"""The projector's main loop: each lane fetches records, assembles batches and commits them.

A lane owns a share of the partitions and uses one database connection at a time. So PostgreSQL runs one lane's
transaction while another lane decodes.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from projector.consuming.batch import OwnedPosition, Part, record_count, split_by_bytes
from projector.consuming.batch_size import BatchSize
from projector.consuming.fetch import FETCH_TIMEOUT, Fetched, Fetcher
from projector.consuming.ownership import Ownership
from projector.consuming.placement import Placement
from projector.consuming.rate_limiter import RateLimiter
from projector.dead_letters.parking import Caps
from projector.dead_letters.topic import producer_maker, publish_dead_letters
from projector.failpoints import reached
from projector.generations.limits import GenerationLimits
from projector.generations.offset_gaps import OffsetGaps
from projector.generations.progress import commit_to_group
from projector.sealed.opener import UNSEALED, Opener, Unsealed
from projector.settings import ProjectorSettings
from projector.tracing import BatchTrace, traced_records
from projector.writing.apply import Applier
from projector.writing.commit import GenerationWriter
from projector.writing.reader_notices import ReaderNotifier
from projector.writing.rows import KafkaRecord
from read_model.generations.register import Generation
from telemetry.logs import get_logger
from telemetry.traces.tracing import TRACING

LAG_REPORT_INTERVAL = 5.0  # seconds between offset commits to Kafka, which only lag tools read
MEMBERSHIP_CHECK_INTERVAL = 1.0  # seconds
MEMBERSHIP_TIMEOUT = 15.0  # seconds without a successful check until the membership counts as lost
LAST_NOTICE_TIMEOUT = 0.5  # seconds to notify the readers of the last batch
SHORT_WAIT = 0.02  # seconds before a lane looks again when it may not apply the records that are there


class MembershipLostError(Exception):
    """The consumer cannot become a member of its group again; only a new consumer can."""


def fetches_no_more(consumer: AIOKafkaConsumer) -> bool:
    """Returns whether the consumer's background task that fetches has ended (aiokafka issue 983): it has no other."""
    task = getattr(getattr(consumer, "_fetcher", None), "_fetch_task", None)
    return isinstance(task, asyncio.Task) and task.done()


class Projector:
    """The lanes and background tasks that project one generation with one consumer."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        pool: Any,
        ownership: Ownership,
        writer: GenerationWriter,
        settings: ProjectorSettings,
        limits: GenerationLimits | None = None,
        opener: Opener | Unsealed = UNSEALED,
    ) -> None:
        self._consumer = consumer
        self._pool = pool
        self._ownership = ownership
        self._writer = writer
        self._settings = settings
        self._limits = limits or GenerationLimits(Generation(writer.generation, "active"))
        self._rate_limiter = RateLimiter()
        self._log = get_logger("projector")
        self._notifier = ReaderNotifier(pool, writer.generation)
        caps = Caps(settings.max_parked_of_one_key, settings.max_parked_of_one_partition)
        self._size = BatchSize(settings.batch_max_records)
        self._applier = Applier(pool, ownership, writer, caps, self._size, self._notifier.notify, opener)
        topic = settings.kafka_topic
        placement = Placement(writer.generation, lambda: len(consumer.partitions_for_topic(topic) or ()))
        self._applier.on_stored = placement.check
        self._applier.trace_of = self._trace_of
        self._gaps = OffsetGaps(consumer)
        self._fetcher = Fetcher(consumer, ownership, settings.batch_max_wait_ms)

    async def run(self, stop: asyncio.Event) -> None:
        """Projects until `stop` is set and the batches in progress are committed.

        Raises:
            ExceptionGroup: of the errors that are neither transient nor the failure of a single partition; with
                MembershipLostError when the group membership is lost for good.
        """
        self._join()
        async with asyncio.TaskGroup() as tasks:
            jobs = {
                "claim loop": self._ownership.claim_assigned(),
                "lag": self._report_lag(),
                "membership": self._keep_membership(),
                "dead letters": self._publish_dead_letters(),
                "reader notices": self._notifier.run(),
                "checkpoints": self._ownership.watch_checkpoints(),
                "topic": self._ownership.watch_topic(),
            }
            background = [tasks.create_task(job, name=name) for name, job in jobs.items()]
            count = self._settings.projector_lanes
            lanes = [tasks.create_task(self._project(lane, stop), name=f"lane {lane}") for lane in range(count)]
            await asyncio.wait(lanes, return_when=asyncio.FIRST_EXCEPTION)
            await self._notify_of_last_batch()
            for task in background:  # regularly, though another may wait for a silent connection for longer
                self._ownership.heartbeats.end(task)
                task.cancel()
        await commit_to_group(self._consumer, self._ownership.held.values())

    async def _notify_of_last_batch(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_NOTICE_TIMEOUT):
                await self._notifier.all_sent()

    def _join(self) -> None:
        self._ownership.release_all()
        self._consumer.subscribe([self._settings.kafka_topic], listener=self._ownership)

    async def _keep_membership(self) -> None:
        """Joins the group again after an error in aiokafka's background tasks.

        aiokafka raises such an error only from the next fetch and stands still until then; a projector without
        partitions never fetches. Its heartbeats also end for ever after an unexpected response ("loading the group",
        for one). So this loop fetches from a partition that does not exist. Raises MembershipLostError when the
        background tasks have ended for good.
        """
        nonexistent = TopicPartition(self._settings.kafka_topic, -1)
        member_at = time.monotonic()
        while time.monotonic() - member_at < MEMBERSHIP_TIMEOUT and not fetches_no_more(self._consumer):
            await asyncio.sleep(MEMBERSHIP_CHECK_INTERVAL)
            try:
                async with asyncio.timeout(FETCH_TIMEOUT):
                    await self._consumer.getmany(nonexistent)
                member_at = time.monotonic()
            except TimeoutError:  # a rebalance is under way
                continue
            except KafkaError as error:
                self._log.warning("membership_failed", error=type(error).__name__)
                self._ownership.membership.refused(error)
                self._join()
        raise MembershipLostError

    async def _project(self, lane: int, stop: asyncio.Event) -> None:
        while not stop.is_set():
            mine = self._share_of(lane)
            self._ownership.heartbeats.begin_turn(tp.partition for tp in mine)
            if not mine:
                await self._until_ownership_changes(stop)
                continue
            available = self._rate_limiter.available(self._rate(), self._limits.records_at_once(self._size.limit))
            if available == 0:
                await asyncio.sleep(SHORT_WAIT)
                continue
            fetched = await self._fetcher.fetch(mine, available)
            self._rate_limiter.spend(sum(map(len, fetched.values())))
            await reached("after_fetch")
            began = time.monotonic()
            with self._ownership.work_in_progress():
                ready = self._records_to_apply(lane, fetched)
                for part in split_by_bytes(ready, self._settings.batch_max_bytes):
                    await self._applier.apply(part, stop)
            rest = self._limits.rest(time.monotonic() - began)
            if fetched and not ready:  # all records wait for a second look at a gap, or are beyond a limit
                rest = SHORT_WAIT
            if rest:
                await asyncio.sleep(rest)
        self._ownership.heartbeats.end()

    def _share_of(self, lane: int) -> list[TopicPartition]:
        """Returns the partitions that a lane may fetch now.

        Lanes share the assigned partitions, not the held ones: so a partition that stops moves no other partition to
        another lane.
        """
        lanes = self._limits.lanes(self._settings.projector_lanes)
        return [
            TopicPartition(self._settings.kafka_topic, partition)
            for index, partition in enumerate(sorted(self._ownership.assigned))
            if index % lanes == lane and self._limits.may_continue(self._ownership.held.get(partition))
        ]

    async def _until_ownership_changes(self, stop: asyncio.Event) -> None:
        changed = self._ownership.changed
        waits = [asyncio.create_task(changed.wait()), asyncio.create_task(stop.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()

    def _rate(self) -> float | None:
        """Returns our share of the generation's maximum rate, in records a second; None: no limit."""
        held, topic = self._ownership.held, self._settings.kafka_topic
        return self._limits.rate(len(held), lambda: len(self._consumer.partitions_for_topic(topic) or held))

    def _records_to_apply(self, lane: int, fetched: Fetched) -> dict[OwnedPosition, Sequence[KafkaRecord]]:
        """Returns the fetched records that may be applied: from the held position up to the partition's limit.

        Drops the records of partitions that were released meanwhile.
        """
        to_apply: dict[OwnedPosition, Sequence[KafkaRecord]] = {}
        mine = self._share_of(lane)
        for tp, found in fetched.items():
            position = self._ownership.held.get(tp.partition)
            if position is None:
                continue
            if tp not in mine:  # the partition moved to another lane during the fetch, which must read it again
                self._consumer.seek(tp, position.next_offset)
                continue
            records = found
            if found[0].offset < position.next_offset:
                records = [record for record in found if record.offset >= position.next_offset]
            limit = self._limits.limit(tp.partition)
            if limit is not None and found[-1].offset >= limit:
                records = [record for record in records if record.offset < limit]
                self._consumer.seek(tp, max(limit, position.next_offset))
            if records and self._gaps.follows(tp, position, records[0]):
                to_apply[position] = records
        return to_apply

    def _trace_of(self, part: Part) -> BatchTrace | None:
        """Returns the spans of a part; None: nothing of it is part of a trace, or nobody sees what is built from it."""
        if TRACING.recorder is None or self._limits.current.state != "active":
            return None
        traced = traced_records(part.values())
        settings = self._settings
        if not traced:
            return None
        return BatchTrace(
            traced, record_count(part), settings.kafka_topic, settings.kafka_group_id, self._writer.generation
        )

    async def _publish_dead_letters(self) -> None:
        make, topic = producer_maker(self._settings), self._settings.kafka_dlq_topic
        await publish_dead_letters(self._pool, make, self._writer.generation, topic, self._applier.letters_parked)

    async def _report_lag(self) -> None:
        while True:
            await asyncio.sleep(LAG_REPORT_INTERVAL)
            await commit_to_group(self._consumer, self._ownership.held.values())
