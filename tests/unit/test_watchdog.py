"""What is stuck and what only waits: a table of two looks at a projector."""

import asyncio
import queue
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from projector.consuming.fetch import FETCH_TIMEOUT
from projector.consuming.loop_guard import EXIT_STUCK, SILENT_TICKS, LoopGuard
from projector.consuming.ownership import RECLAIM_DELAY
from projector.liveness.heartbeat import Heartbeats, Loop
from projector.liveness.watchdog import (
    ATTEMPT_PATIENCE,
    JOIN_PATIENCE,
    LEAST_SPAN,
    Healthy,
    HeldPartition,
    Observation,
    Stuck,
    judge,
)
from tests.patience import PATIENCE

REPOSITORY = Path(__file__).resolve().parents[2]
LANE = Loop("lane 0", 7, frozenset({0, 1}))
TURNED = msgspec.structs.replace(LANE, turns=8)
TRYING = msgspec.structs.replace(LANE, trying_for=30.0)
IDLE_LANE = Loop("lane 0", 7)
CLAIM_LOOP = Loop("claim loop", 3)


def seen(*loops: Loop, **fields: object) -> Observation:
    known = {loop.name: loop for loop in loops}
    return Observation(**{"at": 0.0, "loops": known, **fields})  # type: ignore[arg-type]  # a table's shorthand


def at(position: int, end: int, *, waits: bool = True, epoch: int = 1) -> dict[int, HeldPartition]:
    return {1: HeldPartition(epoch, position, end, waits)}


STUCK = {
    "records wait, and the position stands": (
        seen(LANE, held=at(5, 9)),
        seen(TURNED, held=at(5, 9)),
        "partition 1 is stuck at 5, and the log ends at 9",
    ),
    "though more records come": (seen(LANE, held=at(5, 6)), seen(TURNED, held=at(5, 90)), "partition 1 is stuck at 5"),
    "a lane with work makes no progress": (seen(LANE), seen(LANE), "lane 0 makes no progress"),
    "even while Kafka is away": (seen(LANE, outage=True), seen(LANE, outage=True), "lane 0 makes no progress"),
    "a lane has ended": (seen(LANE), seen(msgspec.structs.replace(TURNED, ended=True)), "lane 0 has ended"),
    "the claim loop has ended": (
        seen(CLAIM_LOOP),
        seen(msgspec.structs.replace(CLAIM_LOOP, ended=True)),
        "claim loop has ended",
    ),
    "one try that never ends": (
        seen(TRYING),
        seen(msgspec.structs.replace(LANE, trying_for=ATTEMPT_PATIENCE + 1)),
        "lane 0 makes no progress",
    ),
    "assigned and not claimed": (
        seen(CLAIM_LOOP, unclaimed=frozenset({2, 3})),
        seen(CLAIM_LOOP, unclaimed=frozenset({3, 4})),
        "partitions 3 are assigned, but not claimed",
    ),
    "no assignment from a group that answers": (
        seen(IDLE_LANE),
        seen(IDLE_LANE, joining_for=JOIN_PATIENCE + 1),
        "the consumer group has assigned no partitions for 121 s",
    ),
}

HEALTHY = {
    "it has just started": (seen(), seen(LANE, held=at(5, 9))),
    "it moves": (seen(LANE, held=at(5, 9)), seen(TURNED, held=at(6, 9))),
    "an idle topic": (seen(LANE, held=at(9, 9)), seen(TURNED, held=at(9, 9))),
    "records have just come": (seen(LANE, held=at(9, 9)), seen(TURNED, held=at(9, 12))),
    "only markers of transactions are left": (seen(LANE, held=at(5, 9)), seen(TURNED, held=at(5, 9, waits=False))),
    "a lane without partitions rests": (seen(IDLE_LANE), seen(IDLE_LANE)),
    "PostgreSQL is tried again": (seen(TRYING, held=at(5, 9)), seen(TRYING, held=at(5, 9))),
    "it was until a moment ago": (seen(TRYING, held=at(5, 9)), seen(TURNED, held=at(5, 9))),
    "Kafka is away": (seen(LANE, held=at(5, 9)), seen(TURNED, outage=True)),
    "Kafka is back": (seen(LANE, outage=True), seen(TURNED, held=at(5, 9))),
    "held by an operator: no lane serves it": (seen(IDLE_LANE, held=at(5, 9)), seen(IDLE_LANE, held=at(5, 9))),
    "stopped with a reason: it is not held": (seen(LANE, held=at(5, 9)), seen(TURNED)),
    "an operator moved it: it was claimed anew": (seen(LANE, held=at(5, 9)), seen(TURNED, held=at(5, 9, epoch=2))),
    "it was held anew at the same place": (seen(LANE), seen(TURNED, held=at(5, 9))),
    "claiming waits for PostgreSQL": (
        seen(msgspec.structs.replace(CLAIM_LOOP, trying_for=0.5), unclaimed=frozenset({2})),
        seen(msgspec.structs.replace(CLAIM_LOOP, trying_for=0.5), unclaimed=frozenset({2})),
    ),
    "other partitions are to be claimed": (
        seen(CLAIM_LOOP, unclaimed=frozenset({2})),
        seen(CLAIM_LOOP, unclaimed=frozenset({3})),
    ),
    "a rebalance takes its time": (seen(IDLE_LANE), seen(IDLE_LANE, joining_for=JOIN_PATIENCE - 1)),
}


