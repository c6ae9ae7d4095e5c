"""The checker: compares the acknowledged events, the log in Kafka and the rows in PostgreSQL. Does no I/O."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec

from chaos.checking.history import Operation
from chaos.checking.reference_model import KEYS, Event, Key, Record, Row, Tables, decode, fold

KINDS = (
    "lost",  # acknowledged but not in the log, or in the log but not in the table
    "duplicated",  # one operation became two events, or one event two rows
    "phantom",  # in the log but never requested (or refused), or in the table but not in the log
    "reordered",  # events of one user are in another order, or in several partitions
    "corrupted",  # bytes or values differ from the acknowledged ones
    "dead letters",  # an event was parked, although every event of the harness is valid
    "checkpoints",  # a checkpoint is not at the end of the log, or its counts are wrong
    *(f"rows of {table}" for table in KEYS if table != "processed_events"),
)
Landed = defaultdict[str, dict[UUID, tuple[Record, Event]]]  # operation to its events, by id
MAX_EXAMPLES = 5  # of each kind


class Evidence(msgspec.Struct):
    """Everything that is compared. `rows`: the stored rows of each table, with `checkpoints` and `dead_letters`."""

    operations: Sequence[Operation]
    records: Sequence[Record]  # in the order of each partition
    ends: dict[int, int]  # partition to its end offset
    rows: dict[str, Sequence[Row]]


class Findings:
    """What is wrong: the number of findings of each kind, and the first few examples."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, kind: str, example: str) -> None:
        """Adds one finding."""
        assert kind in KINDS, kind
        self.counts[kind] += 1
        if len(self.examples[kind]) < MAX_EXAMPLES:
            self.examples[kind].append(example)

    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.counts


def check(evidence: Evidence) -> Findings:
    """Compares everything and returns all findings."""
    found = Findings()
    sound, events = _decoded(found, evidence.records)
    _history_against_log(found, evidence.operations, sound, events)
    _order_of_users(found, evidence.operations, sound, events)
    expected = fold(sound)
    _events_against_table(found, expected["processed_events"], sound, evidence.rows["processed_events"])
    _order_of_rows(found, evidence.rows["processed_events"])
    _projections(found, expected, evidence.rows)
    for letter in evidence.rows["dead_letters"]:
        found.add("dead letters", f"{_at(letter)}: {letter['cause']}, {letter['error_message']}")
    _checkpoints(found, evidence)
    return found


def _decoded(found: Findings, records: Iterable[Record]) -> tuple[list[Record], list[Event]]:
    """Returns the records that hold an event, and their events. Adds a finding for any other record."""
    sound, events = [], []
    for record in records:
        at = f"record {record.partition}-{record.offset}"
        try:
            event = decode(record.value or b"")
        except (ValueError, KeyError, TypeError) as error:
            found.add("corrupted", f"{at} holds no event: {type(error).__name__}")
            continue
        expected = {"event-id": str(event.event_id).encode(), "event-type": event.event_type.encode()}
        if record.key != event.user_id.encode() or not expected.items() <= record.headers.items():
            found.add("corrupted", f"{at}: key or headers are not those of its event")
        sound.append(record)
        events.append(event)
    return sound, events


def _history_against_log(
    found: Findings, operations: Sequence[Operation], records: Sequence[Record], events: Sequence[Event]
) -> None:
    by_op: Landed = defaultdict(dict)
    values: defaultdict[str, set[bytes | None]] = defaultdict(set)
    for record, event in zip(records, events, strict=True):
        op = str(event.payload.get("op"))
        by_op[op].setdefault(event.event_id, (record, event))
        values[op].add(record.value)
    _what_landed(found, by_op, {operation.op: operation for operation in operations})
    for operation in operations:
        if operation.outcome != "ok":
            continue
        landed = values.get(operation.op)
        if not landed:
            found.add("lost", f"operation {operation.op} of {operation.user} was acknowledged and is not in the log")
        elif not {operation.event, *operation.repeats} <= landed:
            found.add("corrupted", f"operation {operation.op} was answered with other bytes than the log holds")


def _what_landed(found: Findings, by_op: Landed, known: dict[str, Operation]) -> None:
    for op, landed in by_op.items():
        if op not in known:
            found.add("phantom", f"the log holds operation {op}, which no client sent")
            continue
        if known[op].outcome == "fail":
            found.add("phantom", f"operation {op} was refused, and is in the log")
        if len(landed) > 1:
            found.add("duplicated", f"operation {op} is in the log as {len(landed)} events")
        for record, event in landed.values():
            if not _is_what_was_asked(known[op], event):
                found.add("corrupted", f"record {record.partition}-{record.offset} is not what {op} asked for")


def _is_what_was_asked(operation: Operation, event: Event) -> bool:
    return (operation.user, operation.type, operation.payload) == (event.user_id, event.event_type, event.payload)


