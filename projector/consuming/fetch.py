"""Fetches records from Kafka. An error of one partition stops that partition, with a reason, and no other."""

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

RETRY_DELAY = 0.5  # seconds before the next fetch after Kafka failed one
FETCH_TIMEOUT = 2.0  # seconds for one fetch; in a rebalance aiokafka waits without end, and a lane must notice `stop`

# The client raises these for bytes that it cannot decode, such as a header name that is not UTF-8 or a wrong checksum.
# It returns a producer's whole batch or nothing of it. So the record cannot be parked: we never see its bytes.
UNREADABLE = (UnicodeDecodeError, CorruptRecordException)

Fetched = Mapping[TopicPartition, Sequence[KafkaRecord]]


class Fetcher:
    """Fetches records for the lanes of one loop. `wait_ms`: how long a fetch waits for new records at most."""

    def __init__(self, consumer: AIOKafkaConsumer, ownership: Ownership, wait_ms: int) -> None:
        self._consumer = consumer
        self._ownership = ownership
        self._wait_ms = wait_ms
        self._log = get_logger("projector")

    async def fetch(self, mine: Sequence[TopicPartition], max_records: int) -> Fetched:
        """Fetches at most `max_records` records of the partitions.

        Returns an empty mapping when there are no new records or the fetch failed. A partition that cannot be read is
        stopped; a partition whose position the topic cannot serve is claimed again.
        """
        try:
            fetched = await self._getmany(mine, max_records)
            self._ownership.heartbeats.succeeded(FETCH)
            return fetched
        except TimeoutError:
            pass
        except UNREADABLE:
            await self._stop_unreadable(mine, max_records)
        except OffsetOutOfRangeError as error:
            self._handle_out_of_range(error.args[0])
        except NoOffsetForPartitionError:  # the group has no offset; ours comes from PostgreSQL and was set meanwhile
            pass
        except IllegalStateError:  # the partition was revoked during the fetch
            pass
        except KafkaError as error:
            self._log.warning("fetch_failed", error=type(error).__name__)
            self._ownership.heartbeats.failed(error, FETCH)
            await asyncio.sleep(RETRY_DELAY)
        return {}

    async def _getmany(self, mine: Iterable[TopicPartition], max_records: int) -> Fetched:
        async with asyncio.timeout(FETCH_TIMEOUT):
            fetched: Fetched = await self._consumer.getmany(*mine, timeout_ms=self._wait_ms, max_records=max_records)
        return fetched

    async def _stop_unreadable(self, mine: Iterable[TopicPartition], max_records: int) -> None:
        """Fetches each partition alone, from our position, and stops the partitions that still fail."""
        for tp in mine:
            position: Any = self._ownership.held.get(tp.partition)
            if position is None:
                continue
            self._consumer.seek(tp, position.next_offset)
            try:
                await self._getmany([tp], max_records)
            except UNREADABLE as error:
                fact = f"{type(error).__name__} within {max_records} records of offset {position.next_offset}"
                self._ownership.stop([position], Stop(StopCause.UNREADABLE, fact))
            except (TimeoutError, KafkaError):  # says nothing about the bytes; the next fetch tries again
                pass
            else:
                self._consumer.seek(tp, position.next_offset)

    def _handle_out_of_range(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Has a position verified that the topic cannot serve; a fetch from another offset only needs a seek."""
        for tp, offset in offsets.items():
            position = self._ownership.held.get(tp.partition)
            if position is not None and position.next_offset == offset:
                self._ownership.reverify([position])
            elif position is not None:
                self._consumer.seek(tp, position.next_offset)
