"""The watchdog: it reports whether the projector does the work that is there, and ends a stuck process.

aiokafka's consumers have been seen to hang silently (issues 625, 847, 1154). So the watchdog reads the log's ends over
a connection of its own and compares them with the projector's progress. A projector with a known reason is not stuck:
PostgreSQL operations are being retried, Kafka is unreachable, or a partition is stopped or held. A stuck process
answers 503 on /health/live. Unless it makes progress within `GRACE` seconds, it ends, so that its supervisor restarts
it.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from projector.consuming.batch import OwnedPosition
from projector.consuming.log_probe import LogProbe
from projector.consuming.loop_guard import LoopGuard
from projector.liveness.heartbeat import Heartbeats, Loop, Membership
from projector.liveness.verdicts import Verdict as PartitionVerdict
from telemetry.health import DependencyState
from telemetry.logs import get_logger

LEAST_SPAN = 5.0  # seconds at least between two observations that are compared; a fetch may take 2, a new claim 3
ATTEMPT_PATIENCE = 75.0  # seconds for one attempt at PostgreSQL; the attempt itself gives up after about 60
JOIN_PATIENCE = 120.0  # seconds without an assignment while Kafka answers; twelve times the default session timeout
GRACE = 5.0  # seconds at most from "stuck" to the end of the process, so that probes can see the verdict
END_TIMEOUT = 10.0  # seconds for an orderly end, which may be stuck as well
PROBE_PATIENCE = 5.0  # seconds; a Kafka that takes longer counts as unreachable
FROZEN_INTERVALS = 2.0  # intervals; a sleep that lasts this much too long means that the whole process was paused


class HeldPartition(msgspec.Struct, frozen=True):
    """A held partition at one moment. `waits`: there is a readable record at or after its position."""

    epoch: int
    position: int
    end: int
    waits: bool

    def has_not_moved(self, before: "HeldPartition | None") -> bool:
        """Returns whether the position has not changed although there were already more records before."""
        return (
            before is not None
            and (before.epoch, before.position) == (self.epoch, self.position)
            and before.end > self.position
        )


class Observation(msgspec.Struct, frozen=True):
    """The state of a generation's projector at one moment. `at`: monotonic seconds."""

    at: float
    loops: dict[str, Loop] = msgspec.field(default_factory=dict)
    held: dict[int, HeldPartition] = msgspec.field(default_factory=dict)
    unclaimed: frozenset[int] = frozenset()  # partitions that are assigned, and neither held nor stopped
    joining_for: float = 0.0  # seconds without an assignment by the group, while Kafka answers
    refused: bool = False  # Kafka refuses the membership with an error; a restart would get the same error
    excused: frozenset[int] = frozenset()  # partitions that make no progress for a reason that a restart cannot cure
    outage: bool = False  # Kafka does not answer, so nothing is known about the partitions


class Healthy(msgspec.Struct, frozen=True):
    """The projector makes progress, has nothing to do, or waits for a known reason."""


class Stuck(msgspec.Struct, frozen=True):
    """The projector should make progress and does not."""

    reason: str


Verdict = Healthy | Stuck


def judge(previous: Observation, now: Observation) -> Verdict:
    """Judges from two observations whether a projector is stuck. Pure.

    Args:
        previous: the state at least one interval ago.
        now: the state now. A condition that holds in both began at most two intervals ago.
    """
    reasons = [*_loops(previous, now)]
    if not (previous.outage or now.outage):
        reasons += [*_partitions(previous, now), *_group(previous, now)]
    return Stuck("; ".join(reasons)) if reasons else Healthy()


def _loops(previous: Observation, now: Observation) -> Iterable[str]:
    for name, loop in now.loops.items():
        before = previous.loops.get(name)
        if loop.ended:
            yield f"{name} has ended"
        elif before is not None and loop.serves and loop.turns == before.turns and not _is_retrying(loop):
            yield f"{name} makes no progress"


