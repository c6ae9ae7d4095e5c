"""Whether the log that Kafka has now is the one that a checkpoint counts in (docs/decisions/0024).

An offset has no identity of its own: a topic that is deleted and made anew has the same offsets, and so has one whose
end was lost and written anew. So a checkpoint remembers the topic's id and the record before it, and both are compared
with the log whenever a partition is claimed.
"""

import contextlib
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import CorruptRecordException, OffsetOutOfRangeError

from contracts.event import UserEvent
from contracts.record import from_value
from projector.consuming.log_probe import LogProbe
from projector.consuming.topic_metadata import TopicMetadata, topic_metadata
from projector.liveness.stops import Stop, StopCause
from projector.writing.checkpoints import StoredCheckpoint
from projector.writing.fingerprint import fingerprint
from projector.writing.rows import KafkaRecord

LOOK_PATIENCE = 20.0  # seconds for the records before all checkpoints of a claim
UNREADABLE = (UnicodeDecodeError, CorruptRecordException)


class Log(msgspec.Struct, frozen=True):
    """One partition of the topic as Kafka has it. `record`: what stands where the checkpoint's own record stood."""

    topic_id: UUID | None
    begin: int
    end: int
    record: KafkaRecord | None = None


class Same(msgspec.Struct, frozen=True):
    """It is the history that the checkpoint counts in."""


class Unproven(msgspec.Struct, frozen=True):
    """Nothing speaks against it, and nothing proves it: Kafka gives no topic id and no longer holds the record."""


Verdict = Same | Unproven | Stop


def compare(stored: StoredCheckpoint, log: Log) -> Verdict:
    """Whether `stored` is a checkpoint of this log. Pure. A topic's id proves it; else the record before does."""
    known = stored.topic_id is not None and log.topic_id is not None
    if known and stored.topic_id != log.topic_id:
        return Stop(StopCause.ANOTHER_HISTORY, f"topic id {log.topic_id}, and the checkpoint's is {stored.topic_id}")
    if stored.next_offset > log.end:
        return Stop(StopCause.HISTORY_CUT, f"it ends at {log.end}, and the checkpoint is {stored.next_offset}")
    if stored.next_offset < log.begin:
        return Stop(StopCause.HISTORY_TRIMMED, f"it begins at {log.begin}, and the checkpoint is {stored.next_offset}")
    if log.record is not None and not is_the_one(stored, log.record):
        cause = StopCause.HISTORY_CUT if known else StopCause.ANOTHER_HISTORY
        return Stop(cause, f"offset {log.record.offset} holds another record than the one that was projected")
    return Same() if known or log.record is not None or stored.next_offset == 0 else Unproven()


def is_the_one(stored: StoredCheckpoint, record: KafkaRecord) -> bool:
    """Whether the record is what was projected last."""
    if stored.last_record is not None:
        return fingerprint(record) == stored.last_record
    event = from_value(record.value)
    return isinstance(event, UserEvent) and event.event_id == stored.last_event


class Histories:
    """Looks at one topic over connections of its own, which it makes when they are needed."""

    def __init__(self, client_options: Mapping[str, Any], topic: str, client_id: str) -> None:
        self._options, self._topic, self._client_id = client_options, topic, client_id
        self._probe = LogProbe(client_options, client_id)
        self._client: AIOKafkaClient | None = None

    async def metadata(self) -> TopicMetadata:
        """Which topic it is now. Raises KafkaError."""
        if self._client is None:
            client = AIOKafkaClient(**self._options, client_id=self._client_id)
            try:
                await client.bootstrap()
            except BaseException:
                await client.close()
                raise
            self._client = client
        return await topic_metadata(self._client, self._topic)

    async def verdicts(self, stored: Mapping[int, StoredCheckpoint], topic_id: UUID | None) -> dict[int, Verdict]:
        """Of each partition's checkpoint. Raises KafkaError, and TimeoutError when Kafka does not tell in time."""
        try:
            return await self._verdicts(stored, topic_id)
        except BaseException:
            await self._probe.close()
            raise

    async def _verdicts(self, stored: Mapping[int, StoredCheckpoint], topic_id: UUID | None) -> dict[int, Verdict]:
        partitions = [TopicPartition(self._topic, partition) for partition in stored]
        begins, ends = await self._probe.beginnings(partitions), await self._probe.ends(partitions)
        logs = {tp.partition: Log(topic_id, begins[tp], ends[tp]) for tp in partitions}
        wanted = {
            tp: offset
            for tp in partitions
            if (offset := stored[tp.partition].proof_offset) is not None and begins[tp] <= offset < ends[tp]
        }
        for tp, record in (await self._records(wanted)).items():
            if record.offset == wanted[tp]:
                logs[tp.partition] = msgspec.structs.replace(logs[tp.partition], record=record)
        return {partition: compare(found, logs[partition]) for partition, found in stored.items()}

    async def _records(self, wanted: Mapping[TopicPartition, int]) -> dict[TopicPartition, KafkaRecord]:
        """The first record at or after each offset; what the client cannot take apart, or is gone, is left out."""
        try:
            return dict(await self._probe.first_records(wanted, LOOK_PATIENCE))
        except (*UNREADABLE, OffsetOutOfRangeError):
            found: dict[TopicPartition, KafkaRecord] = {}
            for tp, offset in wanted.items():
                with contextlib.suppress(*UNREADABLE, OffsetOutOfRangeError):
                    found.update(await self._probe.first_records({tp: offset}, LOOK_PATIENCE))
            return found

    async def close(self) -> None:
        """Ends the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        await self._probe.close()
