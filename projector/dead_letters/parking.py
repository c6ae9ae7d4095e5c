"""Parks records as dead letters in PostgreSQL, in the batch's transaction and in key order (docs/decisions/0007).

Once a record of a key is parked, later records of that key are parked behind it. So a user's events are never applied
out of order. Records without a key have no order to keep, so they block no other record. An empty key counts as no key:
some clients send it for "no key" (librdkafka spreads such records over all partitions).
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from contracts.record import TENANT_SEPARATOR
from projector.liveness.stops import Stop, StopCause
from projector.privacy.erased_users import ErasedUsers
from projector.writing.failure import Diagnosis
from projector.writing.rows import MAX_RECORDED_AT_MS, MIN_RECORDED_AT_MS, UNIX_EPOCH, KafkaRecord
from read_model.connecting.pool import Connection

FIRST_MOMENT = datetime.min.replace(tzinfo=UTC)
LAST_MOMENT = datetime.max.replace(tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class DeadLetter(msgspec.Struct, frozen=True):
    """A record as it was fetched, and why it was parked."""

    record: KafkaRecord
    diagnosis: Diagnosis


class Caps(msgspec.Struct, frozen=True):
    """The maximum numbers of parked letters. A partition that would exceed one of them stops."""

    of_one_key: int = 1_000
    of_one_partition: int = 10_000


class Parked(msgspec.Struct):
    """The parked letters of one partition: for each key the first offset and the count, and the total count."""

    first: dict[bytes, int] = msgspec.field(default_factory=dict)
    count: dict[bytes, int] = msgspec.field(default_factory=dict)
    total: int = 0
    discarded: frozenset[int] = frozenset()  # offsets ahead that an operator discarded in the generation before
    erased: ErasedUsers | None = None  # whose markers lie ahead

    def add(self, key: bytes | None, offset: int) -> None:
        """Adds one letter."""
        self.total += 1
        if key:
            self.first.setdefault(key, offset)
            self.count[key] = self.count.get(key, 0) + 1

    def copy(self) -> "Parked":
        """Returns an independent copy, for a batch whose commit may fail."""
        return Parked(dict(self.first), dict(self.count), self.total, self.discarded, self.erased)

    def without(self, key: bytes) -> "Parked":
        """Returns a copy without the letters of a key."""
        kept = self.copy()
        kept.first.pop(key, None)
        kept.total -= kept.count.pop(key, 0)
        return kept

    def refusal(self, key: bytes | None, caps: Caps) -> Stop | None:
        """Returns the reason to stop instead of parking one more letter of this key; None: it may be parked."""
        if self.total >= caps.of_one_partition:
            return Stop(StopCause.PARKED_OF_PARTITION, f"{self.total} of {caps.of_one_partition}")
        if key and self.count.get(key, 0) >= caps.of_one_key:
            return Stop(StopCause.PARKED_OF_KEY, f"{self.count[key]} of {caps.of_one_key}")
        return None


PARKED = """
SELECT kafka_partition, record_key, min(kafka_offset) AS first, count(*) AS count
FROM {generation}.dead_letters
WHERE state = 'parked' AND kafka_topic = $1 AND kafka_partition = ANY($2::int[])
GROUP BY kafka_partition, record_key
"""

# `rebuild start` copies discarded letters into the new generation, which then skips their records.
DISCARDED = """
SELECT kafka_partition, array_agg(kafka_offset) AS offsets
FROM {generation}.dead_letters JOIN {generation}.checkpoints ON topic = kafka_topic AND partition = kafka_partition
WHERE state = 'discarded' AND kafka_offset >= next_offset AND kafka_topic = $1 AND kafka_partition = ANY($2::int[])
GROUP BY kafka_partition
"""

PARK = """
INSERT INTO {generation}.dead_letters (kafka_topic, kafka_partition, kafka_offset, recorded_at, record_key,
    record_value, header_names, header_values, user_id, cause, error_class, error_message, behind_offset)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""


async def load_parked(
    connection: Connection, generation: str, topic: str, partitions: Sequence[int]
) -> dict[int, Parked]:
    """Loads the parked letters of each partition."""
    parked = {partition: Parked() for partition in partitions}
    for row in await connection.fetch(PARKED.format(generation=generation), topic, list(partitions)):
        found, key = parked[row["kafka_partition"]], row["record_key"]
        found.total += row["count"]
        if key:
            found.first[key], found.count[key] = row["first"], row["count"]
    for row in await connection.fetch(DISCARDED.format(generation=generation), topic, list(partitions)):
        parked[row["kafka_partition"]].discarded = frozenset(row["offsets"])
    return parked


async def park(connection: Connection, generation: str, letters: Iterable[DeadLetter]) -> None:
    """Stores the letters in the connection's current transaction."""
    await connection.executemany(PARK.format(generation=generation), [_row(letter) for letter in letters])


def _row(letter: DeadLetter) -> tuple[object, ...]:
    record, why = letter.record, letter.diagnosis
    return (
        record.topic,
        record.partition,
        record.offset,
        recorded_at(record.timestamp),
        record.key,
        record.value,
        [storable(name) for name, _ in record.headers],
        [value for _, value in record.headers],
        user_of(record.key),
        why.cause,
        why.error_class,
        why.error_message,
        why.behind_offset,
    )


def user_of(key: bytes | None) -> str | None:
    """Returns the user that a key names; None if the key is empty or not text that PostgreSQL can store."""
    try:
        return None if not key or b"\0" in key else (key.partition(TENANT_SEPARATOR)[2] or key).decode()
    except UnicodeDecodeError:
        return None


def recorded_at(timestamp_ms: int) -> datetime:
    """Converts a record's timestamp in ms since 1970; a time outside the calendar becomes its first or last moment."""
    if timestamp_ms < MIN_RECORDED_AT_MS:
        return FIRST_MOMENT
    return LAST_MOMENT if timestamp_ms > MAX_RECORDED_AT_MS else UNIX_EPOCH + timedelta(milliseconds=timestamp_ms)


def timestamp_ms(moment: datetime) -> int:
    """Converts the result of `recorded_at` back to ms since 1970; a time outside the calendar stays outside."""
    return MIN_RECORDED_AT_MS - 1 if moment <= FIRST_MOMENT else (moment - UNIX_EPOCH) // _MILLISECOND


def storable(name: str) -> str:
    """Escapes a header name for PostgreSQL, which cannot store NUL; `header_name` reverses it."""
    return name.replace("\\", "\\\\").replace("\0", "\\0")


def header_name(stored: str) -> str:
    """Returns the header name that `storable` has escaped."""
    return "\\".join(part.replace("\\0", "\0") for part in stored.split("\\\\"))
