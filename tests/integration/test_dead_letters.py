"""Dead letters on the real servers: parked in order, published, redriven, discarded, capped, and found by bisection."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import asyncpg
import httpx
import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner

from contracts.versions import encode_event
from footfall.cli.main import cli
from footfall.cli.output import dead_letters as dlq_terminal
from projector.liveness.stops import Stop, StopCause
from tests.conftest import Footfall
from tests.patience import PATIENCE
from tests.processes import Process, run_to_end, wait_until
from tests.producing import (
    Raw,
    an_event,
    checkpoints,
    logged,
    metric,
    produce,
    record_of,
    rows,
    some_records,
    sql,
    start_projector,
    wait_until_owning,
)
from tests.topic_reader import records_of

POISON = b'{"eventId": "\xff'
NEWER = b'{"version":"9.0","eventId":"x","tenantId":"default"}'
PROJECTIONS = ("user_activity", "user_sessions", "user_sessions_open", "product_views", "activity_hourly")

RAISES_FOR_ONE = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN IF NEW.user_id = 'cursed' THEN RAISE EXCEPTION 'no luck for %', NEW.user_id; END IF; RETURN NEW; END $$
"""
RAISES_FOR_ALL = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no luck'; END $$
"""
TRIGGER = (
    "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON read_g1.{table} FOR EACH ROW EXECUTE FUNCTION public.refuse()"
)


@pytest.fixture
def one_partition(new_footfall: Any) -> Iterator[Footfall]:
    instance: Footfall = new_footfall(partitions=1)
    yield instance
    instance.close()


def letters(footfall: Footfall, state: str = "parked") -> list[asyncpg.Record]:
    where = f"WHERE state = '{state}'" if state else ""
    return sql(footfall.servers, f"SELECT * FROM read_g1.dead_letters {where} ORDER BY kafka_partition, kafka_offset")


def passed(footfall: Footfall) -> int:
    """Records that the checkpoints have passed, in a topic that was read from its origin and has no holes."""
    return sum(row["next_offset"] for row in checkpoints(footfall).values())


def wait_until_passed(footfall: Footfall, count: int, within: float = 30.0) -> None:
    wait_until(lambda: passed(footfall) >= count, within, f"{count} records to be passed")


def assert_accounted(footfall: Footfall) -> None:
    """In each partition, every record passed is stored, a duplicate, or a letter that is parked or discarded."""
    stored = rows(footfall)
    unresolved = [letter for letter in letters(footfall, "") if letter["state"] != "redriven"]
    for partition, row in checkpoints(footfall).items():
        here = [letter for letter in unresolved if letter["kafka_partition"] == partition]
        assert row["stored"] == sum(event["kafka_partition"] == partition for event in stored)
        assert row["malformed"] == sum(letter["cause"] != "behind" for letter in here)
        assert row["stored"] + row["duplicates"] + len(here) == row["next_offset"]


def dlq(footfall: Footfall, *arguments: str, code: int = 0) -> Any:
    """`footfall dlq .. --json` in this process; returns what it prints, or its complaint when `code` is not 0."""
    environment = {"ENVIRONMENT": "test", "DATABASE_URL": footfall.servers.projector_url, "USER": "olga"}
    with patch.object(dlq_terminal, "configure_logs"):  # this process has its own
        run = CliRunner(env=environment).invoke(cli, ["dlq", *arguments, "--json"])
    assert run.exit_code == code, run.output
    return json.loads(run.stdout) if code == 0 else run.stderr


def dlq_process(footfall: Footfall, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`footfall dlq ..` as an operator runs it."""
    return run_to_end("dlq", *arguments, environment={"DATABASE_URL": footfall.servers.projector_url, "COLUMNS": "160"})


def outcomes(answer: Any) -> list[tuple[int, str]]:
    return [(letter["offset"], letter["outcome"]) for letter in answer["letters"]]


def event_of(user: str, number: int, **fields: Any) -> Raw:
    return record_of(an_event(user, {"n": number}, **fields))


