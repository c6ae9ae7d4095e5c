"""Checks that Kafka's log is the one that a checkpoint belongs to (docs/decisions/0024).

An offset has no identity of its own. A topic that was deleted and created again has the same offsets, and so has a log
that lost its end and was written again. So a checkpoint stores the topic's id and a fingerprint of the record before
it. Every claim of a partition compares both with the log.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import CorruptRecordException, KafkaError, OffsetOutOfRangeError

from brokers.diagnosis import with_reason
from contracts.event import UserEvent
from contracts.record import from_value
from projector.consuming.log_probe import REQUEST_TIMEOUT_MS, LogProbe
from projector.consuming.topic_metadata import TopicMetadata, agreed_metadata, topic_metadata
from projector.liveness.stops import Stop, StopCause
from projector.writing.checkpoints import StoredCheckpoint
from projector.writing.fingerprint import fingerprint
from projector.writing.rows import KafkaRecord

CONFIRM_AFTER = 1.0  # seconds until Kafka is asked again about a log that seems to be another one
READ_TIMEOUT = 20.0  # seconds to read the records before all checkpoints of a claim
UNREADABLE = (UnicodeDecodeError, CorruptRecordException)


class PartitionLog(msgspec.Struct, frozen=True):
    """One partition's log in Kafka. `record`: the record at the offset of the checkpoint's last record, if any."""

    topic_id: UUID | None
    begin: int
    end: int
    record: KafkaRecord | None = None


class Same(msgspec.Struct, frozen=True):
    """The log is the one that the checkpoint belongs to."""


class Unproven(msgspec.Struct, frozen=True):
    """The log may be the checkpoint's, but nothing proves it: Kafka gives no topic id and no longer has the record."""


Verdict = Same | Unproven | Stop


def compare(stored: StoredCheckpoint, log: PartitionLog) -> Verdict:
    """Decides whether a checkpoint belongs to a log. Pure. The topic's id proves it, or else the record before it.

    Args:
        stored: the checkpoint.
        log: the partition's log as it is now.

    Returns:
        `Same` or `Unproven`; or the `Stop` for another history, a lost end or a trimmed beginning.
    """
    known = stored.topic_id is not None and log.topic_id is not None
    if known and stored.topic_id != log.topic_id:
        return Stop(StopCause.ANOTHER_HISTORY, f"topic id {log.topic_id}, and the checkpoint's is {stored.topic_id}")
    if stored.next_offset > log.end:
        return Stop(StopCause.HISTORY_CUT, f"it ends at {log.end}, and the checkpoint is {stored.next_offset}")
    if stored.next_offset < log.begin:
        return Stop(StopCause.HISTORY_TRIMMED, f"it begins at {log.begin}, and the checkpoint is {stored.next_offset}")
    if log.record is not None and not is_last_projected(stored, log.record):
        cause = StopCause.HISTORY_CUT if known else StopCause.ANOTHER_HISTORY
        return Stop(cause, f"offset {log.record.offset} holds another record than the one that was projected")
    return Same() if known or log.record is not None or stored.next_offset == 0 else Unproven()


def is_last_projected(stored: StoredCheckpoint, record: KafkaRecord) -> bool:
    """Returns whether the record is the one that was projected last before the checkpoint."""
    if stored.last_record is not None:
        return fingerprint(record) == stored.last_record
    event = from_value(record.value)
    return isinstance(event, UserEvent) and event.event_id == stored.last_event


class UnconfirmedError(KafkaError):  # type: ignore[misc]  # aiokafka is untyped
    """The brokers do not agree who leads what, so nobody knows yet whether the log lost its end."""

    retriable = True


def is_doubtful(verdict: Verdict) -> bool:
    """Returns whether a broker that only believes to lead could have caused the verdict."""
    return isinstance(verdict, Stop) and verdict.cause in (StopCause.HISTORY_CUT, StopCause.ANOTHER_HISTORY)


