"""Reads the log again, from one position or time to another, without touching the read model.

The consumer belongs to no group, so it moves no group's committed offset. The replay stops where the log ended when it
began. Events of one partition come in the log's order.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaTimeoutError
from aiokafka.structs import ConsumerRecord

from brokers.diagnosis import with_reason
from brokers.rights import no_topic
from brokers.settings import KafkaSettings
from contracts.blank import is_blank
from contracts.erasure import erasure_of, sealed_erasure_of
from contracts.event import UserEvent
from contracts.record import from_value
from contracts.validation.rules import Problems
from projector.sealed.opener import UNSEALED, Opener, Unsealed
from telemetry.connections import ended_within

STALL = 60.0  # seconds without progress, after which Kafka counts as unavailable
FETCH_MS = 200  # milliseconds that one fetch waits for records
CLOSE_TIMEOUT = 2.0  # seconds


class Span(msgspec.Struct, frozen=True):
    """The part of the log to read.

    A bound is an offset, a time, or None (the oldest record; the end of the log). A time stands for the first record
    of each partition whose Kafka timestamp is that time or later. `begin` is included, `end` is not.
    """

    begin: int | datetime | None = None
    end: int | datetime | None = None
    partitions: Sequence[int] = ()  # empty: all


class ReplayFilter(msgspec.Struct, frozen=True):
    """Which events of the span to replay. None: any."""

    user: str | None = None
    tenant: str | None = None
    event_type: str | None = None

    def __call__(self, event: UserEvent) -> bool:
        """Whether the event matches."""
        return (
            self.user in (None, event.user_id)
            and self.tenant in (None, event.tenant_id)
            and self.event_type in (None, event.event_type)
        )


class Replayed(msgspec.Struct, frozen=True):
    """One event and its log position; `recorded_at_ms` is the record's Kafka timestamp."""

    event: UserEvent
    partition: int
    offset: int
    recorded_at_ms: int


class Malformed(msgspec.Struct, frozen=True):
    """A record that is not a valid event. `reason` quotes nothing of the record's value."""

    partition: int
    offset: int
    reason: str


class Tally(msgspec.Struct):
    """Counts of a replay so far.

    `total`: offsets in the span, including offsets without a record (transaction markers, aborted records).
    `passed`: how many of those offsets are behind the replay. `truncated`: partition to its oldest offset, for each
    partition that no longer holds the beginning that was asked for.
    """

    total: int = 0
    passed: int = 0
    replayed: int = 0
    malformed: int = 0
    truncated: dict[int, int] = msgspec.field(default_factory=dict)


class ReplayError(Exception):
    """The span cannot be read, or the handler cannot be loaded; the text says why."""


class HandlerError(Exception):
    """The handler raised for an event; `__cause__` is what it raised."""

    def __init__(self, at: Replayed) -> None:
        super().__init__(f"the handler failed at partition {at.partition}, offset {at.offset}")
        self.at = at


EventHandler = Callable[[Replayed], Awaitable[None]]
OnMalformed = Callable[[Malformed], None]


async def replay(  # noqa: PLR0913 - each says what to read, or what to do with it
    settings: KafkaSettings,
    span: Span,
    matches: ReplayFilter,
    handle: EventHandler,
    on_malformed: OnMalformed,
    *,
    limit: int | None = None,
    tally: Tally | None = None,
    opener: Opener | Unsealed = UNSEALED,
) -> Tally:
    """Reads the span and awaits `handle` for each matching event, one at a time.

    Args:
        settings: Names the brokers and the topic.
        span: The part of the log to read.
        matches: Which of its events to handle.
        handle: Awaited with each matching event.
        on_malformed: Called with each record that is not a valid event.
        limit: Events to handle at most; None: all.
        tally: Updated while the replay runs, for a progress bar.
        opener: Opens the records of the sealed log.

    Returns:
        The final counts.

    Raises:
        ReplayError: The topic or a partition does not exist.
        KafkaError: Kafka cannot be used, or nothing was read for `STALL` seconds.
        Exception: Whatever `handle` raises.
    """
    tally = tally or Tally()
    async with log_consumer(settings) as consumer:
        bounds = await _bounds(consumer, settings.kafka_topic, span)
        tally.truncated = _truncated(bounds, span)
        tally.total = sum(end - begin for begin, end in bounds.values())
        async for record in _records(consumer, bounds, tally):
            if _is_no_event(record.value):
                continue
            [opened] = await opener.opened_records([record])
            event = from_value(opened.value)
            if isinstance(event, Problems):
                tally.malformed += 1
                on_malformed(Malformed(record.partition, record.offset, " ".join(event.sentences)))
            elif matches(event):
                await handle(Replayed(event, record.partition, record.offset, record.timestamp))
                tally.replayed += 1
                if tally.replayed == limit:
                    break
    return tally


