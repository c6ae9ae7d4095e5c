"""Holes in the log, told from records left over from an older fetch."""

from aiokafka import AIOKafkaConsumer, TopicPartition

from projector.consuming.batch import Position
from projector.writing.rows import KafkaRecord
from telemetry.logs import get_logger


class OffsetGaps:
    """The holes seen once, by partition.

    A topic may have holes (compaction, transactions). A hole is believed only when a second look, from the position
    itself, finds the same; otherwise the records were left over from an older fetch.
    """

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._seen: dict[int, tuple[int, int]] = {}  # partition: offset expected, offset found
        self._log = get_logger("projector")

    def follows(self, tp: TopicPartition, position: Position, first: KafkaRecord) -> bool:
        """Whether nothing lies between the position and the first record; if not, the consumer looks again."""
        gap = (position.next_offset, first.offset)
        if first.offset == position.next_offset or self._seen.get(tp.partition) == gap:
            self._seen.pop(tp.partition, None)
            return True
        self._seen[tp.partition] = gap
        self._log.info("gap", partition=tp.partition, expected=position.next_offset, found=first.offset)
        self._consumer.seek(tp, position.next_offset)
        return False
