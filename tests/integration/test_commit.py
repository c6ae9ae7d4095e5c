"""One batch, one transaction, against a real PostgreSQL: rows, checkpoints and fences on both paths."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import asyncpg
import msgspec
import pytest

from contracts.event import UserEvent
from contracts.versions import encode_event
from projector.consuming.batch import Assembled, OwnedPosition
from projector.consuming.batch import assemble as assemble_with
from projector.dead_letters.parking import Caps
from projector.writing import commit
from projector.writing.checkpoints import Checkpoints
from projector.writing.commit import COPY_FROM_ROWS, Committed, Fenced, GenerationWriter
from projector.writing.reader_notices import ReaderNotifier
from read_model.progress import CHANNEL
from read_model.wire_time import wire_time
from tests.patience import PATIENCE
from tests.producing import an_event
from tests.servers import Servers
from tests.shipped_types import SHIPPED

TOPIC = "t"
RECORDED_AT_MS = 1_767_225_600_123  # 2026-01-01T00:00:00.123Z
SMALL, LARGE = 5, COPY_FROM_ROWS + 5  # records: one statement, COPY

checkpoints = Checkpoints("read_g1", TOPIC)
writer = GenerationWriter("read_g1", SHIPPED)

both_paths = pytest.mark.parametrize("size", [pytest.param(SMALL, id="insert"), pytest.param(LARGE, id="copy")])


class Record(msgspec.Struct):
    """What the projector reads of a Kafka record."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


def assemble(fetched: dict[OwnedPosition, list[Record]]) -> Assembled:
    """As the projector does, with nothing parked before."""
    return assemble_with(fetched, {}, Caps())


class Database:
    """A fresh read model, and what the tests ask of it."""

    def __init__(self, servers: Servers) -> None:
        self.url = servers.projector_url
        self.owner_url = servers.admin_url

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self.url, server_settings={"timezone": "UTC"})
        try:
            yield connection
        finally:
            await connection.close()

    async def claimed(self, *partitions: int, owner: str = "me") -> dict[int, OwnedPosition]:
        async with self.connect() as connection:
            await checkpoints.create(connection, dict.fromkeys(partitions, 0))
            found = await checkpoints.claim(connection, partitions, owner)
            return {position.partition: position for position in found}

    async def commit(self, fetched: dict[OwnedPosition, list[Record]]) -> Committed | Fenced:
        async with self.connect() as connection:
            return await writer.commit(connection, assemble(fetched).batch)

    async def rows(self) -> list[asyncpg.Record]:
        async with self.connect() as connection:
            return list(
                await connection.fetch(
                    "SELECT *, payload::text AS payload_text FROM read_g1.processed_events "
                    "ORDER BY kafka_partition, kafka_offset"
                )
            )

    async def stats(self) -> dict[int, tuple[int, int, int, int]]:
        """next_offset, stored, duplicates, malformed of each partition."""
        async with self.connect() as connection:
            found = await connection.fetch("SELECT * FROM read_g1.checkpoints")
            return {
                row["partition"]: (row["next_offset"], row["stored"], row["duplicates"], row["malformed"])
                for row in found
            }


@pytest.fixture
def database(new_database: Callable[[], Servers]) -> Database:
    return Database(new_database())


def records(events: list[UserEvent | bytes], partition: int = 0, first: int = 0) -> list[Record]:
    return [
        Record(
            TOPIC,
            partition,
            first + n,
            RECORDED_AT_MS + n,
            None,
            event if isinstance(event, bytes) else encode_event(event),
        )
        for n, event in enumerate(events)
    ]


def events(count: int) -> list[UserEvent | bytes]:
    return [an_event(f"user-{n}", {"n": n}) for n in range(count)]


