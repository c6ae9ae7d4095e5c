"""A topic deleted and made anew, and a log that lost its end, are never read into the rows of the old history.

Decisions 24 and 32. The broker is real, and so is everything that happens to its topics.
"""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import httpx
import msgspec
import pytest

from contracts.event import UserEvent
from footfall.local.running import standing_still
from query_side.log_positions.cursors import Cursors
from query_side.log_positions.positions import ReaderPosition, read_model_state
from query_side.log_positions.served_history import AnotherHistoryError, check
from read_model.generations.histories import accept_history, accept_position
from tests.conftest import Footfall
from tests.drivers.commands import owners_command
from tests.drivers.own_broker import OwnBroker
from tests.drivers.rebuilding import rebuild
from tests.feeds import FEED, STREAM, Received, page, stream
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import (
    an_event,
    checkpoints,
    metric,
    produce,
    record_of,
    rows,
    sql,
    start_projector,
    wait_until_processed,
)
from tests.servers import Servers
from tests.topics import make_anew, make_topics

FIRST, SECOND = 10, 25  # events of the old history, and of the new one, which passes the checkpoint


@pytest.fixture
def one_partition(new_footfall: Callable[..., Footfall]) -> Iterator[Footfall]:
    instance = new_footfall(partitions=1)
    yield instance
    instance.close()


def some(count: int) -> list[UserEvent]:
    return [an_event(f"user-{n % 3}", {"n": n}) for n in range(count)]


def put(footfall: Footfall, events: list[UserEvent]) -> None:
    produce(footfall, [record_of(event, 0) for event in events])


def stored(footfall: Footfall) -> set[object]:
    return {row["event_id"] for row in rows(footfall)}


def readiness(projector: Process) -> str:
    answer = httpx.get(f"{projector.url}/health/ready", timeout=PATIENCE)
    return f"{answer.status_code} {answer.json()['dependencies']['partitions']['detail']}"


def health_of_reads(side: Process) -> str:
    answer = httpx.get(f"{side.url}/health", timeout=PATIENCE)
    return f"{answer.status_code} {answer.json()['dependencies']['postgres']['detail']}"


def wait_until_stopped(footfall: Footfall, cause: str) -> str:
    """Until the checkpoint says why; returns the whole reason."""

    def reason() -> str:
        return str(checkpoints(footfall)[0]["stopped_reason"])

    wait_until(lambda: reason().startswith(f"{cause}: "), 60, f"the partition to stop: {cause}")
    return reason()


def restarted(footfall: Footfall, projector: Process) -> Process:
    """Another projector, which knows only what is stored; it has claimed, and stopped again."""
    projector.kill()
    again = start_unready(footfall)
    wait_until(lambda: metric(again, "partitions_stopped") == 1, 60, "the new projector to stop")
    return again


def start_unready(footfall: Footfall) -> Process:
    return footfall.start("projector", ready=False, KAFKA_SESSION_TIMEOUT_MS="2000", KAFKA_HEARTBEAT_INTERVAL_MS="300")


