"""The checker finds each kind of difference, planted by hand into evidence in which all is well."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from chaos.attacks.nemesis import FAULTS, ROLES, schedule
from chaos.checking.compare import KINDS as KINDS_OF_FINDINGS
from chaos.checking.compare import Evidence, check
from chaos.checking.history import Operation, Writer, read
from chaos.checking.reference_model import Record, decode, fold
from chaos.planted.mutants import MUTANTS
from chaos.stand.wire import KafkaWire, PostgresWire
from tests.architecture.repository import ROOT
from tests.patience import PATIENCE

START = datetime(2026, 1, 31, 12, 59, 58, tzinfo=UTC)
KINDS = [
    "PRODUCT_VIEW",
    "LOGIN",
    "PRODUCT_VIEW",
    "PRODUCT_VIEW",
    "LOGIN",
    "PRODUCT_VIEW",
    "LOGOUT",
    "PRODUCT_VIEW",
    "LOGIN",
    "PRODUCT_VIEW",
    "GONE",  # a type that no catalogue declares
]


def _evidence() -> Evidence:
    """Two users in two partitions, ten events each, one event twice in the log; all of it acknowledged."""
    operations, records = [], []
    for partition in (0, 1):
        for number, kind in enumerate(KINDS):
            operation, record = _event(partition, number, kind)
            operations.append(operation)
            records.append(record)
        records.append(records[-1]._replace(offset=len(KINDS)))
    tables = fold(records)
    rows: dict[str, Any] = {name: [dict(row) for row in table.values()] for name, table in tables.items()}
    for row in rows["processed_events"]:
        row["projected_at"] = START + timedelta(seconds=row["kafka_offset"])
    rows["dead_letters"] = []
    counts = {"stored": len(KINDS), "duplicates": 1, "malformed": 0}
    rows["checkpoints"] = [{"partition": p, "next_offset": len(KINDS) + 1, **counts} for p in (0, 1)]
    return Evidence(operations, records, {0: len(KINDS) + 1, 1: len(KINDS) + 1, 2: 0}, rows)


def _event(partition: int, number: int, kind: str) -> tuple[Operation, Record]:
    op, event_id = f"{partition}-{number}", UUID(int=100 * partition + number)
    payload = {"op": op, "productId": f"p-{number % 3}"}
    at = START + timedelta(seconds=number)
    event = {"eventId": str(event_id), "userId": f"user-{partition}", "eventType": kind}
    value = json.dumps({**event, "timestamp": at.isoformat(), "payload": payload}).encode()
    headers = {"event-id": str(event_id).encode(), "event-type": kind.encode()}
    operation = Operation(op, f"user-{partition}", kind, payload, "ok", value)
    return operation, Record(partition, number, f"user-{partition}".encode(), value, headers)


def _first(evidence: Evidence, table: str) -> dict[str, Any]:
    return evidence.rows[table][0]


def _lose_a_row(e: Evidence) -> None:
    e.rows["processed_events"] = e.rows["processed_events"][1:]


def _lose_a_record(e: Evidence) -> None:
    e.records = e.records[1:]


def _double_a_row(e: Evidence) -> None:
    e.rows["processed_events"] = [*e.rows["processed_events"], _first(e, "processed_events")]


def _do_an_operation_twice(e: Evidence) -> None:
    record = e.records[0]
    new = str(UUID(int=999))
    value = (record.value or b"").replace(str(decode(record.value or b"").event_id).encode(), new.encode())
    e.records = [
        *e.records,
        record._replace(offset=9, value=value, headers=record.headers | {"event-id": new.encode()}),
    ]


def _invent_a_row(e: Evidence) -> None:
    row = _first(e, "processed_events") | {"event_id": UUID(int=998)}
    e.rows["processed_events"] = [*e.rows["processed_events"], row]


def _refuse_what_landed(e: Evidence) -> None:
    e.operations[0].outcome = "fail"


def _forget_the_request(e: Evidence) -> None:
    e.operations = e.operations[1:]


def _swap_two_records(e: Evidence) -> None:
    one, two, *rest = e.records
    e.records = [two._replace(offset=0), one._replace(offset=1), *rest]


def _store_in_the_wrong_order(e: Evidence) -> None:
    _first(e, "processed_events")["projected_at"] += timedelta(hours=1)


def _scatter_a_user(e: Evidence) -> None:
    e.records = [e.records[0]._replace(partition=2), *e.records[1:]]


def _alter_a_payload(e: Evidence) -> None:
    _first(e, "processed_events")["payload"] = {"op": "0-0"}


def _answer_other_bytes(e: Evidence) -> None:
    e.operations[0].event = b"{}"


def _answer_a_repeat_other_bytes(e: Evidence) -> None:
    e.operations[0].answered(b"{}")


def _another_key(e: Evidence) -> None:
    e.records = [e.records[0]._replace(key=b"user-9"), *e.records[1:]]


def _park_a_letter(e: Evidence) -> None:
    e.rows["dead_letters"] = [{"kafka_partition": 0, "kafka_offset": 3, "cause": "poison", "error_message": ""}]


def _stay_behind(e: Evidence) -> None:
    _first(e, "checkpoints")["next_offset"] -= 1


def _miscount(e: Evidence) -> None:
    _first(e, "checkpoints")["duplicates"] += 1


def _without_checkpoint(e: Evidence) -> None:
    e.rows["checkpoints"] = e.rows["checkpoints"][1:]


PLANTED: list[tuple[Callable[[Evidence], None], str]] = [
    (_lose_a_row, "lost"),
    (_lose_a_record, "lost"),
    (_double_a_row, "duplicated"),
    (_do_an_operation_twice, "duplicated"),
    (_invent_a_row, "phantom"),
    (_refuse_what_landed, "phantom"),
    (_forget_the_request, "phantom"),
    (_swap_two_records, "reordered"),
    (_store_in_the_wrong_order, "reordered"),
    (_scatter_a_user, "reordered"),
    (_alter_a_payload, "corrupted"),
    (_answer_other_bytes, "corrupted"),
    (_answer_a_repeat_other_bytes, "corrupted"),
    (_another_key, "corrupted"),
    (_park_a_letter, "dead letters"),
    (_stay_behind, "checkpoints"),
    (_miscount, "checkpoints"),
    (_without_checkpoint, "checkpoints"),
]


def test_all_is_well() -> None:
    assert check(_evidence()).examples == {}


@pytest.mark.parametrize(("plant", "kind"), PLANTED, ids=lambda value: getattr(value, "__name__", value))
def test_a_difference_is_found_and_named(plant: Callable[[Evidence], None], kind: str) -> None:
    evidence = _evidence()
    plant(evidence)
    found = check(evidence)
    assert found.counts[kind] > 0
    assert found.examples[kind]


PROJECTED = sorted(_evidence().rows.keys() - {"processed_events", "dead_letters", "checkpoints"})
ALL_KEY = "activity_hourly_type_users"  # a row of it is its key, and can only be there or not
DIFFERENCES = [
    (table, how)
    for table in PROJECTED
    for how in ("missing", "surplus", "different")
    if (table, how) != (ALL_KEY, "different")
]


@pytest.mark.parametrize(("table", "how"), DIFFERENCES)
def test_a_row_of_a_projection_that_differs_is_found(table: str, how: str) -> None:
    evidence = _evidence()
    rows = evidence.rows[table]
    numbers = [name for name, value in rows[0].items() if isinstance(value, int | list) and name != "kafka_partition"]
    if how == "missing":
        evidence.rows[table] = rows[1:]
    elif how == "surplus":
        evidence.rows[table] = [*rows, rows[0] | {"tenant_id": "another"}]
    else:
        number = numbers[0]
        rows[0][number] = rows[0][number] * 2 if isinstance(rows[0][number], list) else rows[0][number] + 1
    assert check(evidence).counts == {f"rows of {table}": 1}


def test_what_nobody_knows_may_be_there_once_or_not() -> None:
    there, absent = _evidence(), _evidence()
    there.operations[0].outcome = "info"
    absent.operations = [*absent.operations, Operation("9-9", "user-9", "LOGIN", {"op": "9-9"})]
    assert check(there).clean()
    assert check(absent).clean()


def test_the_fold_by_hand() -> None:
    tables = fold(_evidence().records)
    user = tables["user_activity"]["default", "user-0", 0]
    assert (user["logins"], user["logouts"], user["product_views"], user["logged_in"]) == (3, 1, 6, True)
    assert user["last_product_id"] == "p-0"
    first, second = (row for key, row in tables["user_sessions"].items() if key[1] == "user-0")
    assert (first["ended_by"], first["views"], first["products"]) == ("LOGIN", 2, ["p-2", "p-0"])
    assert (second["ended_by"], second["views"], second["products"]) == ("LOGOUT", 1, ["p-2"])
    assert tables["user_sessions_open"]["default", "user-0", 0]["views"] == 1
    noon, one = START.replace(minute=0, second=0), START.replace(hour=13, minute=0, second=0)
    assert tables["activity_hourly"]["default", noon, "PRODUCT_VIEW", 0]["events"] == 1
    assert tables["activity_hourly"]["default", one, "PRODUCT_VIEW", 0]["events"] == 5
    assert tables["activity_hourly"]["default", one, "PRODUCT_VIEW", 0]["users"] == 1
    assert tables["activity_hourly_users"]["default", one, "user-0", 0]["types"] == 7


def test_a_history_survives_a_torn_line(tmp_path: Any) -> None:
    path = tmp_path / "history"
    with closing(Writer(path)) as writer:
        writer.invoke("1", "u", "LOGIN", {"op": "1"})
        writer.end("1", "ok", event=b'{"a": 1}')
        writer.invoke("2", "u", "LOGIN", {"op": "2"})
    with path.open("ab") as file:
        file.write(b'{"at":1,"op":"2","ki\n')
    one, two = read(path)
    assert (one.outcome, one.event, two.outcome) == ("ok", b'{"a": 1}', "info")


def _frame(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


def test_a_commit_is_recognised_wherever_a_chunk_ends() -> None:
    startup = (8).to_bytes(4, "big") + b"\0\3\0\0"
    requests = startup + _frame(b"Q", b"BEGIN;\0") + _frame(b"d", b"rows") + _frame(b"Q", b"COMMIT;\0")
    for size in (1, 3, len(requests)):
        cut = PostgresWire()
        found = [f for i in range(0, len(requests), size) for f in cut.requests(requests[i : i + size])]
        assert [matters for _, matters in found] == [False, False, False, True]
        assert b"".join(frame for frame, _ in found) == requests
    wire = PostgresWire()
    wire.lose(wire.requests(requests)[-1][0])
    answers = wire.answers(_frame(b"C", b"COMMIT\0") + _frame(b"Z", b"I"))
    assert [wire.is_lost(answer) for answer in answers] == [True, True]
    assert [wire.is_last_lost(answer) for answer in answers] == [False, True]


def test_a_commit_that_wrote_no_rows_does_not_matter() -> None:
    wire = PostgresWire()
    wire.requests((8).to_bytes(4, "big") + b"\0\3\0\0")
    wire.requests(_frame(b"Q", b"BEGIN;\0"))
    wire.answers(_frame(b"Z", b"T"))
    wire.requests(_frame(b"d", b"rows"))
    assert [matters for _, matters in wire.requests(_frame(b"Q", b"COMMIT;\0"))] == [True]
    wire.answers(_frame(b"Z", b"I"))
    wire.requests(_frame(b"Q", b"BEGIN;\0"))
    assert [matters for _, matters in wire.requests(_frame(b"Q", b"COMMIT;\0"))] == [False]


def test_a_statement_that_inserts_commits_by_itself_outside_a_transaction() -> None:
    wire = PostgresWire()
    wire.requests((8).to_bytes(4, "big") + b"\0\3\0\0")
    wire.requests(_frame(b"P", b"s1\0WITH x AS (INSERT INTO t SELECT 1) SELECT 1\0\0\0"))
    bind = _frame(b"B", b"\0s1\0rest")
    assert wire.requests(bind)[0][1]
    wire.answers(_frame(b"Z", b"T"))
    assert not wire.requests(bind)[0][1]


def test_only_the_answer_to_the_produce_request_is_lost() -> None:
    wire = KafkaWire()
    produce = (
        (14).to_bytes(4, "big") + (0).to_bytes(2, "big") + (9).to_bytes(2, "big") + (7).to_bytes(4, "big") + b"......"
    )
    fetch = produce[:4] + (1).to_bytes(2, "big") + produce[6:]
    (first, matters), (_, other) = wire.requests(produce + fetch)
    assert (matters, other) == (True, False)
    wire.lose(first)
    answers = wire.answers(b"".join((8).to_bytes(4, "big") + n.to_bytes(4, "big") + b"...." for n in (6, 7)))
    assert [wire.is_lost(answer) for answer in answers] == [False, True]


def test_the_same_seed_gives_the_same_schedule_and_leaves_no_fault_out() -> None:
    everything = dict.fromkeys(FAULTS, 1)
    steps = schedule(7, everything, 60)
    assert steps == schedule(7, everything, 60) != schedule(8, everything, 60)
    assert {step.fault for step in steps[:21]} == FAULTS.keys()
    assert {step.role for step in steps[:21] if step.fault == "kill"} == set(ROLES)


def test_every_mutant_names_what_it_must_be_called() -> None:
    assert len(MUTANTS) >= 12
    assert all(set(mutant.expected) <= {*KINDS_OF_FINDINGS, "rows of processed_events"} for mutant in MUTANTS.values())


def test_every_mutant_still_finds_what_it_replaces() -> None:
    plant = "from chaos.planted.mutants import MUTANTS\nfor mutant in MUTANTS.values(): mutant.plant()"
    subprocess.run([sys.executable, "-c", plant], check=True, timeout=PATIENCE, cwd=ROOT)