NASTY: list[dict[str, Any]] = [
    {},
    {"text": "naïve 東京 🦆 \u200d \ue000 \U0010ffff"},
    {"backslashes": "\\ \\\\ \\N \\. \\n \n \t \r \b \f \x1f \x7f", "quotes": "\"'`$$"},
    {"": "", 'key \\ \t"': None, "nested": {"list": [1, [2, [3, {}]], []], "true": True, "false": False}},
    {"big": 2**64 - 1, "small": -(2**63), "float": 0.1, "exponent": 1.5e-300, "edge": 2.0**53, "minus": -0.5},
    {"long": "x" * 16_000},
]
TIMES = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2000, 1, 1, tzinfo=UTC),
    datetime(2026, 2, 28, 12, 30, 45, 123_457, tzinfo=UTC),
    datetime(2026, 2, 28, 23, 30, 45, 123_457, tzinfo=timezone(timedelta(hours=-9, minutes=-30))),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
]


@both_paths
async def test_every_column_is_exact(database: Database, size: int) -> None:
    nasty = [
        an_event(f"ü \\ 'user' {n} 🦆", payload, timestamp=at, event_type=kind)
        for n, (payload, at, kind) in enumerate(
            (payload, at, kind) for payload in NASTY for at in TIMES for kind in ("LOGIN", "LOGOUT", "PRODUCT_VIEW")
        )
    ]
    fetched = records([*nasty])
    position = (await database.claimed(0))[0]
    for first in range(0, len(nasty), size * 10):
        at = msgspec.structs.replace(position, next_offset=first)
        part = fetched[first : first + size * 10]
        assert await database.commit({at: part}) == Committed(len(part), 0)
    found = await database.rows()
    assert len(found) == len(nasty)
    for row, event, record in zip(found, nasty, fetched, strict=True):
        assert row["event_id"] == event.event_id
        assert row["user_id"] == event.user_id
        assert row["event_type"] == event.event_type
        assert row["occurred_at"] == event.timestamp
        assert row["recorded_at"] == datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=123 + record.offset)
        assert (row["kafka_topic"], row["kafka_partition"], row["kafka_offset"]) == (TOPIC, 0, record.offset)
        assert json.loads(row["payload_text"]) == event.payload
        assert json.loads(row["event_json"]) == {
            "eventId": str(event.event_id),
            "userId": event.user_id,
            "eventType": event.event_type,
            "timestamp": wire_time(event.timestamp.astimezone(UTC)),
            "payload": event.payload,
        }
        assert abs(row["projected_at"] - datetime.now(UTC)) < timedelta(minutes=1)


async def test_record_times_are_exact_and_bounded(database: Database) -> None:
    """Any client may set a record's timestamp; none may stop a partition with it."""
    kept = [-1, 0, 1, -62_135_596_800_000, 253_402_214_399_999]
    refused = [-(2**63), -62_135_596_800_001, 253_402_214_400_001, 2**63 - 1]
    for first, base in ((0, events(len(kept) + len(refused))), (LARGE, events(LARGE))):
        fetched = records(base, partition=0, first=first)
        for record, timestamp in zip(fetched, kept + refused, strict=False):
            record.timestamp = timestamp
        position = msgspec.structs.replace((await database.claimed(0))[0], next_offset=first)
        async with database.connect() as connection:
            await connection.execute("UPDATE read_g1.checkpoints SET next_offset = $1", first)
        outcome = await database.commit({position: fetched})
        assert outcome == Committed(len(base) - len(refused), 0)
        stored = {row["kafka_offset"]: row["recorded_at"] for row in await database.rows()}
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        assert [stored[first + n] for n in range(len(kept))] == [epoch + timedelta(milliseconds=ms) for ms in kept]
        assert not stored.keys() & {first + len(kept) + n for n in range(len(refused))}


@both_paths
async def test_stats_are_counted_for_each_partition(database: Database, size: int) -> None:
    held = await database.claimed(0, 1, 2)
    twice = an_event("twice")
    fetched = {
        held[0]: records([*events(size), twice, twice], 0),
        held[1]: records([b"not json", *events(size), twice, b"[]"], 1),
        held[2]: records([b"1", b"2", b"3"], 2),
    }
    assert await database.commit(fetched) == Committed(2 * size + 1, 2)
    assert await database.stats() == {0: (size + 2, size + 1, 1, 0), 1: (size + 3, size, 1, 2), 2: (3, 0, 0, 3)}
    assert len(await database.rows()) == 2 * size + 1


