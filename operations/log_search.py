"""Finds records in the log by what their headers say, and tells what those say of a record: its request, its trace.

The read model has neither. Only headers are looked at, so a sealed record is found as any other.
"""

import asyncio
from collections.abc import Iterable, Sequence

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord

from brokers.settings import KafkaSettings
from contracts.record import HEADER_EVENT_ID, HEADER_REQUEST_ID, HEADER_TRACEPARENT
from operations.replay import log_consumer
from projector.consuming.log_probe import LogProbe, loaded_partitions
from telemetry.traces.context import parse

NEWEST = 50_000  # records that one search looks at, over all partitions
FOUND = 50  # records after which it ends
FETCH_MS = 200


class RecordFacts(msgspec.Struct, frozen=True):
    """A record's place, and its headers as text; empty: it has none. `trace_id`: 32 hexadecimal digits."""

    partition: int
    offset: int
    event_id: str
    request_id: str
    trace_id: str


class Searched(msgspec.Struct):
    """What a search has found until now. `looked_at`: records. `is_whole`: it looked at all that it may look at."""

    found: list[RecordFacts]
    looked_at: int = 0
    is_whole: bool = False


async def records_at(
    settings: KafkaSettings, places: Iterable[tuple[int, int]], patience: float
) -> dict[tuple[int, int], RecordFacts]:
    """What is known of the records at these places (partition, offset). One that the log has no more is left out.

    Raises:
        TimeoutError: It took longer than `patience` seconds.
        OSError, KafkaError: Kafka cannot be used.
    """
    probe, found = LogProbe(settings.client_options(), "footfall-search"), {}
    try:
        async with asyncio.timeout(patience):
            for partition, offset in places:
                at = TopicPartition(settings.kafka_topic, partition)
                try:
                    record = (await probe.first_records({at: offset}, patience)).get(at)
                except OffsetOutOfRangeError:
                    continue
                if record is not None and record.offset == offset:
                    found[partition, offset] = facts_of(record)
    finally:
        await probe.close()
    return found


async def search(settings: KafkaSettings, text: str, patience: float, newest: int = NEWEST) -> Searched:
    """Looks through the newest records for those of a request id or a trace id.

    Args:
        settings: Names the brokers and the topic.
        text: The request id, or the trace id.
        patience: Seconds after which it gives what it has found until then.
        newest: Records to look at, over all partitions.

    Raises:
        OSError, KafkaError: Kafka cannot be used.
    """
    searched = Searched([])
    async with log_consumer(settings) as consumer:
        ends = await _ends(consumer, settings.kafka_topic)
        try:
            async with asyncio.timeout(patience):
                await _look(consumer, ends, max(1, newest // max(1, len(ends))), text, searched)
                searched.is_whole = len(searched.found) < FOUND
        except TimeoutError:
            pass
    return searched


async def _ends(consumer: AIOKafkaConsumer, topic: str) -> dict[TopicPartition, int]:
    await consumer.topics()
    known = await loaded_partitions(consumer, topic)
    return dict(await consumer.end_offsets(known)) if known else {}


async def _look(
    consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int], each: int, text: str, searched: Searched
) -> None:
    beginnings = await consumer.beginning_offsets(list(ends))
    left = {tp: max(beginnings[tp], end - each) for tp, end in ends.items()}
    left = {tp: begin for tp, begin in left.items() if begin < ends[tp]}
    consumer.assign(list(left))
    for tp, begin in left.items():
        consumer.seek(tp, begin)
    while left and len(searched.found) < FOUND:
        for records in (await consumer.getmany(*left, timeout_ms=FETCH_MS)).values():
            searched.looked_at += len(records)
            searched.found += matching(records, text)
        left = {tp: at for tp in left if (at := await consumer.position(tp)) < ends[tp]}


def matching(records: Sequence[ConsumerRecord], text: str) -> list[RecordFacts]:
    """Those of this request or trace."""
    wanted, trace = text.encode(), f"-{text.lower()}-".encode()
    return [
        facts_of(record)
        for record in records
        for name, value in record.headers
        if (name == HEADER_REQUEST_ID and value == wanted) or (name == HEADER_TRACEPARENT and trace in value)
    ]


def facts_of(record: ConsumerRecord) -> RecordFacts:
    """What the headers of a record say; anybody may have written them."""
    headers = {name: value or b"" for name, value in record.headers}
    context = parse(headers.get(HEADER_TRACEPARENT, b""))
    return RecordFacts(
        record.partition,
        record.offset,
        headers.get(HEADER_EVENT_ID, b"").decode("utf-8", "replace")[:128],
        headers.get(HEADER_REQUEST_ID, b"").decode("utf-8", "replace")[:128],
        "" if context is None else f"{context.trace_id:032x}",
    )
