"""`footfall projector` as a process: from records on a real topic to rows in a real database, come what may."""

import asyncio
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from contracts.versions import encode_event
from tests.conftest import Footfall
from tests.patience import PATIENCE
from tests.processes import Process, is_ready, wait_until
from tests.producing import (
    Flow,
    Raw,
    an_event,
    assert_exactly_once,
    checkpoints,
    delete_before,
    logged,
    metric,
    processed,
    produce,
    produce_transactions,
    record_of,
    rows,
    some_records,
    sql,
    start_projector,
    wait_until_owning,
    wait_until_processed,
)

SECRET = "Sesame-4711"


def test_records_become_rows_once_and_duplicates_are_skipped(footfall: Footfall) -> None:
    projector = footfall.start("projector")
    records = some_records(700)
    produce(footfall, records)
    wait_until_processed(footfall, 700)
    produce(footfall, [*records[:50], *records[600:]])  # the same events again, at other offsets
    moved = [msgspec.structs.replace(an_event("user-0"), event_id=an_event().event_id)] * 2
    produce(footfall, [record_of(event, partition) for partition, event in enumerate(moved)])
    wait_until_processed(footfall, 852)
    assert_exactly_once(footfall)
    assert metric(projector, "events_projected_total") == 701
    assert metric(projector, "duplicates_skipped_total") == 151
    assert metric(projector, "dead_letters_parked_total") == 0
    assert sum(row["duplicates"] for row in checkpoints(footfall).values()) == 151
    assert projector.terminate() == 0


def malformed_values() -> dict[str, tuple[bytes | None, str]]:
    """Each kind of record that is not an event, and a word of its reason."""
    good = encode_event(an_event(f"user {SECRET}", {"s": SECRET}))
    deep = b'{"a":' * 3_000 + b"1" + b"}" * 3_000
    return {
        "not json": (f"{SECRET} {{".encode(), "not valid"),
        "empty": (b"", "not valid"),
        "another schema": (f'{{"userId": "{SECRET}"}}'.encode(), "required"),
        "a list": (f'["{SECRET}"]'.encode(), "object"),
        "tombstone": (None, "no value"),
        "invalid UTF-8": (good.replace(SECRET.encode(), SECRET.encode() + b"\xff"), "UTF-8"),
        "unknown field": (good.replace(b'"payload"', b'"extra":1,"payload"'), "Unknown field"),
        "no name of a type": (good.replace(b"PRODUCT_VIEW", b"wink"), "eventType"),
        "deep": (good.replace(b'{"s"', b'{"d":' + deep + b',"s"'), "deep"),
        "NUL": (good.replace(SECRET.encode(), SECRET.encode() + b"\\u0000"), "U+0000"),
        "lone surrogate": (good.replace(SECRET.encode(), SECRET.encode() + b"\\ud800"), "surrogate"),
        "huge number": (good.replace(b'{"s"', b'{"n":1e999,"s"'), "number"),
        "no offset": (good.replace(b'Z"', b'"'), "timestamp"),
    }


def test_malformed_records_are_parked_logged_without_their_content_and_counted(footfall: Footfall) -> None:
    projector = footfall.start("projector")
    kinds = malformed_values()
    records = []
    for number, (value, _) in enumerate(kinds.values()):  # a key each: none waits behind another
        records += [Raw(value, f"{SECRET}-{number}".encode(), 0), record_of(an_event("user-1"), 0)]
    positions = produce(footfall, records)
    # A valid event whose record claims to come from before year 1: the client chooses that time, not the broker.
    positions += produce(footfall, [Raw(encode_event(an_event()), partition=0, timestamp_ms=-(10**15))])
    produce(footfall, [record_of(an_event("user-1"), 0)])
    wait_until_processed(footfall, len(records) + 2)

    assert len(rows(footfall)) == len(kinds) + 1
    assert checkpoints(footfall)[0]["malformed"] == len(kinds) + 1
    assert metric(projector, "dead_letters_parked_total") == len(kinds) + 1
    wait_until(lambda: is_ready(projector), 30, "readiness, which looks at facts of its own")
    lines = logged(projector, "record_parked")
    assert [(line["topic"], line["partition"], line["offset"]) for line in lines] == [
        (footfall.topic, 0, offset) for _, offset in [*positions[:-1:2], positions[-1]]
    ]
    for line, (name, (_, word)) in zip(lines, kinds.items(), strict=False):
        assert word in line["reason"], name
    assert "year" in lines[-1]["reason"]
    assert SECRET not in projector.log_text()