def _is_no_event(value: bytes | None) -> bool:
    """Whether a record says what not to remember, or nothing at all."""
    return is_blank(value) or erasure_of(value) is not None or sealed_erasure_of(value) is not None


async def _records(
    consumer: AIOKafkaConsumer, bounds: Mapping[TopicPartition, tuple[int, int]], tally: Tally
) -> AsyncIterator[ConsumerRecord]:
    left = {tp: begin for tp, (begin, end) in bounds.items() if begin < end}
    consumer.assign(list(left))
    for tp, offset in left.items():
        consumer.seek(tp, offset)
    moved_at = time.monotonic()
    while left:
        for tp, records in (await consumer.getmany(*left, timeout_ms=FETCH_MS)).items():
            for record in records:
                if record.offset < bounds[tp][1]:
                    yield record
        # The position also moves past offsets without a record: transaction markers and aborted records.
        reached = {tp: min(await consumer.position(tp), bounds[tp][1]) for tp in left}
        if reached != left:
            tally.passed += sum(reached.values()) - sum(left.values())
            left = {tp: offset for tp, offset in reached.items() if offset < bounds[tp][1]}
            moved_at = time.monotonic()
        elif time.monotonic() - moved_at > STALL:
            raise KafkaTimeoutError(f"Kafka sent no record of the log for {STALL:g} s")


async def _bounds(consumer: AIOKafkaConsumer, topic: str, span: Span) -> dict[TopicPartition, tuple[int, int]]:
    if topic not in await consumer.topics():
        raise ReplayError(no_topic(topic, "READ"))
    await consumer.beginning_offsets([TopicPartition(topic, 0)])  # makes the client load the topic's partitions
    known = consumer.partitions_for_topic(topic) or set()
    unknown = sorted(set(span.partitions) - known)
    if unknown:
        raise ReplayError(f"{topic} has no partition {', '.join(map(str, unknown))}; it has {len(known)}")
    chosen = [TopicPartition(topic, partition) for partition in sorted(set(span.partitions) or known)]
    first, last = await consumer.beginning_offsets(chosen), await consumer.end_offsets(chosen)
    begins = await _offsets_at(consumer, chosen, span.begin, first, last)
    ends = await _offsets_at(consumer, chosen, span.end, last, last)
    return {tp: (max(begins[tp], first[tp]), max(first[tp], begins[tp], min(ends[tp], last[tp]))) for tp in chosen}


def _truncated(bounds: Mapping[TopicPartition, tuple[int, int]], span: Span) -> dict[int, int]:
    asked = 0 if span.begin is None else span.begin
    if not isinstance(asked, int):
        return {}
    return {tp.partition: begin for tp, (begin, _) in bounds.items() if begin > asked}


async def _offsets_at(
    consumer: AIOKafkaConsumer,
    chosen: Sequence[TopicPartition],
    bound: int | datetime | None,
    unbounded: Mapping[TopicPartition, int],
    last: Mapping[TopicPartition, int],
) -> dict[TopicPartition, int]:
    if bound is None:
        return dict(unbounded)
    if isinstance(bound, int):
        return dict.fromkeys(chosen, bound)
    found = await consumer.offsets_for_times(dict.fromkeys(chosen, int(bound.timestamp() * 1000)))
    return {tp: last[tp] if at is None else at.offset for tp, at in found.items()}


@contextlib.asynccontextmanager
async def log_consumer(settings: KafkaSettings) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of no group, which the caller assigns and seeks. Raises KafkaError."""
    options = settings.client_options()
    consumer = AIOKafkaConsumer(
        **options,
        client_id="footfall-replay",
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",  # records of an aborted transaction are no events
    )
    try:
        await with_reason(options, consumer.start)
        yield consumer
    finally:
        await ended_within(CLOSE_TIMEOUT, consumer.stop)
