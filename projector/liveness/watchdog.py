"""Liveness that is true: not whether tasks exist, but whether what is there to be done gets done.

aiokafka's consumers have been seen to stand still without a word (issues 625, 847, 1154), and so has every program. So
the watchdog compares the log's end, asked over a connection of its own, with what moves. What it knows a reason for is
not stuck: PostgreSQL that is tried again, Kafka away, a partition that stopped with a reason or is held. A process
found stuck answers 503 on /health/live, and, unless it moves again meanwhile, ends for its supervisor to start it anew.
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

from projector.consuming.batch import Position
from projector.consuming.log_probe import LogProbe
from projector.consuming.loop_guard import LoopGuard
from projector.liveness.heartbeat import Heartbeats, Loop, Membership
from projector.liveness.verdicts import Verdict as PartitionVerdict
from telemetry.health import DependencyState
from telemetry.logs import get_logger

LEAST_SPAN = 5.0  # seconds between two observations that are compared; a fetch may take 2, claiming anew 3
ATTEMPT_PATIENCE = 75.0  # seconds of one try at PostgreSQL; it gives up by itself after 60 and a few
JOIN_PATIENCE = 120.0  # seconds without an assignment from a Kafka that answers; four times the usual session timeout
GRACE = 5.0  # seconds, at most, from "stuck" to the end of the process, for probes to see it
FAREWELL = 10.0  # seconds for a clean end; it may be stuck as well
PROBE_PATIENCE = 5.0  # seconds; a Kafka that takes longer is away
FROZEN = 2.0  # intervals; whoever slept so long was stopped from outside


class Held(msgspec.Struct, frozen=True):
    """A partition that is held. `waits`: there is a readable record at or beyond its position."""

    epoch: int
    position: int
    end: int
    waits: bool

    def stands(self, before: "Held | None") -> bool:
        """Whether it is where it was before, though there was more even then."""
        return (
            before is not None
            and (before.epoch, before.position) == (self.epoch, self.position)
            and before.end > self.position
        )


class Observation(msgspec.Struct, frozen=True):
    """A generation's projector at one moment. `at`: seconds of a monotonic clock."""

    at: float
    loops: dict[str, Loop] = msgspec.field(default_factory=dict)
    held: dict[int, Held] = msgspec.field(default_factory=dict)
    unclaimed: frozenset[int] = frozenset()  # assigned, and neither held nor stopped
    joining_for: float = 0.0  # seconds without an assignment by the group, while Kafka answers
    refused: bool = False  # Kafka said why there is none: a fresh process would hear the same
    excused: frozenset[int] = frozenset()  # partitions that stand for a reason which no fresh process heals
    outage: bool = False  # Kafka does not answer: of partitions nothing is known


class Healthy(msgspec.Struct, frozen=True):
    """It moves, has nothing to do, or is known to wait."""


class Stuck(msgspec.Struct, frozen=True):
    """It should move and does not."""

    reason: str


Verdict = Healthy | Stuck


def judge(previous: Observation, now: Observation) -> Verdict:
    """Whether a projector that looked like `previous` an interval ago and looks like `now` is stuck. Pure.

    What holds for a whole interval began at most two intervals ago.
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
        elif before is not None and loop.serves and loop.turns == before.turns and not _tries(loop):
            yield f"{name} does not turn"


def _partitions(previous: Observation, now: Observation) -> Iterable[str]:
    for partition, held in sorted(now.held.items()):
        stands = held.waits and partition not in now.excused and held.stands(previous.held.get(partition))
        if stands and _served(previous, partition) and _served(now, partition):
            yield f"partition {partition} stands at {held.position}, and the log ends at {held.end}"


def _group(previous: Observation, now: Observation) -> Iterable[str]:
    unclaimed = sorted(previous.unclaimed & now.unclaimed)
    if unclaimed and not any(_tries(loop) for seen in (previous, now) for loop in seen.loops.values()):
        yield f"partitions {', '.join(map(str, unclaimed))} are assigned, and nobody claims them"
    if now.joining_for > JOIN_PATIENCE and not now.refused:
        yield f"the group has assigned nothing for {now.joining_for:.0f} s"


def _tries(loop: Loop) -> bool:
    return loop.trying_for is not None and loop.trying_for < ATTEMPT_PATIENCE


def _served(seen: Observation, partition: int) -> bool:
    """Whether some loop has the partition among its work, and nothing that it waits for excuses it."""
    return any(partition in loop.serves and not _tries(loop) for loop in seen.loops.values())


class StuckError(Exception):
    """The projector stands still without a reason that it knows of; only a fresh process helps."""


class Watched(Protocol):
    """What the watchdog reads of the owner of a generation's partitions."""

    generation: str
    topic: str
    assigned: frozenset[int]
    held: dict[int, Position]
    membership: Membership
    heartbeats: Heartbeats

    @property
    def stopped(self) -> Mapping[int, object]:
        """The partitions that stand still with a reason."""
        ...


