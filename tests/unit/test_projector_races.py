"""Rebalances, claims and batches that cross each other's paths: each order of events that once could go wrong.

Kafka and PostgreSQL are played by hand here, because a test must choose the moment at which each of them answers.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import AsyncMock

import asyncpg
import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError, OffsetOutOfRangeError
from pydantic import SecretStr

from contracts.versions import encode_event
from operations.rebuild import lifecycle
from projector.consuming import fetch as fetch_module
from projector.consuming import ownership as ownership_module
from projector.consuming import run as run_module
from projector.consuming.batch import OwnedPosition, split_by_bytes
from projector.consuming.fetch import Fetcher
from projector.consuming.ownership import Ownership
from projector.consuming.run import MembershipLostError, Projector
from projector.liveness import stop_retries
from projector.liveness.stops import Stop, StopCause
from projector.settings import ProjectorSettings
from projector.writing import apply as apply_module
from projector.writing.checkpoints import StoredCheckpoint
from projector.writing.claims import Claimed
from projector.writing.commit import Batch, Committed, Fenced
from read_model.generations.register import Generation
from tests.drivers.records import Record
from tests.patience import PATIENCE
from tests.producing import an_event

TOPIC = "t"


class HandPlayedConsumer:
    """Knows what is assigned and where each partition was sought to; fetches what the test puts into `fetched`."""

    def __init__(self) -> None:
        self.assigned: set[int] = set()
        self.sought: list[tuple[int, int]] = []
        self.fetched: Any = {}
        self.subscribed = 0

    def subscribe(self, topics: list[str], listener: object) -> None:
        assert topics == [TOPIC]
        assert listener
        self.subscribed += 1

    def partitions_for_topic(self, topic: str) -> set[int]:
        assert topic == TOPIC
        return self.assigned

    def seek(self, tp: TopicPartition, offset: int) -> None:
        if tp.partition not in self.assigned:
            raise IllegalStateError
        self.sought.append((tp.partition, offset))

    async def getmany(self, *_: TopicPartition, **__: int) -> Any:
        if isinstance(self.fetched, BaseException):
            raise self.fetched
        if isinstance(self.fetched, asyncio.Event):
            await self.fetched.wait()
        return self.fetched


class HandPlayedClaims:
    """The checkpoint table. A claim waits while `open` is not set; `failing` holds what it raises first."""

    def __init__(self) -> None:
        self.generation, self.topic, self.owner = "read_g1", TOPIC, "me"
        self.next_offset: dict[int, int] = {}
        self.epoch: dict[int, int] = {}
        self.owners: dict[int, str] = {}
        self.stops: dict[int, Stop] = {}
        self.missing: set[int] = set()
        self.gone_on: list[int] = []
        self.claims: list[list[int]] = []
        self.claimed = asyncio.Event()
        self.failing: list[Exception] = []
        self.open = asyncio.Event()
        self.open.set()

    @asynccontextmanager
    async def acquire(self, timeout: float) -> AsyncIterator[None]:
        assert timeout
        yield None

    async def expire_connections(self) -> None:
        pass

    async def stop(self, _positions: Sequence[OwnedPosition], _reason: str) -> None:
        pass

    async def resume(self, positions: Sequence[OwnedPosition]) -> None:
        self.gone_on += [position.partition for position in positions]

    async def stored(self, partitions: Iterable[int]) -> dict[int, StoredCheckpoint]:
        there = set(partitions) - self.missing
        return {p: StoredCheckpoint(self.next_offset.get(p, 0), self.epoch[p], self.owners[p]) for p in there}

    async def claim(self, wanted: list[int], _retrying: Set[int]) -> Claimed:
        self.claims.append(list(wanted))
        self.claimed.set()
        if self.failing:
            raise self.failing.pop(0)
        positions = []
        for partition in wanted:
            self.epoch[partition] = self.epoch.get(partition, 0) + 1
            self.owners[partition] = "me"
            positions.append(
                OwnedPosition(self.topic, partition, self.next_offset.get(partition, 0), self.epoch[partition])
            )
        await self.open.wait()
        stops = {position: self.stops[position.partition] for position in positions if position.partition in self.stops}
        return Claimed([position for position in positions if position not in stops], {}, stops)


async def everything_fails(*_: object) -> Exception:
    return KeyError("whatever is tried")


class Scene:
    """A projector whose Kafka and PostgreSQL the test plays."""

    generation = "read_g1"

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lanes: int = 2) -> None:
        self.consumer: Any = HandPlayedConsumer()
        self.table = HandPlayedClaims()
        writer: Any = self
        claims: Any = self.table
        self.ownership = Ownership(self.consumer, claims)
        settings = ProjectorSettings(
            database_url=SecretStr("postgresql://nowhere/none"),
            kafka_topic=TOPIC,
            projector_lanes=lanes,
            batch_max_bytes=1_024,
        )
        self.projector = Projector(self.consumer, self.table, self.ownership, writer, settings)
        self.fetcher = Fetcher(self.consumer, self.ownership, settings.batch_max_wait_ms)
        self.stop = asyncio.Event()
        self.committed: list[Batch] = []
        self.outcomes: list[Committed | Fenced | Exception] = []
        monkeypatch.setattr(apply_module, "known_good_fails", everything_fails)
        monkeypatch.setattr(ownership_module, "RECLAIM_DELAY", 0)
        monkeypatch.setattr(ownership_module, "REVERIFY_DELAY", 0)

    async def commit(self, _connection: None, batch: Batch) -> Committed | Fenced:
        outcome = self.outcomes.pop(0) if self.outcomes else Committed(len(batch.rows), 0)
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, Committed):
            self.committed.append(batch)
        return outcome

    async def revoke(self) -> None:
        await self.ownership.on_partitions_revoked([TopicPartition(TOPIC, p) for p in self.consumer.assigned])
        self.consumer.assigned = set()

    async def assign(self, *partitions: int) -> None:
        self.consumer.assigned = set(partitions)
        await self.ownership.on_partitions_assigned([TopicPartition(TOPIC, p) for p in partitions])

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        claiming = asyncio.create_task(self.ownership.claim_assigned())
        try:
            yield
        finally:
            assert not claiming.done()
            claiming.cancel()

    async def until_held(self, *partitions: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while set(self.ownership.held) != set(partitions):
                await self.ownership.changed.wait()

    async def until_claims(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(self.table.claims) < count:
                self.table.claimed.clear()
                await self.table.claimed.wait()

    async def apply(self, lane: int, fetched: Mapping[TopicPartition, Sequence[Any]]) -> None:
        """What a lane does with a fetch."""
        for part in split_by_bytes(self.projector._records_to_apply(lane, fetched), 1_024):
            await self.projector._applier.apply(part, self.stop)

    def offsets(self) -> dict[int, int]:
        return {p: position.next_offset for p, position in self.ownership.held.items()}

    def committed_offsets(self) -> list[tuple[int, int]]:
        return [(row.partition, row.offset) for batch in self.committed for row in batch.rows]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def some(partition: int, *offsets: int, size: int = 10) -> dict[TopicPartition, list[Record]]:
    found = [Record(partition, n, encode_event(an_event(payload={"x": "x" * size}))) for n in offsets]
    return {TopicPartition(TOPIC, partition): found}


async def everything_else() -> None:
    """Lets every other task run until it waits for something that the test plays."""
    for _ in range(50):
        await asyncio.sleep(0)


# --- claims ----------------------------------------------------------------------------------------------------------


async def test_a_revocation_waits_for_the_claim_under_way(scene: Scene) -> None:
    """Otherwise the late claim would fence whoever claims next."""
    scene.table.open.clear()
    async with scene.keeping():
        await scene.assign(0)
        await scene.until_claims(1)
        revocation = asyncio.create_task(scene.revoke())
        await everything_else()
        assert not revocation.done()
        scene.table.open.set()
        await revocation
    assert scene.ownership.held == {}


async def test_a_claim_that_outlives_its_assignment_is_dropped_and_made_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two assignments, though they are of the same partitions, another owner may have had its turn."""
    monkeypatch.setattr(ownership_module, "SETTLE_TIMEOUT", 0.01)
    scene.table.open.clear()
    async with scene.keeping():
        await scene.assign(0, 1)
        await scene.until_claims(1)
        await scene.revoke()
        scene.table.epoch[0] = 9  # the other owner's turn
        scene.table.next_offset[0] = 400
        await scene.assign(0, 1)
        scene.table.open.set()
        await scene.until_held(0, 1)
    assert scene.table.claims == [[0, 1], [0, 1]]
    assert scene.ownership.held[0] == OwnedPosition(TOPIC, 0, 400, 10)
    assert scene.consumer.sought == [(0, 400), (1, 0)]