def _order_of_users(
    found: Findings, operations: Sequence[Operation], records: Sequence[Record], events: Sequence[Event]
) -> None:
    """Checks the order of a user's acknowledged events: their client waits for each answer before its next command."""
    first: dict[str, Record] = {}
    partitions: defaultdict[str, set[int]] = defaultdict(set)
    for record, event in zip(records, events, strict=True):
        first.setdefault(str(event.payload.get("op")), record)
        partitions[event.user_id].add(record.partition)
    for user, several in partitions.items():
        if len(several) > 1:
            found.add("reordered", f"{user} is in partitions {sorted(several)}")
    last: dict[str, tuple[int, str]] = {}
    for operation in operations:
        if operation.outcome != "ok" or operation.op not in first:
            continue
        offset = first[operation.op].offset
        before, by = last.get(operation.user, (-1, ""))
        if offset < before and len(partitions[operation.user]) == 1:
            found.add("reordered", f"{operation.user}: {operation.op} at {offset} came after {by} at {before}")
        last[operation.user] = (offset, operation.op)


def _events_against_table(
    found: Findings, expected: dict[Key, Row], records: Sequence[Record], stored: Sequence[Row]
) -> None:
    places: defaultdict[Key, set[tuple[int, int]]] = defaultdict(set)
    for record in records:
        event = decode(record.value or b"")
        places[event.tenant_id, event.event_id].add((record.partition, record.offset))
    seen: Counter[Key] = Counter()
    for row in stored:
        key = (row["tenant_id"], row["event_id"])
        seen[key] += 1
        if seen[key] > 1:
            found.add("duplicated", f"event {row['event_id']} is stored {seen[key]} times")
        elif key not in expected:
            found.add("phantom", f"event {row['event_id']} is stored as of {_at(row)}, and is not in the log")
        elif differing := _differing(expected[key], row):
            kind = "phantom" if (row["kafka_partition"], row["kafka_offset"]) not in places[key] else "corrupted"
            found.add(kind, f"event {row['event_id']} is stored with another {', '.join(differing)}")
    for key, row in expected.items():
        if key not in seen:
            found.add("lost", f"event {row['event_id']} of {_at(row)} is in the log and not in the table")


def _order_of_rows(found: Findings, stored: Sequence[Row]) -> None:
    """Checks that, within a partition, no later record was stored before an earlier one."""
    latest: dict[int, Any] = {}
    for row in sorted(stored, key=lambda row: (row["kafka_partition"], row["kafka_offset"])):
        partition, stored_at = row["kafka_partition"], row["projected_at"]
        if stored_at < latest.get(partition, stored_at):
            found.add("reordered", f"{_at(row)} was stored before what precedes it")
        latest[partition] = stored_at


def _projections(found: Findings, expected: Tables, rows: dict[str, Sequence[Row]]) -> None:
    for table, names in KEYS.items():
        if table == "processed_events":
            continue
        stored = {tuple(row[name] for name in names): row for row in rows[table]}
        for key in stored.keys() | expected[table].keys():
            said, right = stored.get(key), expected[table].get(key)
            if said is None or right is None:
                found.add(f"rows of {table}", f"{_shown(key)} is {'missing' if said is None else 'not of the log'}")
            elif differing := _differing(right, said):
                values = ", ".join(f"{name} {said.get(name)!r} for {right[name]!r}" for name in differing)
                found.add(f"rows of {table}", f"{_shown(key)}: {values}"[:300])


def _checkpoints(found: Findings, evidence: Evidence) -> None:
    stored = Counter(row["kafka_partition"] for row in evidence.rows["processed_events"])
    records = Counter(record.partition for record in evidence.records)
    rows = {row["partition"]: row for row in evidence.rows["checkpoints"]}
    for partition, end in evidence.ends.items():
        row = rows.get(partition)
        if row is None:
            if end:
                found.add("checkpoints", f"partition {partition} has none, its log ends at {end}")
            continue
        if row["next_offset"] != end:
            found.add("checkpoints", f"partition {partition} is at {row['next_offset']}, its log ends at {end}")
        if row["stored"] != stored[partition]:
            found.add(
                "checkpoints", f"partition {partition} counts {row['stored']} rows, there are {stored[partition]}"
            )
        counted = row["stored"] + row["duplicates"] + row["malformed"]
        if counted != records[partition]:
            found.add("checkpoints", f"partition {partition} counts {counted} records of {records[partition]}")


def _differing(right: Row, said: Row) -> list[str]:
    return [name for name, value in right.items() if said.get(name) != value]


def _at(row: Row) -> str:
    return f"{row['kafka_partition']}-{row['kafka_offset']}"


def _shown(key: Key) -> str:
    return " ".join(str(part) for part in key)
