"""Finds offsets that a generation needs and the topic no longer holds, and lets an operator accept their loss.

Each accepted gap is written into the journal, `ops.journal`. See docs/stops.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from operations.rebuild.operator import Operator, as_deed
from operations.refusal import RefusedError
from read_model.generations.histories import accept_history, accept_position
from read_model.generations.register import PROJECTED, positions, write_journal

LOOK_PATIENCE = 10.0  # seconds to read the first record after each gap, all together

OTHER_HISTORY = (
    "{topic} has another history than {generation}, so its offsets say nothing of gaps; `footfall status` has the "
    "reason. A topic made anew: `footfall gaps accept-history`; one that lost its end: `footfall gaps "
    "accept-position`; either: `footfall rebuild start`."
)
LAST_SEEN = """
SELECT max(recorded_at) FROM {generation}.processed_events WHERE kafka_topic = $1 AND kafka_partition = $2
"""

LOCK_CHECKPOINT = "SELECT next_offset FROM {generation}.checkpoints WHERE topic = $1 AND partition = $2 FOR UPDATE"


class OffsetGap(msgspec.Struct, frozen=True, rename="camel"):
    """Offsets `first` to `last` of a partition, which a generation needs and the topic no longer holds.

    `after`: time of the last projected record before the gap. `before`: time of the first record after the gap. None:
    there is no such record, or its time is not known.
    """

    generation: str
    partition: int
    first: int
    last: int
    after: datetime | None = None
    before: datetime | None = None

    @property
    def records(self) -> int:
        """Records in the gap, at most: transaction markers have offsets, too."""
        return self.last - self.first + 1

    def __str__(self) -> str:
        when = " and ".join(
            f"{word} {moment:%Y-%m-%d %H:%M:%S} UTC"
            for word, moment in (("made after", self.after), ("before", self.before))
            if moment is not None
        )
        return (
            f"{self.generation}, partition {self.partition}: offsets {self.first} to {self.last}, at most "
            f"{self.records:,} records{', ' + when if when else ''}"
        )


async def gaps(operator: Operator, partitions: Sequence[int] = ()) -> list[OffsetGap]:
    """Finds every gap between a checkpoint and the oldest record of its partition.

    Args:
        operator: The operator at work.
        partitions: Only these partitions; empty: all.

    Raises:
        RefusedError: The topic is another one than that of the queries' generation, or it lost its end.
    """
    beginnings = await operator.beginnings()
    found: list[OffsetGap] = []
    for generation in await operator.generations():
        if generation.state not in PROJECTED:
            continue
        if await operator.has_other_history(generation.name):
            if generation.state == "active":
                raise RefusedError(OTHER_HISTORY.format(topic=operator.topic, generation=generation.name))
            continue
        stands = await positions(operator.connection, generation.name, operator.topic)
        found += [
            OffsetGap(generation.name, partition, position, beginnings[partition] - 1)
            for partition, position in stands.items()
            if partition in beginnings and position < beginnings[partition] and partition in (partitions or stands)
        ]
    return await _with_times(operator, found)


async def _with_times(operator: Operator, found: Iterable[OffsetGap]) -> list[OffsetGap]:
    listed = list(found)
    before = await _times_of_records_at(operator, {gap.partition: gap.last + 1 for gap in listed})
    return [
        msgspec.structs.replace(
            gap,
            after=await operator.connection.fetchval(
                LAST_SEEN.format(generation=gap.generation), operator.topic, gap.partition
            ),
            before=before.get(gap.partition),
        )
        for gap in listed
    ]


async def _times_of_records_at(operator: Operator, offsets: Mapping[int, int]) -> dict[int, datetime]:
    wanted = {TopicPartition(operator.topic, partition): offset for partition, offset in offsets.items()}
    try:
        records = await operator.log.first_records(wanted, LOOK_PATIENCE)
    except (TimeoutError, OffsetOutOfRangeError):  # retention may delete more records meanwhile
        return {}
    return {tp.partition: datetime.fromtimestamp(found.timestamp / 1000, UTC) for tp, found in records.items()}


def _said(found: Sequence[OffsetGap]) -> str:
    return "; ".join(map(str, found))


def _place(partition: int, offset: int) -> str:
    return f"partition {partition} at {offset}"


def _nothing(_: None) -> str:
    return ""


@as_deed("gaps accept", _nothing, _said)
async def accept(operator: Operator, found: Sequence[OffsetGap]) -> None:
    """Moves the checkpoints past these gaps, in one transaction, and notes the operator's name in the journal.

    Raises:
        RefusedError: A checkpoint is no longer where its gap begins. Nothing is changed.
    """
    connection = operator.connection
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '10s'")
        for gap in found:
            where = operator.topic, gap.partition
            if await connection.fetchval(LOCK_CHECKPOINT.format(generation=gap.generation), *where) != gap.first:
                raise RefusedError(
                    f"The checkpoint of {gap.generation}, partition {gap.partition}, has moved meanwhile. List the "
                    "gaps again: footfall gaps list"
                )
            await accept_position(connection, gap.generation, *where, gap.last + 1)
            await write_journal(connection, operator.name, "gaps accept", _detail(operator, gap))


def _detail(operator: Operator, gap: OffsetGap) -> dict[str, object]:
    return {
        "generation": gap.generation,
        "topic": operator.topic,
        "partition": gap.partition,
        "first": gap.first,
        "last": gap.last,
        "records": gap.records,
        "after": gap.after.isoformat() if gap.after else None,
        "before": gap.before.isoformat() if gap.before else None,
    }


@as_deed("gaps accept-history", "; ".join)
async def accept_new_history(operator: Operator) -> list[str]:
    """Moves each generation whose topic was deleted and created again on to the new topic; keeps its old rows.

    Returns:
        A sentence for each generation, with the topic name under which it keeps the rows of the old topic.

    Raises:
        RefusedError: Every generation already counts in the topic that Kafka has.
    """
    found = [each.name for each in await operator.generations() if each.state in PROJECTED]
    others = [name for name in found if await operator.has_other_history(name)]
    if not others:
        raise RefusedError(
            f"Every generation counts in the {operator.topic} that Kafka has: there is nothing to accept."
        )
    topic_id, beginnings = (await operator.histories.metadata()).topic_id, await operator.beginnings()
    sentences = []
    async with operator.connection.transaction():
        await operator.connection.execute("SET LOCAL lock_timeout = '10s'")
        for name in others:
            aside = await accept_history(operator.connection, name, operator.topic, topic_id, beginnings)
            detail = {"generation": name, "topic": operator.topic, "topic_id": str(topic_id), "aside": aside}
            await write_journal(operator.connection, operator.name, "gaps accept-history", detail)
            sentences.append(f"{name} keeps what it has under {aside}")
    return sentences


@as_deed("gaps accept-position", _nothing, _place)
async def accept_at(operator: Operator, partition: int, offset: int) -> None:
    """Moves the active generation's checkpoint of a partition to `offset`.

    Raises:
        RefusedError: The partition does not hold this offset, and the log does not end there either.
    """
    begin, end = (await operator.beginnings()).get(partition), (await operator.ends()).get(partition)
    if begin is None or end is None or not begin <= offset <= end:
        raise RefusedError(f"Partition {partition} of {operator.topic} holds {begin} to {end}, and not {offset}.")
    active = await operator.active()
    async with operator.connection.transaction():
        await operator.connection.execute("SET LOCAL lock_timeout = '10s'")
        stood = (await positions(operator.connection, active.name, operator.topic)).get(partition)
        await accept_position(operator.connection, active.name, operator.topic, partition, offset)
        detail = {"generation": active.name, "topic": operator.topic, "partition": partition}
        await write_journal(
            operator.connection, operator.name, "gaps accept-position", detail | {"from": stood, "to": offset}
        )