async def test_a_claim_tried_again_asks_for_what_is_assigned_by_then(scene: Scene) -> None:
    scene.table.failing = [ConnectionRefusedError()]
    async with scene.keeping():
        await scene.assign(0, 1, 2)
        await scene.until_claims(1)
        await scene.revoke()
        await scene.assign(2)
        await scene.until_held(2)
    assert scene.table.claims[1:] == [[2]]
    assert scene.table.epoch == {2: 1}


async def test_the_same_assignment_again_is_claimed_again(scene: Scene) -> None:
    async with scene.keeping():
        await scene.assign(0)
        await scene.until_held(0)
        await scene.revoke()
        await scene.assign(0)
        await scene.until_held(0)
    assert scene.ownership.held[0].epoch == 2


async def test_a_defect_of_a_claim_ends_the_keeper_loudly(scene: Scene) -> None:
    """The task group around it ends the process; silence would leave partitions unprojected for ever."""
    scene.table.failing = [KeyError("surprise")]
    claiming = asyncio.create_task(scene.ownership.claim_assigned())
    await scene.assign(0)
    with pytest.raises(KeyError):
        await claiming


# --- a batch that outlives the hold it was fetched under -------------------------------------------------------------


async def test_a_fence_takes_nothing_from_a_newer_hold(scene: Scene) -> None:
    async with scene.keeping():
        await scene.assign(0, 1)
        await scene.until_held(0, 1)
        old = dict(scene.ownership.held)
        await scene.revoke()
        await scene.assign(0, 1)
        await scene.until_held(0, 1)
        scene.ownership.fenced(old.values())
        scene.ownership.stop(old.values(), Stop(StopCause.DEFECT, "of an old batch"))
        scene.ownership.advance([OwnedPosition(TOPIC, 0, 77, old[0].epoch)])
        assert scene.offsets() == {0: 0, 1: 0}
        assert scene.ownership.stopped == {}