def _partitions(previous: Observation, now: Observation) -> Iterable[str]:
    for partition, held in sorted(now.held.items()):
        stands = held.waits and partition not in now.excused and held.has_not_moved(previous.held.get(partition))
        if stands and _should_progress(previous, partition) and _should_progress(now, partition):
            yield f"partition {partition} is stuck at {held.position}, and the log ends at {held.end}"


def _group(previous: Observation, now: Observation) -> Iterable[str]:
    unclaimed = sorted(previous.unclaimed & now.unclaimed)
    if unclaimed and not any(_is_retrying(loop) for seen in (previous, now) for loop in seen.loops.values()):
        yield f"partitions {', '.join(map(str, unclaimed))} are assigned, but not claimed"
    if now.joining_for > JOIN_PATIENCE and not now.refused:
        yield f"the consumer group has assigned no partitions for {now.joining_for:.0f} s"


def _is_retrying(loop: Loop) -> bool:
    return loop.trying_for is not None and loop.trying_for < ATTEMPT_PATIENCE


def _should_progress(seen: Observation, partition: int) -> bool:
    """Returns whether some loop works for the partition and is not in an attempt that may take its time."""
    return any(partition in loop.serves and not _is_retrying(loop) for loop in seen.loops.values())


class StuckError(Exception):
    """The projector makes no progress for no known reason; only a restart helps."""


class WatchedOwner(Protocol):
    """The attributes of a generation's `Ownership` that the watchdog reads."""

    generation: str
    topic: str
    assigned: frozenset[int]
    held: dict[int, OwnedPosition]
    membership: Membership
    heartbeats: Heartbeats

    @property
    def stopped(self) -> Mapping[int, object]:
        """The stopped partitions, each with its reason."""
        ...