def test_a_topic_made_anew_while_the_projector_is_down_is_not_read_and_a_rebuild_reads_it(
    one_partition: Footfall,
) -> None:
    footfall, old, new = one_partition, some(FIRST), some(SECOND)
    put(footfall, old)
    projector = start_projector(footfall)
    wait_until_processed(footfall, FIRST)
    projector.terminate()
    make_anew(footfall, 1)
    put(footfall, new)
    projector = start_unready(footfall)
    reason = wait_until_stopped(footfall, "another_history")
    assert "topic id" in reason
    assert "docs/stops.md#another_history" in reason
    projector = restarted(footfall, projector)
    assert readiness(projector).startswith("503 stopped partitions: 0: another_history: ")
    why = standing_still(httpx.get(f"{projector.url}/health/ready", timeout=PATIENCE).content)
    assert "`footfall rebuild start`" in str(why)  # `footfall up` says it and goes on
    assert stored(footfall) == {event.event_id for event in old}
    assert checkpoints(footfall)[0]["next_offset"] == FIRST

    rebuild(footfall, "start")
    wait_until(lambda: found_in(footfall, "read_g2") == {e.event_id for e in new}, 60, "the build to read the new one")
    assert "another history" in rebuild(footfall, "verify", code=1)
    assert "--force" in rebuild(footfall, "promote", code=1)
    side = footfall.start("query-side")
    assert health_of_reads(side).startswith(
        "200 1 partition has stopped: its new events are not visible. Partition 0: "
    )
    assert reason in health_of_reads(side)
    told = Received()
    with httpx.Client(base_url=side.url, timeout=PATIENCE) as client, stream(side.url, told) as live:
        assert "another_history" in fresh_read(client, 503)  # the position may name a record of either history
        cursor, untagged = page(client, "beginning")[1], cursor_of_an_earlier_version(footfall, FIRST)
        assert page(client, untagged) == page(client, cursor) == ([], cursor, False)
        live.read_until(lambda told: bool(told.last_id))
        rebuild(footfall, "promote", "--force")
        live.read_until(lambda told: bool(told.ends()))
        assert told.ends() == ["history"]
        assert_begins_again(client, [cursor, told.last_id, untagged], new)
        fresh_read(client, 200)
        new_cursor = page(client, "now")[1]
    assert health_of_reads(side) == "200 "
    assert found_in(footfall, "read") == {event.event_id for event in new}
    assert "another history" in rebuild(footfall, "rollback", code=1)
    wait_until(lambda: readiness(projector).startswith("200"), 30, "the projector to be ready again")
    assert "There is no gap" in owners_command(footfall, "gaps", "list").stdout
    late = some(1)
    put(footfall, late)
    wait_until(lambda: late[0].event_id in found_in(footfall, "read"), 30, "the new history to flow")
    with httpx.Client(base_url=side.url, timeout=PATIENCE) as client:
        assert [event["eventId"] for event in page(client, new_cursor)[0]] == [str(late[0].event_id)]


def fresh_read(client: httpx.Client, status: int) -> str:
    """A query that names a position which both histories have."""
    answer = client.get("/users/user-1/activity", headers={"Footfall-Position": "0-3", "Prefer": "wait=0"})
    assert answer.status_code == status, answer.text
    return answer.text


def cursor_of_an_earlier_version(footfall: Footfall, offset: int) -> str:
    """It said nothing of its history."""
    (key,) = sql(footfall.servers, "SELECT value FROM ops.secrets WHERE name = 'cursors'")
    marks = msgspec.msgpack.encode([(0, offset, 0)])
    return Cursors(key["value"]).seal(marks, b"feed:" + footfall.topic.encode())


def assert_begins_again(client: httpx.Client, cursors: list[str], new: list[UserEvent]) -> None:
    """What was handed out in the old history is refused, and who begins again is told everything of the new one."""
    for cursor in cursors:
        for answer in (
            client.get(FEED, params={"since": cursor}),
            client.get(STREAM, params={"since": cursor}),
            client.get(STREAM, headers={"Last-Event-ID": cursor}),
        ):
            assert answer.status_code == 410, answer.text
            assert "since=beginning" in answer.json()["error"]
    assert {event["eventId"] for event in page(client, "beginning")[0]} == {str(event.event_id) for event in new}


def found_in(footfall: Footfall, schema: str) -> set[object]:
    return {row["event_id"] for row in sql(footfall.servers, f"SELECT event_id FROM {schema}.processed_events")}


def test_a_topic_made_anew_under_a_running_projector_is_not_read_and_can_be_accepted(one_partition: Footfall) -> None:
    footfall, old, new = one_partition, some(FIRST), some(SECOND)
    put(footfall, old)
    projector = start_projector(footfall)
    wait_until_processed(footfall, FIRST)
    make_anew(footfall, 1)
    wait_until_stopped(footfall, "another_history")
    put(footfall, new)
    projector = restarted(footfall, projector)
    assert stored(footfall) == {event.event_id for event in old}
    listed = owners_command(footfall, "gaps", "list")
    assert listed.returncode == 1
    assert "has another history than read_g1" in listed.stderr
    accepted = owners_command(footfall, "gaps", "accept-history", answer="y\n")
    assert accepted.returncode == 0, accepted.stderr
    assert f"read_g1 keeps what it has under {footfall.topic}@" in accepted.stdout
    assert owners_command(footfall, "gaps", "accept-history", "--yes").returncode == 1  # there is nothing any more
    wait_until(lambda: len(stored(footfall)) == FIRST + SECOND, 60, "the new history to be read beside the old rows")
    assert stored(footfall) == {event.event_id for event in old + new}
    at = checkpoints(footfall)[0]
    assert (at["next_offset"], at["stored"], at["stopped_reason"]) == (SECOND, SECOND, None)
    wait_until(lambda: readiness(projector).startswith("200"), 30, "the projector to be ready again")
    assert [row["number"] for row in sql(footfall.servers, "SELECT number FROM ops.histories ORDER BY number")] == [
        1,
        2,
    ]