def raw(user: str, value: bytes) -> Raw:
    return Raw(value, user.encode())


def set_value(footfall: Footfall, offset: int, value: bytes) -> None:
    """As if an upgrade had taught the code to read it."""
    sql(
        footfall.servers,
        f"UPDATE read_g1.dead_letters SET record_value = '\\x{value.hex()}' WHERE kafka_offset = {offset}",
    )


def numbers_of(footfall: Footfall, user: str) -> list[int]:
    """The numbers of a user's stored events, in the order they were stored."""
    found = [row for row in rows(footfall) if row["user_id"] == user]
    return [
        json.loads(row["payload"])["n"]
        for row in sorted(found, key=lambda row: (row["projected_at"], row["kafka_offset"]))
    ]


def dependencies(process: Process) -> dict[str, Any]:
    answer = httpx.get(f"{process.url}/health/ready", timeout=PATIENCE)
    return {"status": answer.status_code, **answer.json()["dependencies"]}


def test_a_poison_record_and_what_follows_it_are_parked_in_order_while_others_flow(footfall: Footfall) -> None:
    start_projector(footfall)
    sent = [event_of("ann", 1), raw("ann", POISON), event_of("bob", 1), event_of("ann", 2), event_of("ann", 3)]
    positions = produce(footfall, [*sent, event_of("bob", 2)])
    wait_until_passed(footfall, 6)
    assert numbers_of(footfall, "ann") == [1]
    assert numbers_of(footfall, "bob") == [1, 2]
    parked = letters(footfall)
    first = positions[1][1]
    assert [(row["kafka_offset"], row["cause"], row["behind_offset"]) for row in parked] == [
        (first, "poison", None), (positions[3][1], "behind", first), (positions[4][1], "behind", first)
    ]  # fmt: skip
    assert [row["record_value"] for row in parked] == [POISON, sent[3].value, sent[4].value]
    assert {row["user_id"] for row in parked} == {"ann"}
    produce(footfall, [event_of("ann", 4)])  # in a later batch, too
    wait_until_passed(footfall, 7)
    assert len(letters(footfall)) == 4
    assert_accounted(footfall)


def test_a_letter_is_published_byte_for_byte_with_its_diagnosis(footfall: Footfall) -> None:
    headers = [("event-type", b"\x00\xff"), ("twice", b"1"), ("twice", b"2"), ("", b""), ("nul\0\\0", b"x")]
    sent = asyncio.run(_send_with_headers(footfall, [(b"ann", POISON), (None, None), (b"\xfe", b"")], headers))
    start_projector(footfall)
    start_projector(footfall)
    wait_until_passed(footfall, 3)
    published = wait_until_published(footfall, 3)
    by_place = {}
    for record in published:
        found = dict(record.headers[len(headers) :])
        assert list(record.headers[: len(headers)]) == headers
        by_place[int(found["footfall-dlq-partition"]), int(found["footfall-dlq-offset"])] = record.key, record.value
        assert found["footfall-dlq-topic"].decode() == footfall.topic
        assert found["footfall-dlq-cause"] == b"poison"
        assert found["footfall-dlq-error-class"] == b"InvalidEvent"
        assert found["footfall-dlq-error-message"]
        assert found["footfall-dlq-attempts"] == b"1"
        assert found["footfall-dlq-parked-at"].endswith(b"Z")
        assert record.partition == int(found["footfall-dlq-partition"])
    assert by_place == sent
    assert all(row["published_at"] for row in letters(footfall))


async def _send_with_headers(
    footfall: Footfall, pairs: list[tuple[bytes | None, bytes | None]], headers: list[tuple[str, bytes]]
) -> dict[tuple[int, int], tuple[bytes | None, bytes | None]]:
    producer = AIOKafkaProducer(bootstrap_servers=footfall.servers.kafka, acks="all")
    sent = {}
    async with producer:
        for partition, (key, value) in enumerate(pairs):
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None, headers=headers)
            done = await (await producer.send_batch(batch, footfall.topic, partition=partition))
            sent[partition, done.offset] = key, value
    return sent


