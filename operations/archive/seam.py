"""The seam between archive and topic: proves that nothing is missing, nothing is twice, and both tell the same."""

from collections.abc import Mapping, Set

import msgspec
from aiokafka.structs import ConsumerRecord

from operations.archive.files.digests import record_bytes
from operations.archive.files.manifest import Manifest
from operations.archive.files.reading import Records
from operations.archive.files.refusal import ArchiveError
from operations.archive.running import Log, foreign
from operations.archive.substitution import stands_for

Spans = Mapping[int, tuple[int, int]]


class Seam(msgspec.Struct, frozen=True, rename="camel"):
    """The seam of one partition: the topic goes on at offset `at`.

    `compared`: how many records both have; each was compared.
    """

    partition: int
    at: int
    compared: int


class SeamError(ArchiveError):
    """Archive and topic do not fit together."""


def check_spans(archived: Spans, topic: Spans) -> None:
    """Checks that each partition has every offset from 0 to its end. Raises SeamError. Pure."""
    for partition, (begin, end) in sorted(topic.items()):
        first, last = archived.get(partition, (0, 0))
        if first > 0:
            raise SeamError(
                f"The archive of partition {partition} begins at offset {first}: the topic had forgotten what was "
                "before. A generation from it would lack these events."
            )
        if begin > last:
            raise SeamError(
                f"Between archive and topic, partition {partition} lacks the offsets {last} to {begin - 1}: the "
                f"archive ends at {last}, and the topic begins at {begin}. They were deleted before `footfall archive "
                "run` could archive them."
            )
        if end < last:
            raise SeamError(
                f"Partition {partition} of the topic ends at {end}, and the archive at {last}: the topic lost its end."
            )
    gone = sorted(archived.keys() - topic.keys())
    if gone:
        raise SeamError(f"The topic has no partition {gone[0]}, of which the archive has records.")


async def prove(records: Records, log: Log, place: str) -> list[Seam]:
    """Proves the seam of every partition. Raises SeamError, and KafkaError if Kafka cannot be used."""
    manifest = records.manifest
    if not manifest.entries:
        raise SeamError(f"The archive at {place} is empty. Begin with: footfall archive run")
    why = foreign(manifest, await log.source(), place)
    if why is not None:
        raise SeamError(why)
    topic = await log.spans()
    check_spans(manifest.spans, topic)
    seams = [await _proved(records, log, partition, topic[partition]) for partition in manifest.spans]
    if manifest.topic_id is None and not all(seam.compared for seam in seams):
        raise SeamError(
            "Kafka gives no topic ids, and no record is in both archive and topic: nothing proves that both are of one "
            "log."
        )
    return seams


async def _proved(records: Records, log: Log, partition: int, span: tuple[int, int]) -> Seam:
    end, begin = records.manifest.spans[partition][1], span[0]
    archived = aiter(records.after(partition, begin))
    replaced = {offset for entry in records.manifest.of(partition) for offset in entry.replaced_offsets}
    compared = 0
    async for record in log.reader.records(log.topic, partition, begin, end, all_of_them=True):
        other = await anext(archived, None)
        if other is None or other.offset != record.offset or not _is_same(record, other, replaced):
            raise _differs(partition, record.offset if other is None else min(record.offset, other.offset))
        compared += 1
    left = await anext(archived, None)
    if left is not None:
        raise _differs(partition, left.offset)
    return Seam(partition, end, compared)


def _is_same(record: ConsumerRecord, archived: ConsumerRecord, replaced: Set[int]) -> bool:
    """Whether the archive has the record, or what stands for that of an erased user."""
    if record.offset in replaced:
        return stands_for(archived, record)
    return record_bytes(archived) == record_bytes(record)


def _differs(partition: int, offset: int) -> SeamError:
    return SeamError(
        f"Archive and topic differ in partition {partition} at offset {offset}: they are not of one log, or the topic "
        "lost its end and was written again."
    )


def ends_of_records(manifest: Manifest) -> dict[int, int]:
    """Returns, by partition, the offset after the last archived record."""
    return {partition: entry.last + 1 for partition, entry in manifest.last_with_records.items()}