class HistoryCheck:
    """Compares the checkpoints of one topic with its log, over connections of its own that it opens on demand."""

    def __init__(
        self,
        client_options: Mapping[str, Any],
        topic: str,
        client_id: str,
        request_timeout_ms: int = REQUEST_TIMEOUT_MS,
    ) -> None:
        self._options, self._topic, self._client_id = client_options, topic, client_id
        self._request_timeout_ms = request_timeout_ms
        self._probe = LogProbe(client_options, client_id, request_timeout_ms)
        self._client: AIOKafkaClient | None = None

    async def metadata(self) -> TopicMetadata:
        """Returns the topic's current id and leader epochs. Raises KafkaError."""
        return await topic_metadata(await self._connected(), self._topic)

    async def _connected(self) -> AIOKafkaClient:
        if self._client is None:
            client = AIOKafkaClient(
                **self._options,
                client_id=self._client_id,
                request_timeout_ms=self._request_timeout_ms,
                metadata_max_age_ms=5_000,
            )
            try:
                await with_reason(self._options, client.bootstrap)
            except BaseException:
                await client.close()
                raise
            self._client = client
        return self._client

    async def verdicts(self, stored: Mapping[int, StoredCheckpoint], topic_id: UUID | None) -> dict[int, Verdict]:
        """Returns a verdict on the checkpoint of each partition.

        Args:
            stored: the checkpoints, by partition.
            topic_id: the topic's current id; None if the brokers give none.

        Raises:
            KafkaError: Kafka cannot answer, or not with one voice.
            TimeoutError: Kafka did not answer in time.
        """
        found = await self._asked_afresh(stored, topic_id)
        doubtful = {partition for partition, verdict in found.items() if is_doubtful(verdict)}
        if doubtful:
            await self._confirm({partition: stored[partition] for partition in doubtful}, found)
        return found

    async def _confirm(self, stored: Mapping[int, StoredCheckpoint], found: Mapping[int, Verdict]) -> None:
        """Asks again, and every broker. A stop waits for an operator, so one broker's word is not enough for it.

        A broker that was frozen, and goes on, answers as the leader that it was: with an end that lies before what the
        new leader has acknowledged since.
        """
        before = await agreed_metadata(await self._connected(), self._topic)
        await asyncio.sleep(CONFIRM_AFTER)
        again = {} if before is None else await self._asked_afresh(stored, before.topic_id)
        after = await agreed_metadata(await self._connected(), self._topic)
        if before is None or before != after or any(again[p] != found[p] for p in stored):
            raise UnconfirmedError(f"the brokers do not agree about the partitions {sorted(stored)} of {self._topic}")

    async def _asked_afresh(self, stored: Mapping[int, StoredCheckpoint], topic_id: UUID | None) -> dict[int, Verdict]:
        """Asks over new connections: an old one knows the leaders of yesterday."""
        try:
            return await self._verdicts(stored, topic_id)
        finally:
            await self._probe.close()

    async def _verdicts(self, stored: Mapping[int, StoredCheckpoint], topic_id: UUID | None) -> dict[int, Verdict]:
        partitions = [TopicPartition(self._topic, partition) for partition in stored]
        begins, ends = await self._probe.beginnings(partitions), await self._probe.ends(partitions)
        logs = {tp.partition: PartitionLog(topic_id, begins[tp], ends[tp]) for tp in partitions}
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
        """Returns the first record at or after each offset, without records that are unreadable or gone."""
        try:
            return dict(await self._probe.first_records(wanted, READ_TIMEOUT))
        except (*UNREADABLE, OffsetOutOfRangeError):
            found: dict[TopicPartition, KafkaRecord] = {}
            for tp, offset in wanted.items():
                with contextlib.suppress(*UNREADABLE, OffsetOutOfRangeError):
                    found.update(await self._probe.first_records({tp: offset}, READ_TIMEOUT))
            return found

    async def close(self) -> None:
        """Closes the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        await self._probe.close()