def wait_until_published(footfall: Footfall, count: int) -> list[Any]:
    def unpublished() -> int:
        return sum(row["published_at"] is None for row in letters(footfall, ""))

    wait_until(lambda: unpublished() == 0, 20, "the letters to be published")
    found = records_of(footfall.servers.kafka, f"{footfall.topic}-dlq")
    assert len(found) == count
    return found


def test_letters_of_a_partition_are_published_in_order_by_several_projectors(one_partition: Footfall) -> None:
    produce(one_partition, [raw(f"user-{n % 7}", b"no") for n in range(450)])
    for _ in range(2):
        start_projector(one_partition)
    wait_until_passed(one_partition, 450)
    published = wait_until_published(one_partition, 450)
    offsets = [int(dict(record.headers)["footfall-dlq-offset"]) for record in published]
    assert offsets == list(range(450))


def test_kills_around_the_parking_lose_and_double_nothing(one_partition: Footfall) -> None:
    projector = start_projector(one_partition)
    total = 0
    for round_ in range(3):
        records = [*some_records(200, 10), raw(f"user-{round_}", POISON), *some_records(200, 10)]
        total += len(records)
        produce(one_partition, records)
        wait_until_passed(one_partition, total - 390)
        projector.kill()
        projector = start_projector(one_partition)
    wait_until_passed(one_partition, total)
    parked = letters(one_partition)
    assert sum(row["cause"] == "poison" for row in parked) == 3
    assert {row["user_id"] for row in parked} == {f"user-{n}" for n in range(3)}
    assert len(parked) == len({row["kafka_offset"] for row in parked})
    assert_accounted(one_partition)
    wait_until_published_at_least_once(one_partition)


def wait_until_published_at_least_once(footfall: Footfall) -> None:
    wait_until(lambda: all(row["published_at"] for row in letters(footfall, "")), 20, "the letters to be published")
    published = {
        int(dict(record.headers)["footfall-dlq-offset"])
        for record in records_of(footfall.servers.kafka, f"{footfall.topic}-dlq")
    }
    assert published == {row["kafka_offset"] for row in letters(footfall, "")}


def test_a_newer_version_goes_through_on_redrive_in_order_and_once(one_partition: Footfall) -> None:
    projector = start_projector(one_partition)
    sent = [event_of("ann", 1), raw("ann", NEWER), event_of("ann", 3), raw("bob", POISON), event_of("bob", 2)]
    produce(one_partition, sent)
    wait_until_passed(one_partition, 5)
    assert [row["cause"] for row in letters(one_partition)] == ["newer_version", "behind", "poison", "behind"]
    answer = dlq(one_partition, "redrive")
    assert outcomes(answer) == [(1, "newer_version"), (2, "behind"), (3, "poison"), (4, "behind")]
    assert [row["attempts"] for row in letters(one_partition)] == [2, 1, 2, 1]
    set_value(one_partition, 1, encode_event(an_event("ann", {"n": 2})))
    predicted = dlq(one_partition, "redrive", "--cause", "newer_version", "--dry-run")
    before = rows(one_partition), letters(one_partition, ""), checkpoints(one_partition)
    assert numbers_of(one_partition, "ann") == [1]
    done = dlq(one_partition, "redrive", "--cause", "newer_version")
    assert outcomes(predicted) == outcomes(done) == [(1, "stored"), (2, "stored")]
    assert predicted["counts"] == done["counts"] == {"stored": 2}
    assert before[1] != letters(one_partition, "")
    assert numbers_of(one_partition, "ann") == [1, 2, 3]
    resolved = letters(one_partition, "redriven")
    assert [row["kafka_offset"] for row in resolved] == [1, 2]
    assert {row["resolved_by"] for row in resolved} == {"olga"}
    assert all(row["resolved_at"] for row in resolved)
    assert outcomes(dlq(one_partition, "redrive", "--user", "ann")) == []  # twice applies once
    assert_accounted(one_partition)
    produce(one_partition, [event_of("ann", 4), event_of("bob", 3)])
    wait_until_passed(one_partition, 7)
    assert numbers_of(one_partition, "ann") == [1, 2, 3, 4]  # ann flows again, bob waits
    assert numbers_of(one_partition, "bob") == []
    assert_accounted(one_partition)
    assert metric(projector, "partitions_owned") == 1
    journal = sql(one_partition.servers, "SELECT actor, action, detail FROM ops.journal ORDER BY id")
    assert {(row["actor"], row["action"]) for row in journal} == {("olga", "dlq redrive")}
    assert len({json.loads(row["detail"])["run"] for row in journal}) == 3  # the dry run left nothing
    assert json.loads(journal[3]["detail"])["counts"] == {"stored": 2}


