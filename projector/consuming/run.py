"""The projector's loop: fetch, assemble, commit, move on.

Each lane owns a share of the partitions and one database connection at a time, so that one lane's transaction runs in
PostgreSQL while another lane decodes.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from projector.consuming.batch import Position, split
from projector.consuming.batch_size import BatchSize
from projector.consuming.fetch import FETCH_PATIENCE, Fetched, Fetcher
from projector.consuming.ownership import Ownership
from projector.consuming.placement import Placement
from projector.consuming.rate_limiter import RateLimiter
from projector.dead_letters.parking import Caps
from projector.dead_letters.topic import producer_maker, publish_dead_letters
from projector.failpoints import reached
from projector.generations.limits import GenerationLimits
from projector.generations.offset_gaps import Gaps
from projector.generations.progress import commit_to_group
from projector.settings import ProjectorSettings
from projector.writing.apply import Applier
from projector.writing.commit import GenerationWriter
from projector.writing.reader_notices import Herald
from projector.writing.rows import KafkaRecord
from read_model.generations.register import Generation
from telemetry.logs import get_logger

LAG_REPORT_INTERVAL = 5.0  # seconds between offset commits to Kafka, which only lag tools read
MEMBERSHIP_CHECK_INTERVAL = 1.0  # seconds
MEMBERSHIP_PATIENCE = 15.0  # seconds without a successful check
LAST_WORDS = 0.5  # seconds for the readers to be told of the last batch
NO_ROOM = 0.02  # seconds before a lane that may not take what is there looks again


class MembershipLostError(Exception):
    """This consumer will not be a member of its group again; make a new one."""


class Projector:
    """One projector process at work. `run` returns after `stop` is set and the batches in hand are committed."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        pool: Any,
        ownership: Ownership,
        writer: GenerationWriter,
        settings: ProjectorSettings,
        limits: GenerationLimits | None = None,
    ) -> None:
        self._consumer = consumer
        self._pool = pool
        self._ownership = ownership
        self._writer = writer
        self._settings = settings
        self._limits = limits or GenerationLimits(Generation(writer.generation, "active"))
        self._rate_limiter = RateLimiter()
        self._log = get_logger("projector")
        self._herald = Herald(pool, writer.generation)
        caps = Caps(settings.max_parked_of_one_key, settings.max_parked_of_one_partition)
        self._size = BatchSize(settings.batch_max_records)
        self._applier = Applier(pool, ownership, writer, caps, self._size, on_commit=self._herald.tell)
        topic = settings.kafka_topic
        placement = Placement(writer.generation, lambda: len(consumer.partitions_for_topic(topic) or ()))
        self._applier.on_stored = placement.look
        self._gaps = Gaps(consumer)
        self._fetcher = Fetcher(consumer, ownership, settings.batch_max_wait_ms)

    async def run(self, stop: asyncio.Event) -> None:
        """Projects until `stop`. Raises a group of what is neither transient nor a partition's own failure."""
        self._join()
        async with asyncio.TaskGroup() as tasks:
            jobs = {"keeper": self._ownership.keep(), "lag": self._report_lag(), "membership": self._stay_member()}
            jobs |= {"dead letters": self._publish_dead_letters(), "herald": self._herald.run()}
            jobs |= {"stored": self._ownership.watch_stored(), "topic": self._ownership.watch_topic()}
            background = [tasks.create_task(job, name=name) for name, job in jobs.items()]
            count = self._settings.projector_lanes
            lanes = [tasks.create_task(self._project(lane, stop), name=f"lane {lane}") for lane in range(count)]
            await asyncio.wait(lanes, return_when=asyncio.FIRST_EXCEPTION)
            await self._tell_the_last()
            for task in background:
                task.cancel()
        await commit_to_group(self._consumer, self._ownership.held.values())

    async def _tell_the_last(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await self._herald.everything_told()

    def _join(self) -> None:
        self._ownership.give_up()
        self._consumer.subscribe([self._settings.kafka_topic], listener=self._ownership)

    async def _stay_member(self) -> None:
        """Joins the group anew after an error that aiokafka's background work leaves to the next fetch.

        Until someone takes such an error, aiokafka stands still, and a projector without partitions fetches nothing.
        Nor does a heartbeat ever beat again after an answer it did not expect ("loading the group", for one). Some
        errors end that background work for good: then this raises MembershipLostError.
        """
        nowhere = TopicPartition(self._settings.kafka_topic, -1)
        member_at = time.monotonic()
        while time.monotonic() - member_at < MEMBERSHIP_PATIENCE:
            await asyncio.sleep(MEMBERSHIP_CHECK_INTERVAL)
            try:
                async with asyncio.timeout(FETCH_PATIENCE):
                    await self._consumer.getmany(nowhere)
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
            self._ownership.heartbeats.turn(tp.partition for tp in mine)
            if not mine:
                await self._until_ownership_changes(stop)
                continue
            room = self._rate_limiter.room(self._rate(), self._limits.records_at_once(self._size.limit))
            if room == 0:
                await asyncio.sleep(NO_ROOM)
                continue
            fetched = await self._fetcher.fetch(mine, room)
            self._rate_limiter.spend(sum(map(len, fetched.values())))
            await reached("after_fetch")
            began = time.monotonic()
            with self._ownership.in_hand():
                ready = self._in_order(lane, fetched)
                for part in split(ready, self._settings.batch_max_bytes):
                    await self._applier.apply(part, stop)
            rest = self._limits.rest(time.monotonic() - began)
            if fetched and not ready:  # a second look, or a limit: neither is worth a hurry
                rest = NO_ROOM
            if rest:
                await asyncio.sleep(rest)
        self._ownership.heartbeats.leave()

    def _share_of(self, lane: int) -> list[TopicPartition]:
        """Dealt from the assigned partitions, not from the held: one that stops or is lost moves no other."""
        lanes = self._limits.lanes(self._settings.projector_lanes)
        return [
            TopicPartition(self._settings.kafka_topic, partition)
            for index, partition in enumerate(sorted(self._ownership.assigned))
            if index % lanes == lane and self._limits.allow(self._ownership.held.get(partition))
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
        """Our share of the rate that operators allow, records a second."""
        held, topic = self._ownership.held, self._settings.kafka_topic
        return self._limits.rate(len(held), lambda: len(self._consumer.partitions_for_topic(topic) or held))

    def _in_order(self, lane: int, fetched: Fetched) -> dict[Position, Sequence[KafkaRecord]]:
        """The records at and after the position held; those of a partition given up meanwhile fall away."""
        in_order: dict[Position, Sequence[KafkaRecord]] = {}
        mine = self._share_of(lane)
        for tp, found in fetched.items():
            position = self._ownership.held.get(tp.partition)
            if position is None:
                continue
            if tp not in mine:  # it went to another lane while we waited, which shall read it
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
                in_order[position] = records
        return in_order

    async def _publish_dead_letters(self) -> None:
        make, topic = producer_maker(self._settings), self._settings.kafka_dlq_topic
        await publish_dead_letters(self._pool, make, self._writer.generation, topic, self._applier.letters_parked)

    async def _report_lag(self) -> None:
        while True:
            await asyncio.sleep(LAG_REPORT_INTERVAL)
            await commit_to_group(self._consumer, self._ownership.held.values())