class Watchdog:
    """Checks the owners that `watched` returns every `interval` seconds. `verdict` is the latest verdict."""

    def __init__(
        self,
        watched: Callable[[], Iterable[WatchedOwner]],
        probe: LogProbe,
        interval: float,
        guard: LoopGuard | None = None,
        *,
        verdicts: Callable[[], Mapping[int, PartitionVerdict]] = dict,
        note: Callable[[str], None] | None = None,
    ) -> None:
        self._watched = watched
        self._verdicts = verdicts
        self._probe = probe
        self._interval = interval
        self._guard = guard or LoopGuard(interval)
        self._guard.note = note
        self._seen: dict[str, deque[Observation]] = {}
        self._kafka_away_at = float("-inf")  # monotonic seconds of the last check that Kafka did not answer
        self._log = get_logger("projector")
        self.verdict: Verdict = Healthy()

    async def liveness(self) -> DependencyState:
        """Returns the latest verdict, for /health/live."""
        if isinstance(self.verdict, Stuck):
            return DependencyState(ok=False, detail=self.verdict.reason)
        return DependencyState(ok=True)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watches while the body runs. Ends the body with StuckError, in a group, when the projector is stuck."""
        with self._guard.guarding():
            try:
                async with asyncio.TaskGroup() as tasks:
                    watch = tasks.create_task(self._watch(), name="watchdog")
                    yield
                    watch.cancel()
            finally:
                await self._probe.close()

    async def _watch(self) -> None:
        while True:
            await self._sleep(self._interval)
            self.verdict = await self._check()
            if isinstance(self.verdict, Healthy):
                continue
            self._log.error("projector_seems_stuck", reason=self.verdict.reason)
            await self._sleep(min(self._interval, GRACE))
            self.verdict = await self._check()
            if isinstance(self.verdict, Stuck):
                self._log.critical("projector_stuck", reason=self.verdict.reason)
                self._guard.end_within(END_TIMEOUT, f"the process could not end in order: {self.verdict.reason}")
                await asyncio.to_thread(self._guard.note_end, self.verdict.reason)
                raise StuckError(self.verdict.reason)
            self._log.info("projector_moves_again")

    async def _sleep(self, seconds: float) -> None:
        began = time.monotonic()
        await asyncio.sleep(seconds)
        if time.monotonic() - began > seconds + FROZEN_INTERVALS * self._interval:
            self._seen.clear()  # the whole process was paused, so nothing else made progress either

    async def _check(self) -> Verdict:
        reasons: list[str] = []
        watched = {each.generation: each for each in self._watched()}
        self._seen = {generation: self._seen.get(generation, deque()) for generation in watched}
        for generation, each in watched.items():
            seen = self._seen[generation]
            now = await self._observe(each, [found for found in seen if not found.outage])
            while len(seen) > 1 and now.at - seen[1].at >= max(self._interval, LEAST_SPAN):
                seen.popleft()
            span = seen and now.at - seen[0].at >= max(self._interval, LEAST_SPAN)
            # Some conditions show in a single observation, so even the first one is judged.
            verdict = judge(seen[0] if span else Observation(now.at), now)
            reasons += [f"{generation}: {verdict.reason}"] if isinstance(verdict, Stuck) else []
            seen.append(now)
        return Stuck("; ".join(reasons)) if reasons else Healthy()

    async def _observe(self, watched: WatchedOwner, seen: Sequence[Observation]) -> Observation:
        at = time.monotonic()
        loops = {loop.name: loop for loop in watched.heartbeats.loops()}
        positions = dict(watched.held)
        unclaimed = watched.assigned - positions.keys() - watched.stopped.keys()
        joining_for = min(watched.membership.joining_for(at), at - self._kafka_away_at)
        excused = frozenset(partition for partition, found in self._verdicts().items() if not found.restart_helps)
        try:
            async with asyncio.timeout(PROBE_PATIENCE):
                held = await self._compare(watched.topic, positions, seen)
        except Exception as error:  # noqa: BLE001 - a failed probe says nothing about the projector
            self._log.info("log_end_unknown", error=type(error).__name__)
            await self._probe.close()
            self._kafka_away_at = at
            return Observation(at, loops, unclaimed=unclaimed, outage=True)
        refused = watched.membership.refusal is not None
        return Observation(at, loops, held, unclaimed, joining_for, refused, excused)

    async def _compare(
        self, topic: str, positions: Mapping[int, OwnedPosition], seen: Sequence[Observation]
    ) -> dict[int, HeldPartition]:
        ends = await self._probe.ends(TopicPartition(topic, partition) for partition in positions)
        held = {
            tp: HeldPartition(positions[tp.partition].epoch, positions[tp.partition].next_offset, end, waits=True)
            for tp, end in ends.items()
        }
        # For each partition that has not moved since an earlier observation: the least end that its log had then.
        since: dict[TopicPartition, int] = {}
        for tp, found in held.items():
            looks = [before.held.get(tp.partition) for before in seen]
            ends_then = [before.end for before in looks if before is not None and found.has_not_moved(before)]
            if ends_then:
                since[tp] = min(ends_then)
        standing = {tp: held[tp].position for tp in since}
        waiting = await self._with_unread_records(standing, since)
        return {
            tp.partition: msgspec.structs.replace(found, waits=tp not in standing or tp in waiting)
            for tp, found in held.items()
        }

    async def _with_unread_records(
        self, standing: Mapping[TopicPartition, int], since: Mapping[TopicPartition, int]
    ) -> Iterable[TopicPartition]:
        """Returns the partitions with an unread record that already existed at the earlier observation.

        `since` has the end of the log then. The offsets below it may hold only transaction markers, which are never
        delivered. A record at or after it is too new to be late.
        """
        try:
            found = await self._probe.first_records(standing, PROBE_PATIENCE)
            return {tp for tp, record in found.items() if record.offset < since[tp]}
        except OffsetOutOfRangeError:  # the projector must notice this too, and stop the partition with a reason
            return standing
