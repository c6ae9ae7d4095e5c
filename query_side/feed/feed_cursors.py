"""Cursors of the feed: a reader's progress and its history, as an opaque text."""

import msgspec

from query_side.log_positions.cursors import Cursors, TenantCursors
from query_side.log_positions.positions import LOG_BEGINNING, PartitionProgress, ProgressByPartition, ReaderPosition
from query_side.log_positions.served_history import UNTAGGED
from read_model.topic_names import names_before


def cursor_of(cursors: TenantCursors, topic: str, progress: ProgressByPartition, tag: bytes) -> str:
    """Returns the cursor of a reader with that progress, in the history with that tag."""
    marks = [(p, reached.next_offset, reached.late) for p, reached in sorted(progress.items())]
    payload = _encode((tag, marks)) if isinstance(cursors, Cursors) else _packed(tag, marks)
    return cursors.seal(payload, b"history:" + _feed(topic))


def position_of_cursor(cursors: TenantCursors, topic: str, cursor: str) -> ReaderPosition | None:
    """Decodes a cursor to a reader's position; returns None if the text is not a cursor of this topic's feed."""
    names = (topic, *names_before(topic))  # a topic that was rewritten has the same positions (decision 43)
    opened = (cursors.open(cursor, b"history:" + _feed(name)) for name in names)
    payload = next((found for found in opened if found is not None), None)
    if payload is not None:
        return _reader_position(*(_decode(payload) if isinstance(cursors, Cursors) else _unpacked(payload)))
    if not isinstance(cursors, Cursors):
        return None
    payload = cursors.open(cursor, _feed(topic))  # a cursor of an earlier version, which does not name its history
    return None if payload is None else _reader_position(UNTAGGED, _decode_untagged(payload))


Marks = list[tuple[int, int, int]]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[bytes, Marks]).decode
_decode_untagged = msgspec.msgpack.Decoder(Marks).decode


_MARK = (2, 6, 6)  # bytes of a partition, an offset and a number of the ledger


def _packed(tag: bytes, marks: Marks) -> bytes:
    """What a sealed cursor carries. Its length says how many partitions there are, and nothing of their offsets."""
    numbers = [number.to_bytes(size, "big") for reached in marks for number, size in zip(reached, _MARK, strict=True)]
    return len(tag).to_bytes(1, "big") + tag + b"".join(numbers)


def _unpacked(payload: bytes) -> tuple[bytes, Marks]:
    end = 1 + payload[0]
    marks = [payload[at : at + sum(_MARK)] for at in range(end, len(payload), sum(_MARK))]
    return payload[1:end], [
        (int.from_bytes(m[:2], "big"), int.from_bytes(m[2:8], "big"), int.from_bytes(m[8:], "big")) for m in marks
    ]


def _reader_position(tag: bytes, marks: Marks) -> ReaderPosition:
    return (
        ReaderPosition({partition: PartitionProgress(offset, late) for partition, offset, late in marks}, tag)
        if marks
        else LOG_BEGINNING
    )


def _feed(topic: str) -> bytes:
    return b"feed:" + topic.encode()