@pytest.mark.parametrize("name", STUCK)
def test_what_should_move_and_does_not_is_stuck(name: str) -> None:
    previous, now, reason = STUCK[name]
    verdict = judge(previous, now)
    assert isinstance(verdict, Stuck)
    assert reason in verdict.reason


@pytest.mark.parametrize("name", HEALTHY)
def test_what_moves_or_waits_for_a_reason_is_healthy(name: str) -> None:
    assert judge(*HEALTHY[name]) == Healthy()


def test_every_reason_is_given() -> None:
    verdict = judge(seen(LANE, held=at(5, 9)), seen(LANE, held=at(5, 9)))
    assert verdict == Stuck("lane 0 makes no progress; partition 1 is stuck at 5, and the log ends at 9")


async def test_heartbeats_know_the_loops_until_they_leave() -> None:
    heartbeats, resume = Heartbeats(), asyncio.Event()

    async def lane() -> None:
        heartbeats.begin_turn({2})
        await resume.wait()
        heartbeats.begin_turn({2, 3})
        heartbeats.attempt()
        await asyncio.Event().wait()

    async def leaver() -> None:
        heartbeats.begin_turn({4})
        heartbeats.end()

    task = asyncio.create_task(lane(), name="lane 0")
    await asyncio.create_task(leaver())
    assert heartbeats.loops() == [Loop("lane 0", 1, frozenset({2}))]
    resume.set()
    await asyncio.sleep(0)
    (loop,) = heartbeats.loops()
    assert (loop.turns, loop.serves) == (2, frozenset({2, 3}))
    assert loop.trying_for is not None
    assert loop.trying_for < PATIENCE
    task.cancel()
    await asyncio.wait([task])
    assert heartbeats.loops()[0].ended
    heartbeats.end(task)
    assert heartbeats.loops() == []


def test_an_attempt_outside_of_a_loop_is_nobodys() -> None:
    async def attempt() -> None:
        heartbeats = Heartbeats()
        heartbeats.attempt()
        assert heartbeats.loops() == []

    asyncio.run(attempt())


class Ticks(threading.Event):
    """The guard's clock, which ticks when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self._due, self._awaited = threading.Semaphore(0), threading.Semaphore(0)

    def wait(self, timeout: float | None = None) -> bool:
        self._awaited.release()
        assert self._due.acquire(timeout=PATIENCE)
        return self.is_set()

    def tick(self) -> None:
        """One tick, once the guard has done with the last."""
        assert self._awaited.acquire(timeout=PATIENCE)
        self._due.release()

    def resume(self, count: int) -> None:
        """So many ticks, one after the other."""
        self._due.release(count)

    def set(self) -> None:
        super().set()
        self._due.release()


async def test_a_loop_that_is_blocked_ends_the_process_and_one_that_turns_does_not() -> None:
    ended: queue.Queue[int] = queue.Queue()
    guard = LoopGuard(0.01, ended.put)
    guard._over = ticks = Ticks()
    with guard.guarding():
        for _ in range(3 * SILENT_TICKS):
            beats = guard._beats
            async with asyncio.timeout(PATIENCE):
                while guard._beats == beats:  # noqa: ASYNC110 - its own timer is what is looked at
                    await asyncio.sleep(0.001)
            ticks.tick()
        assert ended.empty()
        ticks.resume(SILENT_TICKS + 2)  # the loop is blocked meanwhile
        assert ended.get(timeout=PATIENCE) == EXIT_STUCK


def test_a_blocked_process_says_where_and_exits_70() -> None:
    program = """
import asyncio, threading
from projector.consuming.loop_guard import LoopGuard

async def deadlock():
    lock = threading.Lock()
    with LoopGuard(0.2).guarding():
        await asyncio.sleep(0.1)
        lock.acquire()
        lock.acquire()

asyncio.run(deadlock())
"""
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert run.returncode == EXIT_STUCK
    said = msgspec.json.decode(run.stderr)
    assert said["reason"] == "the event loop is blocked"
    assert any("in deadlock" in line for line in said["where"])


def test_a_farewell_that_takes_too_long_is_cut_short() -> None:
    ended: queue.Queue[int] = queue.Queue()
    LoopGuard(1, ended.put).end_within(0.1, "it hangs")
    assert ended.get(timeout=PATIENCE) == EXIT_STUCK


def test_what_is_compared_is_further_apart_than_what_a_loop_may_take() -> None:
    assert max(FETCH_TIMEOUT, RECLAIM_DELAY) + 1 < LEAST_SPAN