@both_paths
async def test_a_duplicate_that_differs_is_a_conflict_and_the_first_is_kept(database: Database, size: int) -> None:
    position = (await database.claimed(0))[0]
    old = events(size)
    assert isinstance(old[0], UserEvent)
    first: UserEvent = old[0]
    later = [  # the same id with another time is the same event; with another user, type or payload it is not
        msgspec.structs.replace(first, timestamp=first.timestamp + timedelta(seconds=1)),
        msgspec.structs.replace(first, user_id="another"),
        msgspec.structs.replace(first, event_type="LOGOUT"),
        msgspec.structs.replace(first, payload={"n": "other"}),
    ]
    assert await database.commit({position: records([*old, *later])}) == Committed(size, 4, 3)
    after = msgspec.structs.replace(position, next_offset=size + 4)
    for n, repeat in enumerate(later):
        at = msgspec.structs.replace(after, next_offset=size + 4 + n)
        outcome = await database.commit({at: records([repeat], first=size + 4 + n)})
        assert outcome == Committed(0, 1, 1 if n else 0)
    [kept] = [row for row in await database.rows() if row["event_id"] == first.event_id]
    assert json.loads(kept["event_json"])["userId"] == first.user_id
    assert kept["occurred_at"] == first.timestamp


@both_paths
async def test_what_is_stored_already_is_a_duplicate(database: Database, size: int) -> None:
    position = (await database.claimed(0))[0]
    old, new = events(size), events(size)
    await database.commit({position: records(old)})
    later = msgspec.structs.replace(position, next_offset=size)
    mixed = [event for pair in zip(old, new, strict=True) for event in pair]
    assert await database.commit({later: records([*mixed, new[0]], first=size)}) == Committed(size, size + 1)
    assert await database.stats() == {0: (size + 2 * size + 1, 2 * size, size + 1, 0)}
    offsets = [row["kafka_offset"] for row in await database.rows()]
    assert offsets == [*range(size), *range(size + 1, 3 * size, 2)]


@both_paths
async def test_only_duplicates_still_move_the_checkpoint(database: Database, size: int) -> None:
    held = await database.claimed(0, 1)
    same = events(size)
    await database.commit({held[0]: records(same)})
    assert await database.commit({held[1]: records(same, 1)}) == Committed(0, size)
    assert await database.stats() == {0: (size, size, 0, 0), 1: (size, 0, size, 0)}


async def test_a_batch_of_nothing_but_malformed_records_moves_the_checkpoint(database: Database) -> None:
    position = (await database.claimed(0))[0]
    malformed = records([b"", b"{}", b"\xff"])
    malformed[0].value = None
    assert await database.commit({position: malformed}) == Committed(0, 0)
    assert await database.stats() == {0: (3, 0, 0, 3)}


@both_paths
@pytest.mark.parametrize("wrong", [{"next_offset": 1}, {"epoch": 2}, {"epoch": 0}, {"partition": 7}])
async def test_a_moved_partition_fences_the_whole_batch(database: Database, size: int, wrong: dict[str, int]) -> None:
    held = await database.claimed(0, 1, 2)
    before = await database.stats()
    fetched = {held[p]: records(events(size), p) for p in (0, 2)}
    fetched[msgspec.structs.replace(held[1], **wrong)] = records(events(size), wrong.get("partition", 1), first=1)
    assert await database.commit(fetched) == Fenced()
    assert await database.rows() == []
    assert await database.stats() == before


@both_paths
async def test_the_same_batch_twice_is_fenced_the_second_time(database: Database, size: int) -> None:
    position = (await database.claimed(0))[0]
    fetched = {position: records(events(size))}
    assert await database.commit(fetched) == Committed(size, 0)
    assert await database.commit(fetched) == Fenced()
    assert await database.stats() == {0: (size, size, 0, 0)}