def test_start_from_latest_skips_what_was_there_and_earliest_does_not(
    footfall: Footfall, new_footfall: Callable[..., Footfall]
) -> None:
    old, new = some_records(60), some_records(40)
    produce(footfall, old)
    other = new_footfall()
    other.topic = footfall.topic  # its own database and group on the same topic
    try:
        latest = other.start("projector", START_FROM="latest")
        wait_until_owning(latest, 6)
        produce(footfall, new)
        footfall.start("projector")
        wait_until_processed(footfall, 100)
        wait_until_processed(other, 40)
        assert {row["event_json"].encode() for row in rows(other)} == {record.value for record in new}
        assert {line["reason"] for line in logged(latest, "history_skipped")} == {"latest"}
        assert_exactly_once(footfall)
    finally:
        other.close()


def test_projectors_share_the_partitions_and_survive_each_others_coming_and_going(footfall: Footfall) -> None:
    first = start_projector(footfall)
    wait_until_owning(first, 6)
    with Flow(footfall.servers.kafka, footfall.topic) as flow:
        wait_until_processed(footfall, 200)
        second = start_projector(footfall)
        wait_until_owning(first, 3)
        wait_until_owning(second, 3)
        wait_until_progress(footfall)
        assert first.terminate() == 0  # under load
        wait_until_owning(second, 6)
        third = start_projector(footfall)
        wait_until_owning(second, 3)
        wait_until_owning(third, 3)
        wait_until_progress(footfall)
        second.kill()
        wait_until_owning(third, 6)
        wait_until_progress(footfall)
    wait_until_processed(footfall, flow.sent)
    assert third.terminate() == 0
    assert_exactly_once(footfall)
    assert logged(third, "batch_fenced") == []


def wait_until_progress(footfall: Footfall) -> None:
    before = {partition: row["next_offset"] for partition, row in checkpoints(footfall).items()}
    wait_until(
        lambda: all(row["next_offset"] > before[p] for p, row in checkpoints(footfall).items()),
        30,
        "every partition to move",
    )


def test_killed_again_and_again_in_mid_stream_every_event_is_stored_once(footfall: Footfall) -> None:
    records = some_records(12_000)
    produce(footfall, [*records, *records[:500]], compression_type="lz4")
    killed_at = []
    for goal in (1_000, 4_000, 7_000):
        projector = start_projector(footfall, BATCH_MAX_RECORDS="150")
        wait_until_processed(footfall, goal)
        projector.kill()
        killed_at.append(processed(footfall))
    start_projector(footfall)
    wait_until_processed(footfall, 12_500)
    assert killed_at[0] < 12_500, "the first kill came too late to be in mid-stream"
    assert_exactly_once(footfall)


async def commit_to_group(kafka: str, group: str, offsets: dict[TopicPartition, int]) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(list(offsets))
        await consumer.commit(offsets)
    finally:
        await consumer.stop()


