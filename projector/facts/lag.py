"""Tells in metrics how far each partition is behind, in events and in seconds."""

import time
from collections.abc import Mapping

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from projector.consuming.log_probe import LogProbe
from projector.liveness.projecting import Facts
from telemetry.server_facts import LAG_EVENTS, LAG_SECONDS, LOG_END, OF_LOG, POSITION, forget, tell

LOOK_AGAIN = 10.0  # seconds between two looks at the next record of a partition that moves
PATIENCE = 2.0  # seconds for the next records of all partitions


class NextRecord(msgspec.Struct, frozen=True):
    """The record that was next at `position`, made at `timestamp` (seconds since 1970), and when we looked."""

    position: int
    timestamp: float
    looked_at: float  # monotonic seconds


class LagReport:
    """The lag of the partitions that a projector answers for.

    The age of the next record is exact for a partition that stands. While one moves, its next record is looked at every
    `LOOK_AGAIN` seconds, and the age is at most that much too high: a look reads a whole batch.
    """

    def __init__(self, probe: LogProbe) -> None:
        self._probe = probe
        self._next: dict[int, NextRecord] = {}

    async def show(self, topic: str, generation: str, found: Mapping[int, Facts]) -> None:
        """Shows these partitions and no others."""
        behind = {partition: facts for partition, facts in found.items() if facts.lag}
        self._next = {partition: seen for partition, seen in self._next.items() if partition in behind}
        await self._look(topic, behind)
        now = time.time()
        seconds: dict[int, float] = dict.fromkeys(found, 0.0)
        seconds |= {partition: max(0.0, now - seen.timestamp) for partition, seen in self._next.items()}
        tell(LOG_END, {(str(p),): facts.end for p, facts in found.items()})
        tell(POSITION, {(generation, str(p)): f.position for p, f in found.items() if f.position is not None})
        tell(LAG_EVENTS, {(generation, str(p)): facts.lag for p, facts in found.items()})
        tell(
            LAG_SECONDS,
            {(generation, str(p)): seconds[p] for p in found if p not in behind or p in self._next},
        )

    def hide(self) -> None:
        """Shows no partition: what was known no longer holds."""
        forget(OF_LOG)

    async def _look(self, topic: str, behind: Mapping[int, Facts]) -> None:
        now = time.monotonic()
        wanted = {
            TopicPartition(topic, partition): facts.position
            for partition, facts in behind.items()
            if facts.position is not None
            and facts.beginning <= facts.position < facts.readable
            and self._is_due(partition, facts.position, now)
        }
        try:
            records = await self._probe.first_records(wanted, PATIENCE)
        except (TimeoutError, OffsetOutOfRangeError):  # the next look may know more
            return
        for tp, record in records.items():
            self._next[tp.partition] = NextRecord(wanted[tp], record.timestamp / 1000, now)

    def _is_due(self, partition: int, position: int, now: float) -> bool:
        seen = self._next.get(partition)
        return seen is None or (seen.position != position and now - seen.looked_at >= LOOK_AGAIN)