async def test_a_lost_partition_is_claimed_again_while_it_is_assigned(scene: Scene) -> None:
    async with scene.keeping():
        await scene.assign(0, 1)
        await scene.until_held(0, 1)
        scene.table.next_offset[0] = 30
        scene.ownership.fenced([scene.ownership.held[0]])
        assert set(scene.ownership.held) == {1}
        await scene.until_held(0, 1)
        assert scene.offsets() == {0: 30, 1: 0}


async def test_a_partition_lost_and_then_revoked_is_left_alone(scene: Scene) -> None:
    async with scene.keeping():
        await scene.assign(0)
        await scene.until_held(0)
        scene.ownership.fenced([scene.ownership.held[0]])
        await scene.revoke()
        await scene.assign(1)
        await scene.until_held(1)
        await everything_else()
    assert scene.table.claims == [[0], [1]]


async def test_records_of_an_earlier_assignment_fall_away(scene: Scene) -> None:
    async with scene.keeping():
        await scene.assign(0)
        await scene.until_held(0)
        scene.table.next_offset[0] = 20
        await scene.revoke()
        await scene.apply(0, some(0, 0, 1, 2))
        await scene.assign(0)
        await scene.until_held(0)
        await scene.apply(0, some(0, 18, 19, 20, 21))
    assert scene.committed_offsets() == [(0, 20), (0, 21)]