@both_paths
async def test_of_two_commits_of_one_batch_exactly_one_succeeds(database: Database, size: int) -> None:
    held = await database.claimed(0, 1)
    for _ in range(5):
        fetched = {position: records(events(size), p, position.next_offset) for p, position in held.items()}
        outcomes = await asyncio.gather(database.commit(fetched), database.commit(fetched))
        assert sorted(outcomes, key=repr) == [Committed(2 * size, 0), Fenced()]
        held = {p: msgspec.structs.replace(at, next_offset=at.next_offset + size) for p, at in held.items()}
    assert await database.stats() == dict.fromkeys(held, (5 * size, 5 * size, 0, 0))


@both_paths
async def test_one_event_in_two_partitions_at_once_is_stored_once(database: Database, size: int) -> None:
    held = await database.claimed(0, 1)
    for _ in range(5):
        same = events(size)
        batches = [{position: records(same, p, position.next_offset)} for p, position in held.items()]
        outcomes = await asyncio.gather(*(database.commit(batch) for batch in batches))
        assert all(isinstance(outcome, Committed) for outcome in outcomes)
        assert sum(outcome.stored for outcome in outcomes if isinstance(outcome, Committed)) == size
        held = {p: msgspec.structs.replace(at, next_offset=at.next_offset + size) for p, at in held.items()}
    stats = (await database.stats()).values()
    assert [sum(column) for column in zip(*stats, strict=True)] == [10 * size, 5 * size, 5 * size, 0]
    assert len(await database.rows()) == 5 * size


@both_paths
async def test_crossing_duplicates_deadlock_at_worst_and_then_go_through(database: Database, size: int) -> None:
    """Two batches with the same events in opposite order: PostgreSQL may end one of them; tried again, it succeeds."""
    held = await database.claimed(0, 1)
    same = events(size)

    async def until_done(fetched: dict[OwnedPosition, list[Record]]) -> Committed | Fenced:
        while True:
            try:
                return await database.commit(fetched)
            except asyncpg.DeadlockDetectedError:
                continue

    outcomes = await asyncio.gather(
        until_done({held[0]: records(same, 0)}), until_done({held[1]: records(same[::-1], 1)})
    )
    assert sum(outcome.stored for outcome in outcomes if isinstance(outcome, Committed)) == size
    assert len(await database.rows()) == size


@both_paths
async def test_a_claim_fences_the_earlier_owner(database: Database, size: int) -> None:
    mine = (await database.claimed(0))[0]
    theirs = (await database.claimed(0, owner="other"))[0]
    assert theirs.epoch == mine.epoch + 1
    fetched = records(events(size))
    assert await database.commit({mine: fetched}) == Fenced()
    assert await database.commit({theirs: fetched}) == Committed(size, 0)


@both_paths
async def test_a_claim_in_the_middle_of_a_commit_waits_and_sees_it(database: Database, size: int) -> None:
    """The claim blocks on the checkpoint that the batch moved, then starts from where the batch ended."""
    mine = (await database.claimed(0))[0]
    async with database.connect() as connection:
        async with connection.transaction():
            batch = assemble({mine: records(events(size))}).batch
            assert await writer.commit(connection, batch) == Committed(size, 0)
            claim = asyncio.create_task(database.claimed(0, owner="other"))
            await until_blocked(database)
        theirs = (await claim)[0]
    assert (theirs.next_offset, theirs.epoch) == (size, mine.epoch + 1)


@both_paths
async def test_a_commit_that_waits_for_a_claim_is_fenced_after_it(database: Database, size: int) -> None:
    mine = (await database.claimed(0))[0]
    async with database.connect() as connection, connection.transaction():
        await checkpoints.claim(connection, [0], "other")
        late = asyncio.create_task(database.commit({mine: records(events(size))}))
        await until_blocked(database)
    assert await late == Fenced()
    assert await database.rows() == []
    assert await database.stats() == {0: (0, 0, 0, 0)}


async def until_blocked(database: Database) -> None:
    async with database.connect() as connection:
        blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        await until(lambda: connection.fetchval(blocked), "a session to wait for a lock")


