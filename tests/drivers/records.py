"""What the projector reads of a Kafka record."""

from collections.abc import Sequence

import msgspec


class Record(msgspec.Struct):
    """What the projector reads of a Kafka record."""

    partition: int
    offset: int
    value: bytes | None
    timestamp: int = 0
    topic: str = "t"
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()
