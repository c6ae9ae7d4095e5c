"""What the projector reads of a Kafka record."""

from collections.abc import Iterable

import msgspec


class Record(msgspec.Struct):
    """What the projector reads of a Kafka record."""

    partition: int
    offset: int
    value: bytes | None
    timestamp: int = 0
    topic: str = "t"
    key: bytes | None = None
    headers: Iterable[tuple[str, bytes]] = ()