async def until(condition: Callable[[], Awaitable[object]], what: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            pass
    assert what


async def test_create_never_overwrites(database: Database) -> None:
    position = (await database.claimed(0))[0]
    await database.commit({position: records(events(SMALL))})
    async with database.connect() as connection:
        assert await checkpoints.partitions(connection) == {0}
        await checkpoints.create(connection, {0: 99, 1: 42})
        again = await checkpoints.claim(connection, [0, 1], "me")
    assert {at.partition: (at.next_offset, at.epoch) for at in again} == {0: (SMALL, 2), 1: (42, 1)}


async def test_a_claim_of_what_has_no_checkpoint_holds_nothing(database: Database) -> None:
    async with database.connect() as connection:
        assert await checkpoints.claim(connection, [3], "me") == []


@both_paths
async def test_a_failed_batch_changes_nothing(database: Database, size: int) -> None:
    """Whatever PostgreSQL refuses, it refuses rows and checkpoint together."""
    position = (await database.claimed(0))[0]
    batch = assemble({position: records(events(size))}).batch
    spoiled = msgspec.structs.replace(batch.rows[-1], payload=b'{"n": "\\u0000"}')
    async with database.connect() as connection:
        with pytest.raises(asyncpg.PostgresError):
            await writer.commit(connection, msgspec.structs.replace(batch, rows=[*batch.rows[:-1], spoiled]))
        assert not connection.is_in_transaction()
    assert await database.rows() == []
    assert await database.stats() == {0: (0, 0, 0, 0)}


async def test_a_batch_at_the_edge_of_both_paths_is_stored_alike(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    position = (await database.claimed(0))[0]
    same = [an_event(f"user {n}", payload) for n, payload in enumerate(NASTY)]
    await database.commit({position: records([*same])})
    inserted = await database.rows()
    async with database.connect() as connection:
        monkeypatch.setattr(commit, "COPY_FROM_ROWS", 1)
        copied_events = [
            msgspec.structs.replace(event, event_id=an_event().event_id) if n else event for n, event in enumerate(same)
        ]
        later = msgspec.structs.replace(position, next_offset=len(same))
        batch = assemble({later: records([*copied_events[1:]], first=len(same))}).batch
        assert await writer.commit(connection, batch) == Committed(len(same) - 1, 0)
    copied = (await database.rows())[len(same) :]
    for one, other in zip(inserted[1:], copied, strict=True):
        assert one["payload_text"] == other["payload_text"]
        assert (one["user_id"], one["occurred_at"]) == (other["user_id"], other["occurred_at"])


@asynccontextmanager
async def heard(url: str) -> AsyncIterator[asyncio.Queue[str]]:
    """What a session that listens is told, as it comes."""
    told: asyncio.Queue[str] = asyncio.Queue()
    connection = await asyncpg.connect(url)
    await connection.add_listener(CHANNEL, lambda *said: told.put_nowait(said[2]))
    try:
        yield told
    finally:
        await connection.close()


@both_paths
async def test_a_commit_tells_nobody_and_the_notifier_tells_readers_of_what_they_see(
    database: Database, size: int
) -> None:
    held = (await database.claimed(0))[0]
    async with heard(database.url) as told, asyncpg.create_pool(database.url, min_size=1, max_size=1) as pool:
        assert isinstance(await database.commit({held: records([an_event() for _ in range(size)])}), Committed)
        notifier = ReaderNotifier(pool, "read_g1")
        notifying = asyncio.create_task(notifier.run())
        owner = await asyncpg.connect(database.owner_url)
        async with asyncio.timeout(PATIENCE):
            for state, said in (("active", 1), ("standby", 0)):
                await owner.execute("UPDATE ops.generations SET state = $1", state)
                notifier.notify()
                notifier.notify()
                await notifier.all_sent()
                await owner.execute("SELECT pg_notify($1, '')", CHANNEL)  # PostgreSQL delivers in order of commit
                for _ in range(said + 1):
                    assert await told.get() == CHANNEL
                assert told.empty()
        notifying.cancel()
        await owner.close()