class Watchdog:
    """Watches all that `watched` names, every `interval` seconds. `verdict` is the latest."""

    def __init__(
        self,
        watched: Callable[[], Iterable[Watched]],
        probe: LogProbe,
        interval: float,
        guard: LoopGuard | None = None,
        *,
        verdicts: Callable[[], Mapping[int, PartitionVerdict]] = dict,
    ) -> None:
        self._watched = watched
        self._verdicts = verdicts
        self._probe = probe
        self._interval = interval
        self._guard = guard or LoopGuard(interval)
        self._seen: dict[str, deque[Observation]] = {}
        self._away_at = float("-inf")  # when Kafka last did not answer
        self._log = get_logger("projector")
        self.verdict: Verdict = Healthy()

    async def liveness(self) -> DependencyState:
        """The verdict, for /health/live."""
        if isinstance(self.verdict, Stuck):
            return DependencyState(ok=False, detail=self.verdict.reason)
        return DependencyState(ok=True)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watches while the body runs, and ends it with StuckError (in a group) when it is stuck."""
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
            self.verdict = await self._look()
            if isinstance(self.verdict, Healthy):
                continue
            self._log.error("projector_seems_stuck", reason=self.verdict.reason)
            await self._sleep(min(self._interval, GRACE))
            self.verdict = await self._look()
            if isinstance(self.verdict, Stuck):
                self._log.critical("projector_stuck", reason=self.verdict.reason)
                self._guard.end_within(FAREWELL, f"it could not even end: {self.verdict.reason}")
                raise StuckError(self.verdict.reason)
            self._log.info("projector_moves_again")

    async def _sleep(self, seconds: float) -> None:
        began = time.monotonic()
        await asyncio.sleep(seconds)
        if time.monotonic() - began > seconds + FROZEN * self._interval:
            self._seen.clear()  # nothing else of this process moved either

    async def _look(self) -> Verdict:
        reasons: list[str] = []
        watched = {each.generation: each for each in self._watched()}
        self._seen = {generation: self._seen.get(generation, deque()) for generation in watched}
        for generation, each in watched.items():
            seen = self._seen[generation]
            now = await self._observe(each, [found for found in seen if not found.outage])
            while len(seen) > 1 and now.at - seen[1].at >= max(self._interval, LEAST_SPAN):
                seen.popleft()
            span = seen and now.at - seen[0].at >= max(self._interval, LEAST_SPAN)
            verdict = judge(seen[0] if span else Observation(now.at), now)  # some things show at the first look
            reasons += [f"{generation}: {verdict.reason}"] if isinstance(verdict, Stuck) else []
            seen.append(now)
        return Stuck("; ".join(reasons)) if reasons else Healthy()

    async def _observe(self, watched: Watched, seen: Sequence[Observation]) -> Observation:
        at = time.monotonic()
        loops = {loop.name: loop for loop in watched.heartbeats.loops()}
        positions = dict(watched.held)
        unclaimed = watched.assigned - positions.keys() - watched.stopped.keys()
        joining_for = min(watched.membership.joining_for(at), at - self._away_at)
        excused = frozenset(partition for partition, found in self._verdicts().items() if not found.heals)
        try:
            async with asyncio.timeout(PROBE_PATIENCE):
                held = await self._compare(watched.topic, positions, seen)
        except Exception as error:  # noqa: BLE001 - what we cannot see says nothing of the projector
            self._log.info("log_end_unknown", error=type(error).__name__)
            await self._probe.close()
            self._away_at = at
            return Observation(at, loops, unclaimed=unclaimed, outage=True)
        refused = watched.membership.refusal is not None
        return Observation(at, loops, held, unclaimed, joining_for, refused, excused)

    async def _compare(
        self, topic: str, positions: Mapping[int, Position], seen: Sequence[Observation]
    ) -> dict[int, Held]:
        ends = await self._probe.ends(TopicPartition(topic, partition) for partition in positions)
        held = {
            tp: Held(positions[tp.partition].epoch, positions[tp.partition].next_offset, end, waits=True)
            for tp, end in ends.items()
        }
        # Where it stands since some look that may be judged: the least end that it had then.
        since: dict[TopicPartition, int] = {}
        for tp, found in held.items():
            looks = [before.held.get(tp.partition) for before in seen]
            ends_then = [before.end for before in looks if before is not None and found.stands(before)]
            if ends_then:
                since[tp] = min(ends_then)
        standing = {tp: held[tp].position for tp in since}
        waiting = await self._waiting(standing, since)
        return {
            tp.partition: msgspec.structs.replace(found, waits=tp not in standing or tp in waiting)
            for tp, found in held.items()
        }

    async def _waiting(
        self, standing: Mapping[TopicPartition, int], since: Mapping[TopicPartition, int]
    ) -> Iterable[TopicPartition]:
        """Where a record waits that was below the end `since` then: what is left may be the markers of transactions,
        which nobody ever reads, and a record that came a moment ago waits for nobody yet.
        """
        try:
            found = await self._probe.first_records(standing, PROBE_PATIENCE)
            return {tp for tp, record in found.items() if record.offset < since[tp]}
        except OffsetOutOfRangeError:  # the projector has to find that out as well, and to stop with a reason
            return standing