@pytest.mark.parametrize("outcome", [Fenced(), asyncpg.PostgresSyntaxError("no such SQL")])
async def test_after_a_part_that_was_not_committed_its_later_parts_fall_away(
    scene: Scene, outcome: Fenced | Exception
) -> None:
    async with scene.keeping():
        await scene.assign(0, 2)
        await scene.until_held(0, 2)
        scene.outcomes = [outcome]
        fetched = {**some(0, 0, 1, 2, 3, size=700), **some(1, 0)}
        await scene.apply(0, fetched)
    assert scene.committed == []


async def test_a_batch_given_up_at_the_stop_leaves_no_gap_for_its_later_parts(scene: Scene) -> None:
    """The database comes back just as we stop: what follows the part that was given up must not be stored."""
    async with scene.keeping():
        await scene.assign(0)
        await scene.until_held(0)
        scene.outcomes = [ConnectionResetError()]
        scene.stop.set()
        await scene.apply(0, some(0, 0, 1, 2, 3, size=700))
    assert scene.committed == []


async def test_whatever_a_record_does_to_us_its_partition_stops_and_the_lane_lives(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def assemble(*_: object) -> None:
        raise RecursionError("deeper than anyone thought")

    monkeypatch.setattr(apply_module, "assemble", assemble)
    async with scene.keeping():
        await scene.assign(0, 1)
        await scene.until_held(0, 1)
        await scene.apply(0, some(0, 0))
    assert {p: stopped.stop for p, stopped in scene.ownership.stopped.items()} == {
        0: Stop(StopCause.DEFECT, "RecursionError")
    }
    assert set(scene.ownership.held) == {1}


# --- holes -----------------------------------------------------------------------------------------------------------


async def test_a_hole_is_believed_at_the_second_look_and_only_as_it_was(scene: Scene) -> None:
    async with scene.keeping():
        await scene.assign(0)
        await scene.until_held(0)
        await scene.apply(0, some(0, 7, 8))  # left over from an older fetch
        await scene.apply(0, some(0, 5, 6))  # another hole
        await scene.apply(0, some(0, 5, 6))  # the same again
    assert scene.consumer.sought == [(0, 0), (0, 0), (0, 0)]  # the claim's, and one for each look
    assert scene.committed_offsets() == [(0, 5), (0, 6)]


async def test_a_hole_does_not_excuse_the_later_parts_of_the_same_fetch(scene: Scene) -> None:
    async with scene.keeping():
        await scene.assign(0)
        await scene.until_held(0)
        await scene.apply(0, some(0, 3, 4, 5, 6, size=700))
        assert scene.committed == []
        await scene.apply(0, some(0, 3, 4, 5, 6, size=700))
    assert scene.committed_offsets() == [(0, 3), (0, 4), (0, 5), (0, 6)]
    assert len(scene.committed) == 4


# --- lanes -----------------------------------------------------------------------------------------------------------


async def test_a_partition_that_stops_moves_no_other_to_another_lane(scene: Scene) -> None:
    async with scene.keeping():
        await scene.assign(0, 1, 2, 3)
        await scene.until_held(0, 1, 2, 3)
        before = [scene.projector._share_of(lane) for lane in (0, 1)]
        scene.ownership.stop([scene.ownership.held[0]], Stop(StopCause.DEFECT))
        after = [scene.projector._share_of(lane) for lane in (0, 1)]
    assert [tp.partition for tp in before[0]] == [0, 2]
    assert [tp.partition for tp in after[0]] == [2]
    assert before[1] == after[1]


async def test_every_lane_has_work_whatever_the_group_assigned(scene: Scene) -> None:
    async with scene.keeping():
        await scene.assign(0, 2, 4)
        await scene.until_held(0, 2, 4)
        assert [len(scene.projector._share_of(lane)) for lane in (0, 1)] == [2, 1]


async def test_a_lane_gives_back_what_went_to_another_while_it_fetched(scene: Scene) -> None:
    async with scene.keeping():
        await scene.assign(1, 2)
        await scene.until_held(1, 2)
        await scene.revoke()
        await scene.assign(0, 1, 2)
        await scene.until_held(0, 1, 2)
        scene.consumer.sought.clear()
        await scene.apply(0, some(1, 0, 1))  # lane 0's fetch began when partition 1 was its own
        assert scene.committed == []
        assert scene.consumer.sought == [(1, 0)]
        await scene.apply(1, some(1, 0, 1))
        assert scene.committed_offsets() == [(1, 0), (1, 1)]


async def test_no_lane_misses_a_change_of_ownership(scene: Scene) -> None:
    """Lane 0 begins to wait, partition 0 is claimed, lane 1 begins to wait: all before lane 0's wait takes hold."""

    async def claimed() -> None:
        scene.ownership._set_held({0: OwnedPosition(TOPIC, 0, 0, 1)})

    waiting = asyncio.create_task(scene.projector._until_ownership_changes(scene.stop))
    claim = asyncio.create_task(claimed())
    idle = asyncio.create_task(scene.projector._until_ownership_changes(scene.stop))
    async with asyncio.timeout(PATIENCE):
        await waiting
    await claim
    scene.stop.set()
    await idle


async def test_a_fetch_that_a_rebalance_holds_up_comes_back_for_the_stop(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "FETCH_TIMEOUT", 0.01)
    scene.consumer.fetched = asyncio.Event()
    async with asyncio.timeout(PATIENCE):
        assert await scene.fetcher.fetch([TopicPartition(TOPIC, 0)], 100) == {}


# --- membership ------------------------------------------------------------------------------------------------------


async def test_an_error_of_the_group_is_taken_though_no_partition_is_held(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka stands still until somebody takes it; and when joining anew does not help, a new consumer must."""
    monkeypatch.setattr(run_module, "MEMBERSHIP_CHECK_INTERVAL", 0)
    async with scene.keeping():
        await scene.assign(0)
        await scene.until_held(0)
        member = asyncio.create_task(scene.projector._keep_membership())
        await everything_else()
        assert scene.consumer.subscribed == 0
        scene.consumer.fetched = KafkaError("the group is loading")
        await everything_else()
        assert scene.consumer.subscribed > 1
        assert scene.ownership.held == {}
        monkeypatch.setattr(run_module, "MEMBERSHIP_TIMEOUT", 0)
        with pytest.raises(MembershipLostError):
            await member


async def test_an_end_that_takes_long_is_not_taken_for_a_lost_loop(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silent connection may hold up one background task for seconds after the others have ended."""
    cancelled, released = asyncio.Event(), asyncio.Event()

    async def slow_to_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
            await released.wait()

    async def idle() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(scene.projector, "_publish_dead_letters", slow_to_end)
    monkeypatch.setattr(scene.projector._notifier, "run", idle)
    monkeypatch.setattr(run_module, "commit_to_group", AsyncMock())
    running = asyncio.create_task(scene.projector.run(scene.stop))
    await everything_else()
    await scene.assign(0)
    await scene.until_held(0)
    scene.stop.set()
    async with asyncio.timeout(PATIENCE):
        await cancelled.wait()
    await everything_else()
    assert not running.done()
    assert scene.ownership.heartbeats.loops() == []
    released.set()
    await running


# --- out of range ----------------------------------------------------------------------------------------------------


async def test_only_the_checkpoint_itself_out_of_range_stops_a_partition(scene: Scene) -> None:
    async with scene.keeping():
        await scene.assign(0, 1)
        await scene.until_held(0, 1)
        mine = [TopicPartition(TOPIC, 0)]
        scene.consumer.fetched = OffsetOutOfRangeError({mine[0]: 10**9})  # from what Kafka's group believed
        assert await scene.fetcher.fetch(mine, 100) == {}
        assert scene.consumer.sought[-1] == (0, 0)
        assert scene.ownership.stopped == {}
        scene.table.stops[0] = Stop(StopCause.HISTORY_TRIMMED)
        scene.consumer.fetched = OffsetOutOfRangeError({mine[0]: 0})
        assert await scene.fetcher.fetch(mine, 100) == {}
        await scene.until_held(1)
        await scene.until_claims(2)
        await everything_else()
        assert scene.ownership.stopped[0].stop.cause is StopCause.HISTORY_TRIMMED
        await scene.revoke()
        scene.consumer.fetched = OffsetOutOfRangeError({mine[0]: 0})
        assert await scene.fetcher.fetch(mine, 100) == {}


@pytest.mark.parametrize("what", ["behind", "older epoch", "gone", "another owner", "an operator's redrive"])
async def test_a_checkpoint_that_is_not_as_we_left_it_is_claimed_anew(scene: Scene, what: str) -> None:
    async with scene.keeping():
        await scene.assign(0, 1)
        await scene.until_held(0, 1)
        scene.ownership.advance([msgspec.structs.replace(scene.ownership.held[0], next_offset=40)])
        scene.table.next_offset[0] = 40
        await scene.ownership.compare_with_stored()
        assert scene.offsets() == {0: 40, 1: 0}  # as it is
        match what:
            case "behind":
                scene.table.next_offset[0] = 30
            case "older epoch":
                scene.table.epoch[0] = 0
            case "gone":
                scene.table.missing.add(0)
            case "another owner":
                scene.table.owners[0] = "another"
            case _:
                scene.table.epoch[0] += 1
        await scene.ownership.compare_with_stored()
        assert scene.offsets() == {1: 0}
        scene.table.missing.clear()
        await scene.until_held(0, 1)
        assert scene.table.claims == [[0, 1], [0]]


async def test_a_commit_whose_answer_is_on_its_way_is_no_reason_to_claim_anew(scene: Scene) -> None:
    async with scene.keeping():
        await scene.assign(0)
        await scene.until_held(0)
        scene.table.next_offset[0] = 7
        await scene.ownership.compare_with_stored()
        assert scene.offsets() == {0: 0}


async def test_a_stopped_partition_gets_another_try_with_the_next_assignment(scene: Scene) -> None:
    async with scene.keeping():
        await scene.assign(0)
        await scene.until_held(0)
        scene.ownership.stop([scene.ownership.held[0]], Stop(StopCause.DEFECT))
        scene.ownership.fenced([])  # wakes the claim loop, which leaves it stopped
        await everything_else()
        assert scene.table.claims == [[0]]
        await scene.revoke()
        await scene.assign(0)
        await scene.until_held(0)
        assert scene.ownership.stopped == {}


async def test_a_partition_on_trial_counts_as_stopped_until_it_moves(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop_retries, "FIRST_PAUSE", 0)
    async with scene.keeping():
        await scene.assign(0)
        await scene.until_held(0)
        scene.ownership.stop([scene.ownership.held[0]], Stop(StopCause.DEFECT))
        scene.ownership.retry_stopped()
        await scene.until_held(0)
        assert set(scene.ownership.stopped) == {0}
        assert scene.table.gone_on == []
        await scene.apply(0, some(0, 0))
        assert scene.ownership.stopped == {}
        assert scene.offsets() == {0: 1}
        await everything_else()
    assert scene.table.gone_on == [0]


async def test_what_waits_for_an_operator_is_not_probed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_retries, "FIRST_PAUSE", 0)
    async with scene.keeping():
        await scene.assign(0)
        await scene.until_held(0)
        scene.ownership.stop([scene.ownership.held[0]], Stop(StopCause.PARKED_OF_KEY))
        scene.ownership.retry_stopped()
        await everything_else()
        assert scene.ownership.held == {}


async def test_a_rebuild_that_starts_under_load_reads_checkpoints_before_ends() -> None:
    class Log:
        """Grows with each look at it, and the projector is always up to date."""

        topic, end = "events", 6_074

        async def fetch(self, *_: object) -> Sequence[Mapping[str, int]]:
            self.end += 1
            return [{"partition": 0, "next_offset": self.end}]

        async def ends(self) -> Mapping[int, int]:
            self.end += 1
            return {0: self.end}

    log: Any = Log()
    log.connection = log
    assert await lifecycle._ends_of_log(log, Generation("read_g1", "active"), other_history=False) == {0: 6_076}