async def group_offsets(kafka: str, group: str) -> dict[int, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(group)
    finally:
        await admin.close()
    return {tp.partition: offset.offset for tp, offset in found.items()}


def test_a_restart_resumes_from_postgresql_and_not_from_kafkas_group(footfall: Footfall) -> None:
    kafka, topic = footfall.servers.kafka, footfall.topic
    projector = footfall.start("projector")
    produce(footfall, some_records(300))
    wait_until_processed(footfall, 300)
    assert projector.terminate() == 0
    moved = {partition: row["next_offset"] for partition, row in checkpoints(footfall).items()}
    assert asyncio.run(group_offsets(kafka, footfall.group)) == moved  # lag tools see what PostgreSQL knows

    produce(footfall, some_records(300))
    wrong = {0: 0, 1: moved[1] + 20, 2: 10**9, 3: moved[3] // 2}  # behind, ahead, beyond the end
    at = {TopicPartition(topic, partition): offset for partition, offset in wrong.items()}
    asyncio.run(commit_to_group(kafka, footfall.group, at))
    projector = footfall.start("projector")
    wait_until_processed(footfall, 600)
    wait_until(lambda: is_ready(projector), 30, "readiness, which looks at facts of its own")
    assert_exactly_once(footfall)
    assert sum(row["duplicates"] for row in checkpoints(footfall).values()) == 0


def readiness(projector: Process) -> dict[str, Any]:
    answer = httpx.get(f"{projector.url}/health/ready", timeout=PATIENCE)
    return {"status": answer.status_code, **answer.json()["dependencies"]["partitions"]}


def test_history_that_is_gone_stops_its_partition_and_no_other(footfall: Footfall) -> None:
    spread = [record_of(an_event(f"user-{n}", {"n": n}), n % 6) for n in range(120)]
    projector = footfall.start("projector")
    produce(footfall, spread)
    wait_until_processed(footfall, 120)
    projector.terminate()
    produce(footfall, [record_of(an_event("later", {"n": n}), n % 6) for n in range(120)])
    asyncio.run(delete_before(footfall.servers.kafka, footfall.topic, 0, 25))  # the checkpoint is at 20
    sql(footfall.servers, "UPDATE read_g1.checkpoints SET next_offset = 5000 WHERE partition = 3")
    projector = footfall.start("projector", ready=False)
    wait_until(lambda: metric(projector, "partitions_stopped") == 2, 20, "two partitions to stop")
    wait_until_processed(footfall, 200)
    produce(footfall, [record_of(an_event("later still"), n % 6) for n in range(60)])
    wait_until_processed(footfall, 240)  # the other four flow on
    found = readiness(projector)
    assert (found["status"], found["ok"]) == (503, False)
    assert "0: history_trimmed: " in found["detail"]
    assert "3: history_cut: " in found["detail"]
    assert metric(projector, "partitions_owned") == 4
    assert [found["partitions"] for found in logged(projector, "partitions_stopped")] == [[0, 3]]
    moved = {partition: row["next_offset"] for partition, row in checkpoints(footfall).items()}
    assert moved == {0: 20, 1: 50, 2: 50, 3: 5000, 4: 50, 5: 50}
    stored = Counter(row["kafka_partition"] for row in rows(footfall))
    assert stored == {0: 20, 1: 50, 2: 50, 3: 20, 4: 50, 5: 50}


class NotUtf8(str):
    """A header's name whose bytes are no UTF-8: a producer of another make may write such."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xff\xfe"


async def produce_unreadable(kafka: str, topic: str, partition: int) -> None:
    """One record that a broker takes and aiokafka cannot read; its pure Python builder lets us make one."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        batch = producer.create_batch()
        batch._builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, -1, 16_384)
        batch.append(timestamp=1, key=b"user", value=b"{}", headers=[(NotUtf8("name"), b"value")])
        await (await producer.send_batch(batch, topic, partition=partition))
    finally:
        await producer.stop()


def test_a_record_that_the_client_cannot_read_stops_its_partition_and_no_other(footfall: Footfall) -> None:
    asyncio.run(produce_unreadable(footfall.servers.kafka, footfall.topic, 2))
    produce(footfall, [record_of(an_event(f"user-{n}"), n % 6) for n in range(60)])
    projector = footfall.start("projector", ready=False)
    wait_until(lambda: metric(projector, "partitions_stopped") == 1, 20, "the partition to stop")
    wait_until_processed(footfall, 50)
    assert readiness(projector)["status"] == 503
    assert "2: unreadable: " in readiness(projector)["detail"]
    produce(footfall, [record_of(an_event("later"), n) for n in (0, 1, 3, 4, 5)])
    wait_until_processed(footfall, 55)
    assert checkpoints(footfall)[2]["next_offset"] == 0
    assert projector.terminate() == 0


def big(name: str, partition: int = 0) -> Raw:
    return record_of(an_event(name, {"text": "x" * 12_000}), partition)


def test_holes_and_aborted_transactions_lose_nothing_even_where_a_fetch_is_split(footfall: Footfall) -> None:
    """An aborted record is not a fact. A hole is passed over, and never taken for leave to skip what follows it."""
    aborted = [big(f"aborted-{n}") for n in range(7)]
    parts = []
    for round_number in range(4):
        parts += [(False, aborted), (True, [big(f"committed-{round_number}-{n}") for n in range(20)])]
    asyncio.run(produce_transactions(footfall.servers.kafka, footfall.topic, [*parts, (False, aborted)]))
    projector = footfall.start("projector", BATCH_MAX_BYTES="30000")
    wait_until_processed(footfall, 80)
    produce(footfall, [record_of(an_event("after"), 0)])
    wait_until_processed(footfall, 81)
    assert_exactly_once(footfall)
    assert {row["user_id"].split("-")[0] for row in rows(footfall)} == {"committed", "after"}
    assert metric(projector, "batches_committed_total") >= 40  # two values of 12 kB fit into 30,000 bytes
    wait_until(lambda: is_ready(projector), 30, "readiness, which looks at facts of its own")


def test_a_signal_in_the_middle_of_a_backlog_ends_it_cleanly(footfall: Footfall) -> None:
    produce(footfall, some_records(5_000))
    for number, name in enumerate((signal.SIGTERM, signal.SIGINT)):
        projector = footfall.start("projector", BATCH_MAX_RECORDS="100", PROJECTOR_LANES="3")
        wait_until_processed(footfall, 300 + 1_500 * number)
        projector.popen.send_signal(name)
        assert projector.popen.wait(PATIENCE) == 0
    footfall.start("projector")
    wait_until_processed(footfall, 5_000)
    assert_exactly_once(footfall)
