"""Taking records from Kafka. What is wrong with one partition stops that partition, by name, and no other."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    CorruptRecordException,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from projector.consuming.ownership import Ownership
from projector.liveness.heartbeat import FETCH
from projector.liveness.stops import Stop, StopCause
from projector.writing.rows import KafkaRecord
from telemetry.logs import get_logger

RETRY_LATER = 0.5  # seconds before a fetch is tried again after Kafka failed it
FETCH_PATIENCE = 2.0  # seconds of one fetch; in a rebalance aiokafka waits without end, and a lane must see `stop`

# What the client raises on bytes that it cannot take apart: a header's name that is no UTF-8, a wrong checksum. It
# reads the whole batch of a producer or nothing of it, so the record cannot be parked: its bytes are out of reach.
UNREADABLE = (UnicodeDecodeError, CorruptRecordException)

Fetched = Mapping[TopicPartition, Sequence[KafkaRecord]]


class Fetcher:
    """Fetches for the lanes of one loop. `wait_ms`: the longest wait for new records."""

    def __init__(self, consumer: AIOKafkaConsumer, ownership: Ownership, wait_ms: int) -> None:
        self._consumer = consumer
        self._ownership = ownership
        self._wait_ms = wait_ms
        self._log = get_logger("projector")

    async def fetch(self, mine: Sequence[TopicPartition], room: int) -> Fetched:
        """At most `room` records of these partitions; nothing when none came or Kafka failed."""
        try:
            fetched = await self._take(mine, room)
            self._ownership.heartbeats.succeeded(FETCH)
            return fetched
        except TimeoutError:
            pass
        except UNREADABLE:
            await self._stop_unreadable(mine, room)
        except OffsetOutOfRangeError as error:
            self._out_of_range(error.args[0])
        except NoOffsetForPartitionError:  # Kafka's group has no position; ours comes from PostgreSQL and was set since
            pass
        except IllegalStateError:  # revoked while we asked
            pass
        except KafkaError as error:
            self._log.warning("fetch_failed", error=type(error).__name__)
            self._ownership.heartbeats.failed(error, FETCH)
            await asyncio.sleep(RETRY_LATER)
        return {}

    async def _take(self, mine: Iterable[TopicPartition], room: int) -> Fetched:
        async with asyncio.timeout(FETCH_PATIENCE):
            fetched: Fetched = await self._consumer.getmany(*mine, timeout_ms=self._wait_ms, max_records=room)
        return fetched

    async def _stop_unreadable(self, mine: Iterable[TopicPartition], room: int) -> None:
        """Asks for each partition alone, from where we stand, and stops those that still fail."""
        for tp in mine:
            position: Any = self._ownership.held.get(tp.partition)
            if position is None:
                continue
            self._consumer.seek(tp, position.next_offset)
            try:
                await self._take([tp], room)
            except UNREADABLE as error:
                fact = f"{type(error).__name__} within {room} records of offset {position.next_offset}"
                self._ownership.stop([position], Stop(StopCause.UNREADABLE, fact))
            except (TimeoutError, KafkaError):  # the next fetch tells
                pass
            else:
                self._consumer.seek(tp, position.next_offset)

    def _out_of_range(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Doubts a position that the topic cannot serve; a fetch from elsewhere is only set right."""
        for tp, offset in offsets.items():
            position = self._ownership.held.get(tp.partition)
            if position is not None and position.next_offset == offset:
                self._ownership.doubt([position])
            elif position is not None:
                self._consumer.seek(tp, position.next_offset)