def test_a_log_that_lost_its_end_stops_the_partition_even_when_it_has_grown_beyond_the_checkpoint_again(
    new_database: Callable[[], Servers], tmp_path: Path
) -> None:
    """As after an unclean election: the topic keeps its id, and other records stand where ours stood."""
    (home := tmp_path / "kafka").mkdir()
    broker = OwnBroker(home)
    try:
        footfall = Footfall(replace(new_database(), kafka=broker.address), "cut", tmp_path)
        make_topics(footfall, 1)
        old, other = some(FIRST), some(SECOND)
        put(footfall, old[:5])
        broker.stop()
        shutil.copytree(broker.copy_of("cut"), tmp_path / "copy")
        broker.start()
        put(footfall, old[5:])
        projector = start_projector(footfall)
        wait_until_processed(footfall, FIRST)
        broker.stop()
        shutil.rmtree(broker.copy_of("cut"))
        shutil.copytree(tmp_path / "copy", broker.copy_of("cut"))
        broker.start()
        assert "it ends at 5, and the checkpoint is 10" in wait_until_stopped(footfall, "history_cut")
        put(footfall, other)
        projector = restarted(footfall, projector)
        assert "offset 9 holds another record" in wait_until_stopped(footfall, "history_cut")
        assert stored(footfall) == {event.event_id for event in old}
        before = asyncio.run(place_of_a_reader(footfall))
        asyncio.run(resume(footfall, 5))
        wait_until(lambda: len(stored(footfall)) == FIRST + SECOND, 60, "what was written anew to be read")
        assert stored(footfall) == {event.event_id for event in old + other}
        assert metric(projector, "partitions_stopped") == 0
        with pytest.raises(AnotherHistoryError):  # what stood at 5 to 9 is not what a cursor beyond it has read
            asyncio.run(place_of_a_reader(footfall, before))
        footfall.close()
    finally:
        broker.stop()


def test_where_kafka_gives_no_topic_ids_accepting_a_history_ends_the_cursors_of_the_old_one(
    new_database: Callable[[], Servers],
) -> None:
    tags = asyncio.run(tags_of_three_histories_without_ids(new_database()))
    assert len(set(tags)) == 3


async def tags_of_three_histories_without_ids(servers: Servers) -> list[bytes]:
    """Each refuses the cursors of those before it."""
    admin = await asyncpg.connect(servers.admin_url)
    await admin.execute(
        "INSERT INTO read_g1.checkpoints (topic, partition, next_offset, epoch, owner) VALUES ('t', 0, 9, 1, '')"
    )
    async with asyncpg.create_pool(servers.query_url, min_size=1, max_size=1) as pool:
        tags = [(await read_model_state(pool, "t")).history.tag]
        for _ in range(2):
            await accept_history(admin, "read_g1", "t", None, {0: 0})
            now = await read_model_state(pool, "t")
            for tag in tags:
                with pytest.raises(AnotherHistoryError):
                    check(tag, now.history)
            check(now.history.tag, now.history)
            tags.append(now.history.tag)
        aside = await admin.fetch("SELECT topic FROM read_g1.checkpoints WHERE topic <> 't' ORDER BY topic")
        assert [row["topic"] for row in aside] == ["t@before-1", "t@before-2"]
    await admin.close()
    return tags


async def place_of_a_reader(footfall: Footfall, at: ReaderPosition | None = None) -> ReaderPosition:
    """Where a reader who has read everything stands; `at` must be of the same history."""
    async with asyncpg.create_pool(footfall.servers.query_url, min_size=1, max_size=1) as pool:
        stand = await read_model_state(pool, footfall.topic)
    if at is not None:
        check(at.tag, stand.history)
    return stand.reader_position()


async def resume(footfall: Footfall, offset: int) -> None:
    connection = await asyncpg.connect(footfall.servers.admin_url)
    try:
        await accept_position(connection, "read_g1", footfall.topic, 0, offset)
    finally:
        await connection.close()