def test_redriven_rows_equal_those_of_a_log_that_was_never_poisoned(new_footfall: Any) -> None:
    """With every projection: the same events, once straight, once parked and redriven while others flow."""
    plain, redriven = new_footfall(partitions=1), new_footfall(partitions=1)
    kinds = ["LOGIN", "PRODUCT_VIEW", "LOGOUT", "LOGIN", "PRODUCT_VIEW"]
    events = [
        an_event(f"user-{n % 5}", {"productId": f"p{n % 3}", "n": n}, event_type=kinds[(n // 5) % 5])
        for n in range(300)
    ]
    broken = {10, 11, 137}
    try:
        for footfall in (plain, redriven):
            start_projector(footfall)
        produce(plain, [record_of(event) for event in events])
        produce(redriven, [raw(e.user_id, NEWER) if n in broken else record_of(e) for n, e in enumerate(events)])
        wait_until_passed(plain, 300)
        wait_until_passed(redriven, 300)
        for n in broken:
            set_value(redriven, n, encode_event(events[n]))
        predicted = dlq(redriven, "redrive", "--dry-run")
        done = dlq(redriven, "redrive", "--rate", "100")
        assert predicted["letters"] == done["letters"]
        assert done["counts"].keys() == {"stored"}
        assert letters(redriven) == []
        for table in PROJECTIONS:
            statement = f"SELECT to_jsonb(t) AS row FROM read_g1.{table} AS t ORDER BY to_jsonb(t)::text"
            assert sql(plain.servers, statement) == sql(redriven.servers, statement), table
        assert_accounted(redriven)
    finally:
        plain.close()
        redriven.close()


def test_an_event_parked_twice_is_applied_once(footfall: Footfall) -> None:
    start_projector(footfall)
    event = an_event("ann", {"n": 1})
    produce(footfall, [Raw(b"no", b"ann", partition) for partition in (0, 1)])
    produce(footfall, [Raw(encode_event(event), b"ann", partition) for partition in (0, 0, 1)])
    wait_until_passed(footfall, 5)
    sql(footfall.servers, "UPDATE read_g1.dead_letters SET record_value = NULL WHERE cause = 'poison'")
    assert dlq(footfall, "discard", "--cause", "poison", "--yes")["counts"] == {"discarded": 2}
    predicted = dlq(footfall, "redrive", "--dry-run")
    assert predicted["counts"] == {"stored": 1, "duplicate": 2}
    assert dlq(footfall, "redrive")["letters"] == predicted["letters"]
    assert numbers_of(footfall, "ann") == [1]
    assert_accounted(footfall)


def test_what_was_not_chosen_is_neither_touched_nor_overtaken(one_partition: Footfall) -> None:
    start_projector(one_partition)
    produce(one_partition, [raw("ann", POISON), event_of("ann", 1), event_of("ann", 2), Raw(POISON), Raw(POISON, b"")])
    wait_until_passed(one_partition, 5)
    assert outcomes(dlq(one_partition, "redrive", "--offset", "1-2")) == [(1, "blocked"), (2, "blocked")]
    assert outcomes(dlq(one_partition, "redrive", "--offset", "4")) == [
        (4, "poison")
    ]  # an empty key is none: on its own
    assert [row["attempts"] for row in letters(one_partition)] == [1, 1, 1, 1, 2]
    assert outcomes(dlq(one_partition, "redrive", "--limit", "1")) == [(0, "poison")]
    assert dlq(one_partition, "redrive", "--since", "2999-01-01")["letters"] == []
    assert dlq(one_partition, "redrive", "--until", "2999-01-01T00:00:00Z", "--error", "invalidevent")["letters"] == []
    assert dlq(one_partition, "list", "--error", "InvalidEvent")["count"] == 3


def test_after_a_discard_those_behind_wait_for_a_redrive(one_partition: Footfall) -> None:
    start_projector(one_partition)
    produce(one_partition, [raw("ann", POISON), event_of("ann", 1), event_of("bob", 1)])
    wait_until_passed(one_partition, 3)
    assert dlq(one_partition, "discard", "--yes", code=2)  # at least one filter
    assert outcomes(dlq(one_partition, "discard", "--offset", "0", "--dry-run")) == [(0, "discarded")]
    assert letters(one_partition, "discarded") == []
    assert outcomes(dlq(one_partition, "discard", "--offset", "0", "--yes", "--actor", "oleg")) == [(0, "discarded")]
    produce(one_partition, [event_of("ann", 2)])
    wait_until_passed(one_partition, 4)
    assert numbers_of(one_partition, "ann") == []
    assert [row["kafka_offset"] for row in letters(one_partition)] == [1, 3]
    assert letters(one_partition, "discarded")[0]["resolved_by"] == "oleg"
    assert outcomes(dlq(one_partition, "redrive", "--user", "ann")) == [(1, "stored"), (3, "stored")]
    assert numbers_of(one_partition, "ann") == [1, 2]
    assert_accounted(one_partition)


def test_redrives_beside_a_projector_at_work_lose_and_double_nothing(one_partition: Footfall) -> None:
    projector = start_projector(one_partition)
    total = 0
    for round_ in range(3):
        produce(one_partition, [raw(f"user-{round_}", NEWER), *some_records(400, 10)])
        total += 401
        wait_until_passed(one_partition, 401 * round_ + 1)
        dlq(one_partition, "redrive")
        dlq(one_partition, "discard", "--cause", "newer_version", "--yes")
        dlq(one_partition, "redrive")
    wait_until_passed(one_partition, total)
    dlq(one_partition, "redrive")
    assert letters(one_partition) == []
    assert len(rows(one_partition)) == 1_200
    assert_accounted(one_partition)
    assert projector.popen.poll() is None


def test_a_redrive_that_is_killed_is_finished_by_the_next(one_partition: Footfall) -> None:
    start_projector(one_partition)
    count = 300
    produce(one_partition, [raw("ann", NEWER), *(event_of("ann", n) for n in range(1, count))])
    wait_until_passed(one_partition, count)
    set_value(one_partition, 0, encode_event(an_event("ann", {"n": 0})))
    environment = {**os.environ, "ENVIRONMENT": "test", "DATABASE_URL": one_partition.servers.projector_url}
    command = [sys.executable, "-m", "footfall", "dlq", "redrive", "--rate", "20"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as slow:
        wait_until(lambda: bool(letters(one_partition, "redriven")), 30, "the first chunk")
        slow.kill()
    done = len(letters(one_partition, "redriven"))
    assert done % 20 == 0
    assert 0 < done < count
    assert_accounted(one_partition)
    assert dlq(one_partition, "redrive")["counts"] == {"stored": count - done}
    assert numbers_of(one_partition, "ann") == list(range(count))
    assert_accounted(one_partition)


def test_show_keeps_the_value_to_itself_unless_asked(one_partition: Footfall) -> None:
    start_projector(one_partition)
    produce(one_partition, [raw("ann", b'["secret"]')])
    wait_until_passed(one_partition, 1)
    shown = dlq(one_partition, "show", one_partition.topic, "0", "0")
    assert shown["cause"] == "poison"
    assert shown["value_bytes"] == 10
    assert "secret" not in json.dumps(shown)
    assert dlq(one_partition, "show", one_partition.topic, "0", "0", "--raw")["value"] == '["secret"]'
    assert "no dead letter" in dlq(one_partition, "show", one_partition.topic, "0", "9", code=1)
    assert "secret" not in json.dumps(dlq(one_partition, "list"))


@pytest.mark.parametrize(
    ("cap", "action", "said"),
    [
        ("MAX_PARKED_OF_ONE_KEY", "redrive", "of one key"),
        ("MAX_PARKED_OF_ONE_PARTITION", "discard", "of this partition"),
    ],
)
def test_a_partition_at_its_cap_stops_and_comes_back_by_itself(
    one_partition: Footfall, cap: str, action: str, said: str
) -> None:
    projector = start_projector(one_partition, **{cap: "3"})
    produce(one_partition, [raw("ann", NEWER), *(event_of("ann", n) for n in range(1, 6)), event_of("bob", 1)])
    wait_until(lambda: metric(projector, "partitions_stopped") == 1, 20, "the partition to stop")
    assert len(letters(one_partition)) == 3
    assert passed(one_partition) == 3
    detail = dependencies(projector)["partitions"]["detail"]
    assert said in detail
    assert "the cap" in detail
    wait_until(lambda: bool(checkpoints(one_partition)[0]["stopped_reason"]), 10, "the reason to be written down")
    assert said in checkpoints(one_partition)[0]["stopped_reason"]
    if action == "redrive":
        set_value(one_partition, 0, encode_event(an_event("ann", {"n": 0})))
        assert dlq(one_partition, "redrive")["counts"] == {"stored": 3}
        expected = [0, 1, 2, 3, 4, 5]
    else:
        assert dlq(one_partition, "discard", "--user", "ann", "--yes")["counts"] == {"discarded": 3}
        expected = [3, 4, 5]
    wait_until_passed(one_partition, 7)
    assert numbers_of(one_partition, "ann") == expected
    assert numbers_of(one_partition, "bob") == [1]
    wait_until(lambda: metric(projector, "partitions_stopped") == 0, 10, "the partition to go on")
    assert checkpoints(one_partition)[0]["stopped_reason"] is None
    assert_accounted(one_partition)


@pytest.mark.parametrize("table", ["processed_events", "user_activity"])
def test_one_bad_event_in_thousands_is_found_in_few_transactions(one_partition: Footfall, table: str) -> None:
    sql(one_partition.servers, RAISES_FOR_ONE)
    sql(one_partition.servers, TRIGGER.format(table=table))
    count = 4_096
    records = some_records(count)
    records[2_777] = event_of("cursed", 1)
    produce(one_partition, [*records, event_of("cursed", 2)])
    projector = start_projector(one_partition)
    wait_until_passed(one_partition, count + 1)
    assert [(row["kafka_offset"], row["cause"]) for row in letters(one_partition)] == [
        (2_777, "poison"), (count, "behind")
    ]  # fmt: skip
    assert letters(one_partition)[0]["error_class"] == "RaiseError"
    assert len(rows(one_partition)) == count - 1
    failed = len(logged(projector, "batch_failed"))
    committed = metric(projector, "batches_committed_total")
    assert failed <= 13  # log2(4096) + 1
    assert failed + committed <= 2 * 12 + 6
    assert "cursed" not in projector.log_text()
    assert_accounted(one_partition)
    assert outcomes(dlq(one_partition, "redrive")) == [(2_777, "poison"), (count, "behind")]
    sql(one_partition.servers, "DROP FUNCTION public.refuse CASCADE")
    assert outcomes(dlq(one_partition, "redrive")) == [(2_777, "stored"), (count, "stored")]
    assert_accounted(one_partition)


@pytest.mark.parametrize("before", [0, 5])
def test_a_handler_that_fails_on_everything_parks_nothing_and_says_so(one_partition: Footfall, before: int) -> None:
    projector = start_projector(one_partition)
    wait_until_owning(projector, 1)
    if before:
        produce(one_partition, [raw("ann", POISON), *some_records(before - 1)])
        wait_until_passed(one_partition, before)
    sql(one_partition.servers, RAISES_FOR_ALL)
    sql(one_partition.servers, TRIGGER.format(table="user_activity"))
    produce(one_partition, some_records(100))
    wait_until(lambda: metric(projector, "partitions_stopped") == 1, 20, "the partition to stop")
    assert len(letters(one_partition)) == (1 if before else 0)
    assert passed(one_partition) == before
    found = dependencies(projector)
    assert found["status"] == 503
    reason = Stop(StopCause.DEFECT, "RaiseError P0001").reason
    assert found["partitions"]["detail"] == f"stopped partitions: 0: {reason}"
    wait_until(lambda: bool(checkpoints(one_partition)[0]["stopped_reason"]), 10, "the reason to be written down")
    assert checkpoints(one_partition)[0]["stopped_reason"] == reason
    if before:
        set_value(one_partition, 0, encode_event(an_event("ann", {"n": 0})))
        assert "defect: RaiseError" in dlq(one_partition, "redrive", code=1)
        assert letters(one_partition)[0]["attempts"] == 1
    assert len(logged(projector, "batch_failed")) <= 8


def test_words_that_postgresql_cannot_hold_stop_nothing(one_partition: Footfall) -> None:
    """A key, a field's name and a header's name may hold what a text column refuses."""
    produce(one_partition, [
        Raw(b'{"a\\u0000b": 1}', b"a\0b"),
        Raw(b'{"\\ud800": 1}', b"\xff"),
        Raw(b'{"' + b"x" * 9_000 + b'": 1}', b"long"),
    ])  # fmt: skip
    projector = start_projector(one_partition)
    produce(one_partition, some_records(10))
    wait_until_passed(one_partition, 13)
    assert [row["cause"] for row in letters(one_partition)] == ["poison"] * 3
    assert [row["user_id"] for row in letters(one_partition)] == [None, None, "long"]
    assert not logged(projector, "batch_failed")
    assert outcomes(dlq(one_partition, "redrive")) == [(n, "poison") for n in range(3)]
    assert_accounted(one_partition)
    wait_until_published(one_partition, 3)


def test_an_operator_reads_and_redrives_in_a_terminal(one_partition: Footfall) -> None:
    start_projector(one_partition)
    produce(one_partition, [raw("ann", POISON), event_of("ann", 1)])
    wait_until_passed(one_partition, 2)
    listed = dlq_process(one_partition, "list")
    assert "2 of 2 dead letters." in listed.stdout
    assert "waits for 0" in listed.stdout
    shown = dlq_process(one_partition, "show", one_partition.topic, "0", "0")
    assert "InvalidEvent" in shown.stdout
    done = dlq_process(one_partition, "redrive", "--dry-run")
    assert done.stdout.splitlines()[-1] == "Dry run, nothing is changed: 2 letters: 1 behind, 1 poison."
    asked = dlq_process(one_partition, "discard", "--user", "ann")
    assert asked.returncode == 1
    assert "Discard 2 dead letters for ever?" in asked.stderr
    assert len(letters(one_partition)) == 2
    unreachable = dlq_process(replace_url(one_partition), "list")
    assert unreachable.returncode == 1
    assert len(unreachable.stderr.splitlines()) == 1


def replace_url(footfall: Footfall) -> Footfall:
    servers = replace(footfall.servers, projector_url="postgresql://nobody@127.0.0.1:1/none")
    return Footfall(servers, footfall.topic, Path())


def test_no_dead_letter_topic_disturbs_no_projecting(one_partition: Footfall) -> None:
    projector = start_projector(one_partition, KAFKA_DLQ_TOPIC="not a topic's name")
    produce(one_partition, [raw("ann", POISON), *some_records(50)])
    wait_until_passed(one_partition, 51)
    wait_until(lambda: bool(logged(projector, "dead_letters_not_published")), 30, "it to be noticed")
    assert projector.terminate() == 0
    start_projector(one_partition)
    wait_until_published(one_partition, 1)
