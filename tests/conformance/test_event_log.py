"""One suite for every `EventLog`: what commands rely on, on the log in memory and on the one in Kafka."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from command_side.app import producer_of
from command_side.publishing.counted_log import CountedLog, DayOfTenants
from command_side.publishing.event_log import BUSY, NOT_TAKEN, Acknowledged, EventLog, Outcome, TooLarge
from command_side.publishing.kafka_event_log import KafkaEventLog
from command_side.settings import CommandSettings
from contracts.record import EventRecord, PlacedRecord
from tests.conformance.memory_event_log import MemoryEventLog
from tests.drivers.publishing import publish
from tests.patience import PATIENCE
from tests.servers import Servers
from tests.topic_reader import read_topic

PARTITIONS = 3
MAX_PENDING = 8_000
TOO_LARGE = 1_200_000  # bytes; the broker takes 1 MiB


Ended = Outcome | BaseException


class Stored(msgspec.Struct, frozen=True):
    """One record as it stands in the log."""

    position: Acknowledged
    record: EventRecord


class Subject:
    """A log under test, and a way to look into it that the log has no part in."""

    def __init__(self, log: Any, read: Callable[[], Any]) -> None:
        self.log: EventLog = log
        self.close = log.close
        self._read = read

    async def stored(self) -> list[Stored]:
        """Everything in the log, by partition and offset."""
        found: list[Stored] = await self._read()
        return found

    async def publish_all(self, records: list[EventRecord]) -> list[Ended]:
        """All at once; an outcome for each."""
        return await asyncio.gather(*(publish(self.log, record) for record in records), return_exceptions=True)


async def memory_subject() -> Subject:
    log = MemoryEventLog(partitions=PARTITIONS, max_pending=MAX_PENDING, max_record_bytes=1_048_576)
    await log.start()

    async def read() -> list[Stored]:
        return [
            Stored(Acknowledged(number, offset), record)
            for number, partition in enumerate(log.partitions)
            for offset, record in enumerate(partition)
        ]

    return Subject(log, read)


async def kafka_subject(bootstrap: str, topic: str) -> Subject:
    settings = CommandSettings(kafka_bootstrap_servers=bootstrap, kafka_topic=topic, publish_timeout_ms=20_000)
    log = KafkaEventLog(lambda: producer_of(settings), topic, timeout=20.0, retries=3, max_pending=MAX_PENDING)
    await log.start()

    async def read() -> list[Stored]:
        return [
            Stored(
                Acknowledged(found.partition, found.offset), EventRecord(found.key, found.value, list(found.headers))
            )
            for found in await read_topic(bootstrap, topic)
        ]

    return Subject(log, read)


@pytest.fixture(scope="module", params=["memory", "counted", "kafka"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def topic(kind: str, new_topic: Callable[..., str]) -> str:
    return new_topic(PARTITIONS) if kind == "kafka" else ""


@pytest_asyncio.fixture
async def subject(kind: str, topic: str, real_servers: Servers) -> AsyncIterator[Subject]:
    found = await (kafka_subject(real_servers.kafka, topic) if kind == "kafka" else memory_subject())
    if kind == "counted":
        found.log = CountedLog(found.log, DayOfTenants())
    yield found
    await found.close()


def record(key: str, value: str | bytes = b"{}") -> EventRecord:
    return EventRecord(key.encode(), value.encode() if isinstance(value, str) else value, [("n", b"1")])


def positions(outcomes: Sequence[Ended]) -> list[Acknowledged]:
    failed = [outcome for outcome in outcomes if not isinstance(outcome, Acknowledged)]
    assert not failed
    return [outcome for outcome in outcomes if isinstance(outcome, Acknowledged)]


async def together(subject: Subject, records: list[EventRecord]) -> list[Outcome]:
    """The outcomes of records that find room."""
    outcomes = await subject.log.publish_all(records)
    assert not isinstance(outcomes, NOT_TAKEN)
    return outcomes


async def test_it_says_that_it_is_connected(subject: Subject) -> None:
    assert await subject.log.connected() is True


async def test_a_record_comes_back_byte_for_byte(subject: Subject) -> None:
    sent = [
        EventRecord(b"user-1", b'{"a":1}', [("event-type", b"LOGIN"), ("event-id", b"x"), ("request-id", b"~")]),
        EventRecord("日本-😀".encode(), bytes(range(256)), [("e", b""), ("n\u00e4me", b"\xff\x00"), ("e", b"2")]),
        EventRecord(b"k", b"", []),
        EventRecord(b"\x00", b"x" * 100_000, [("h", b"y" * 1_000)]),
    ]
    at = positions(await subject.publish_all(sent))
    stored = {one.position: one.record for one in await subject.stored()}
    assert stored == dict(zip(at, sent, strict=True))


async def test_positions_are_dense_and_rise_with_each_record(subject: Subject) -> None:
    at = positions([await publish(subject.log, record(f"user-{n}")) for n in range(60)])
    offsets = defaultdict(list)
    for position in at:
        offsets[position.partition].append(position.offset)
    assert len(offsets) == PARTITIONS
    assert all(found == list(range(len(found))) for found in offsets.values())


async def test_records_of_one_key_share_a_partition(subject: Subject) -> None:
    at = positions(await subject.publish_all([record(f"user-{n % 20}", f"{n}") for n in range(200)]))
    partitions = defaultdict(set)
    for n, position in enumerate(at):
        partitions[n % 20].add(position.partition)
    assert all(len(found) == 1 for found in partitions.values())
    assert len(set.union(*partitions.values())) == PARTITIONS


async def test_a_placed_record_goes_into_its_partition_whatever_its_key(subject: Subject) -> None:
    assert await subject.log.partition_count() == PARTITIONS
    placed: list[EventRecord] = [PlacedRecord(b"user-1", b"%d" % n, [], n) for n in range(PARTITIONS)]
    assert [at.partition for at in positions(await subject.publish_all(placed))] == list(range(PARTITIONS))


async def test_records_of_one_key_keep_their_order(subject: Subject) -> None:
    for burst in range(5):
        positions(await subject.publish_all([record(f"user-{n % 3}", f"{burst * 300 + n}") for n in range(300)]))
    by_key = defaultdict(list)
    for one in await subject.stored():
        by_key[one.record.key].append(int(one.record.value))
    assert {key: len(found) for key, found in by_key.items()} == {b"user-0": 500, b"user-1": 500, b"user-2": 500}
    assert all(found == sorted(found) for found in by_key.values())


async def test_concurrent_publishers_each_get_their_own_record_acknowledged_once(subject: Subject) -> None:
    sent = [record(f"user-{n % 50}", f"value-{n}") for n in range(3_000)]
    at = positions(await subject.publish_all(sent))
    assert len(set(at)) == len(sent)
    assert {one.position: one.record for one in await subject.stored()} == dict(zip(at, sent, strict=True))


async def test_more_bytes_than_one_batch_holds_are_sent_in_several(subject: Subject) -> None:
    sent = [record("user-1", f"{n:06}" + "x" * 4_000) for n in range(500)]  # 2 MB against 256 KiB
    at = positions(await subject.publish_all(sent))
    assert len({position.partition for position in at}) == 1
    assert [position.offset for position in at] == list(range(500))
    assert [one.record.value for one in await subject.stored()] == [one.value for one in sent]


async def test_records_published_together_each_have_their_outcome_in_order(subject: Subject) -> None:
    sent = [record(f"user-{n % 20}", f"{n}") for n in range(700)]
    sent[300] = too_large("user-3")
    alone = asyncio.create_task(publish(subject.log, record("alone")))
    outcomes = await together(subject, sent)
    assert outcomes[300] == TooLarge()
    at = positions([outcome for n, outcome in enumerate(outcomes) if n != 300])
    stored = {one.position: one.record for one in await subject.stored()}
    assert [stored[position].value for position in at] == [one.value for n, one in enumerate(sent) if n != 300]
    assert isinstance(await alone, Acknowledged)
    by_key = defaultdict(list)
    for one in await subject.stored():
        by_key[one.record.key].append(one.record.value)
    assert all(found == sorted(found, key=int) for key, found in by_key.items() if key != b"alone")
    assert await subject.log.publish_all([]) == []


async def test_records_that_find_no_room_together_are_all_refused(subject: Subject) -> None:
    first = asyncio.create_task(together(subject, [record("user", f"{n}") for n in range(MAX_PENDING)]))
    await asyncio.sleep(0)
    assert await subject.log.publish_all([record("user", "late")] * 2) == BUSY
    positions(await first)
    assert len(await subject.stored()) == MAX_PENDING


async def test_a_cancelled_publisher_disturbs_no_other(subject: Subject) -> None:
    tasks = [asyncio.create_task(publish(subject.log, record(f"user-{n % 7}", f"{n}"))) for n in range(300)]
    await asyncio.sleep(0)  # all have started, none is answered
    for task in tasks[::3]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    stored = {one.position: one.record.value for one in await subject.stored()}
    for n, outcome in enumerate(outcomes):
        if n % 3 == 0:
            assert isinstance(outcome, asyncio.CancelledError)
        else:
            assert isinstance(outcome, Acknowledged)
            assert stored[outcome] == b"%d" % n
    assert max(Counter(stored.values()).values()) == 1
    assert isinstance(await publish(subject.log, record("after")), Acknowledged)


async def test_a_publisher_cancelled_in_mid_flight_disturbs_no_other(subject: Subject) -> None:
    tasks = [asyncio.create_task(publish(subject.log, record("user", f"{n}" + "x" * 2_000))) for n in range(1_000)]
    await tasks[0]  # the first batch is acknowledged, later ones of the same round are on their way
    cancelled = [task for task in tasks if not task.done()][::2]
    for task in cancelled:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    stored = {one.position: one.record.value for one in await subject.stored()}
    for n, outcome in enumerate(outcomes):
        if isinstance(outcome, Acknowledged):
            assert stored[outcome].startswith(b"%dx" % n)
        else:
            assert isinstance(outcome, asyncio.CancelledError)
            assert tasks[n] in cancelled


async def test_beyond_max_pending_a_record_is_refused_at_once_and_not_stored(subject: Subject) -> None:
    outcomes = await subject.publish_all([record(f"user-{n % 9}", f"{n}") for n in range(MAX_PENDING + 50)])
    refused = [n for n, outcome in enumerate(outcomes) if outcome == BUSY]
    assert refused == list(range(MAX_PENDING, MAX_PENDING + 50))
    positions(outcomes[:MAX_PENDING])
    stored = await subject.stored()
    assert {int(one.record.value) for one in stored} == set(range(MAX_PENDING))
    assert len(stored) == MAX_PENDING
    assert isinstance(await publish(subject.log, record("after")), Acknowledged)


async def told(subject: Subject, sent: list[EventRecord], withdrawn: slice = slice(0, 0)) -> list[Outcome]:
    """Publishes the records, withdraws some at once, and returns what was told of the others, in their order."""
    outcomes: dict[int, list[Outcome]] = {n: [] for n in range(len(sent))}
    all_told = asyncio.Event()
    left = set(range(len(sent))) - set(range(len(sent))[withdrawn])

    def on_result(n: int, outcome: Outcome) -> None:
        outcomes[n].append(outcome)
        left.discard(n)
        if not left:
            all_told.set()

    taken = [subject.log.publish_nowait(one, partial(on_result, n)) for n, one in enumerate(sent)]
    for one in taken[withdrawn]:
        assert not isinstance(one, NOT_TAKEN)
        one.withdraw()
    async with asyncio.timeout(PATIENCE):
        await all_told.wait()
    await publish(subject.log, record("after"))  # a second call would have come by now
    assert all(len(found) == 1 for n, found in outcomes.items() if n not in range(len(sent))[withdrawn])
    assert not any(outcomes[n] for n in range(len(sent))[withdrawn])
    return [found[0] for found in outcomes.values() if found]


async def test_a_publisher_is_called_with_the_position_once(subject: Subject) -> None:
    sent = [record(f"user-{n % 20}", f"{n}") for n in range(500)]
    at = positions(await told(subject, sent))
    stored = {one.position: one.record for one in await subject.stored()}
    assert [stored[position] for position in at] == sent


async def test_what_is_withdrawn_before_it_was_sent_is_never_stored(subject: Subject) -> None:
    sent = [record(f"user-{n % 20}", f"{n}") for n in range(300)]
    positions(await told(subject, sent, slice(0, None, 3)))
    stored = {one.record.value for one in await subject.stored()}
    assert stored == {b"%d" % n for n in range(300) if n % 3} | {b"{}"}


async def test_a_publisher_of_what_is_too_large_is_told_so(subject: Subject) -> None:
    outcomes = await told(subject, [record("a"), too_large("b"), record("c")])
    assert [outcome == TooLarge() for outcome in outcomes] == [False, True, False]


async def test_a_publisher_that_raises_when_it_is_called_disturbs_no_other(subject: Subject) -> None:
    def broken(_: Outcome) -> None:
        raise LookupError("a bug of the publisher")

    others = [asyncio.create_task(publish(subject.log, record("user", f"{n}"))) for n in range(3)]
    await asyncio.sleep(0)
    subject.log.publish_nowait(record("user", "3"), broken)
    others.append(asyncio.create_task(publish(subject.log, record("user", "4"))))
    positions(await asyncio.gather(*others, return_exceptions=True))
    assert [one.record.value for one in await subject.stored()] == [b"%d" % n for n in range(5)]


async def test_beyond_max_pending_nothing_is_taken(subject: Subject) -> None:
    sent = [record(f"user-{n % 9}", f"{n}") for n in range(MAX_PENDING)]
    told_of: list[Outcome] = []
    for one in sent:
        subject.log.publish_nowait(one, told_of.append)
    assert subject.log.publish_nowait(record("late"), told_of.append) == BUSY
    await subject.close()
    positions(told_of)
    assert len(told_of) == len(await subject.stored()) == MAX_PENDING


async def test_close_publishes_what_is_pending(subject: Subject) -> None:
    tasks = [asyncio.create_task(publish(subject.log, record(f"user-{n}", f"{n}"))) for n in range(500)]
    await asyncio.sleep(0)  # pending, not yet sent
    await subject.close()
    at = positions(await asyncio.gather(*tasks, return_exceptions=True))
    stored = {one.position: one.record.value for one in await subject.stored()}
    assert stored == {position: b"%d" % n for n, position in enumerate(at)}


async def test_a_record_that_is_too_large_fails_definitely(subject: Subject) -> None:
    assert await publish(subject.log, too_large("user-1")) == TooLarge()
    assert await subject.stored() == []


async def test_a_record_that_is_too_large_fails_alone(subject: Subject) -> None:
    before = [record(f"user-{n}", f"before-{n}") for n in range(30)]
    after = [record(f"user-{n}", f"after-{n}") for n in range(30)]
    outcomes = await subject.publish_all([*before, too_large("user-1"), *after])
    assert outcomes.pop(30) == TooLarge()
    at = positions(outcomes)
    next_round = positions(await subject.publish_all(before))
    stored = {one.position: one.record for one in await subject.stored()}
    assert stored == dict(zip([*at, *next_round], [*before, *after, *before], strict=True))


def too_large(key: str) -> EventRecord:
    return record(key, random.Random(1).randbytes(TOO_LARGE))  # random: compression must not help
