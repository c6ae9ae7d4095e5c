"""Distinguishes gaps in the log from records that are left over from an older fetch."""

from aiokafka import AIOKafkaConsumer, TopicPartition

from projector.consuming.batch import OwnedPosition
from projector.writing.rows import KafkaRecord
from telemetry.logs import get_logger


class OffsetGaps:
    """The gaps that were seen once, by partition.

    A topic can have gaps (compaction, transactions). A gap is accepted only when a second fetch, from the position
    itself, finds the same gap. Otherwise the records were left over from an older fetch.
    """

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._seen: dict[int, tuple[int, int]] = {}  # partition: offset expected, offset found
        self._log = get_logger("projector")

    def follows(self, tp: TopicPartition, position: OwnedPosition, first: KafkaRecord) -> bool:
        """Returns whether the first record follows the position, directly or after an accepted gap.

        If it returns False, it has moved the consumer back to the position for a second fetch.
        """
        gap = (position.next_offset, first.offset)
        if first.offset == position.next_offset or self._seen.get(tp.partition) == gap:
            self._seen.pop(tp.partition, None)
            return True
        self._seen[tp.partition] = gap
        self._log.info("gap", partition=tp.partition, expected=position.next_offset, found=first.offset)
        self._consumer.seek(tp, position.next_offset)
        return False
