"""`footfall rebuild`: a generation built, compared, promoted and rolled back while events flow and queries run."""

import asyncio
import json
import re
import threading
import time
from typing import Any

import asyncpg
import httpx

from tests.conftest import Footfall
from tests.drivers.rebuilding import NEW, OLD, a_day, dlq, done, rebuild, state_of, wait_until_done
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import (
    Flow,
    Raw,
    an_event,
    delete_before,
    metric,
    produce,
    record_of,
    sql,
    start_projector,
    wait_until_owning,
)
from tests.topic_reader import records_of

PACE = 0.02  # seconds between queries: two cores are shared by all


def stands(footfall: Footfall) -> dict[str, dict[str, Any]]:
    """What `rebuild status --json` says, by generation."""
    return {found["name"]: found for found in json.loads(rebuild(footfall, "status", "--json"))}


def journal(footfall: Footfall) -> list[str]:
    """What operators did, in order."""
    return [row["action"] for row in sql(footfall.servers, "SELECT action FROM ops.journal ORDER BY id")]


class Queries:
    """What clients do while generations change: lookups that must find, and counts that never fall."""

    def __init__(self, query_side: Process, known: str, at_least: int, url: str) -> None:
        self._url, self._known, self._at_least, self._database = query_side.url, known, at_least, url
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._over_http, self._prepared)]
        self.failures: list[str] = []
        self.asked = 0
        self.slowest = 0.0

    def __enter__(self) -> "Queries":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in self._threads)

    def _over_http(self) -> None:
        with httpx.Client(base_url=self._url, timeout=PATIENCE) as client:
            while not self._ended.is_set():
                began = time.monotonic()
                answer = client.get(f"/events/{self._known}")
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.asked += 1
                if answer.status_code != 200:
                    self.failures.append(f"{answer.status_code}: {answer.text}")
                self._ended.wait(PACE)

    def _prepared(self) -> None:
        asyncio.run(self._count())

    async def _count(self) -> None:
        """Every view, prepared once: the plans must follow the switch."""
        connection = await asyncpg.connect(self._database)
        try:
            views = ("processed_events", "user_activity", "user_sessions", "product_views", "activity_hourly")
            counts = [await connection.prepare(f"SELECT count(*) FROM read.{view}") for view in views]
            stored = await connection.prepare("SELECT sum(stored)::bigint FROM read.checkpoints")
            least = [self._at_least, 1, 1, 1, 1, self._at_least]
            while not self._ended.is_set():
                found = [await statement.fetchval() for statement in (*counts, stored)]
                self.asked += 1
                if any(now < before for now, before in zip(found, least, strict=True)):
                    self.failures.append(f"{found} after {least}")
                least = [max(pair) for pair in zip(found, least, strict=True)]
                await asyncio.sleep(PACE)
        except asyncpg.PostgresError as error:
            self.failures.append(repr(error))
        finally:
            await connection.close()


def test_a_rebuild_from_start_to_rollback_while_events_flow_and_queries_run(footfall: Footfall) -> None:
    records = a_day(3_000)
    produce(footfall, records)
    projectors = [start_projector(footfall) for _ in range(2)]
    wait_until_done(footfall, OLD, 3_000)
    query_side = footfall.start("query-side")
    known = json.loads(records[0].value or b"")["eventId"]
    with (
        Flow(footfall.servers.kafka, footfall.topic) as flow,
        Queries(query_side, known, 3_000, footfall.servers.query_url) as queries,
    ):
        assert NEW in rebuild(footfall, "start")
        wait_until_done(footfall, NEW, 3_000)
        assert "not verified" in rebuild(footfall, "promote", code=1)
        found = stands(footfall)
        assert {name: stand["state"] for name, stand in found.items()} == {OLD: "active", NEW: "building"}
        assert found[NEW]["projectors"] >= 2
        assert "is verified" in rebuild(footfall, "verify")
        assert "views" in rebuild(footfall, "promote")
        assert state_of(footfall, OLD) == "standby"
        wait_until_done(footfall, NEW, 3_000 + flow.sent)
        wait_until_done(footfall, OLD, 3_000 + flow.sent)  # it goes on, so that the way back stays short
        rebuild(footfall, "rollback")
        assert state_of(footfall, OLD) == "active"
        rebuild(footfall, "promote", code=1)  # the other is standby now, not a build
        rebuild(footfall, "rollback")  # and back again
        assert state_of(footfall, NEW) == "active"
        assert OLD in rebuild(footfall, "drop")
        assert "no standby" in rebuild(footfall, "rollback", code=1)
        wait_until_done(footfall, NEW, 3_000 + flow.sent)
    assert queries.failures == []
    assert queries.asked > 100
    total = 3_000 + flow.sent
    wait_until_done(footfall, NEW, total)
    assert sql(footfall.servers, "SELECT count(*) AS n FROM read.processed_events")[0]["n"] == total
    assert sql(footfall.servers, "SELECT to_regnamespace('read_g1') AS gone")[0]["gone"] is None
    for projector in projectors:  # of which one that a slow machine kept from its heartbeats joins again
        wait_until_owning(projector, 3)
    for projector in projectors:
        assert "batch_failed" not in projector.log_text()
        assert projector.terminate() == 0
    steps = ["start", "verify", "promote", "rollback", "rollback", "drop", "dropped"]
    assert journal(footfall) == [f"rebuild {step}" for step in steps]


def plant(footfall: Footfall, *statements: str) -> None:
    """Changes rows behind Footfall's back, as the owner of the database."""
    for statement in statements:
        sql(footfall.servers, statement)


def a_build(footfall: Footfall, count: int, *options: str, **environment: str) -> Process:
    """A projector that has projected so many events, and a build that has just begun."""
    produce(footfall, a_day(count))
    projector = start_projector(footfall, **environment)
    wait_until_done(footfall, OLD, count)
    rebuild(footfall, "start", *options)
    return projector


def test_verify_names_the_table_the_bucket_and_the_keys_that_differ(footfall: Footfall) -> None:
    a_build(footfall, 1_000)
    wait_until_done(footfall, NEW, 1_000)
    # Rows of an earlier release, which wrote full seconds without a fraction, are the same rows.
    for generation, end in ((OLD, "Z"), (NEW, ".000000Z")):
        text = f"regexp_replace(event_json, '[.][0-9]{{6}}Z\"', '{end}\"')"
        second = "date_trunc('second', occurred_at)"
        plant(footfall, f"UPDATE {generation}.processed_events SET occurred_at = {second}, event_json = {text}")
    assert json.loads(rebuild(footfall, "verify", "--json"))["equal"] is True
    plant(
        footfall,
        f"UPDATE {NEW}.user_activity SET product_views = product_views + 1 WHERE user_id = 'user-7'",
        f"DELETE FROM {NEW}.product_views WHERE product_id = 'p-3' AND kafka_partition = 0",
        f"UPDATE {NEW}.processed_events SET payload = '{{}}' WHERE kafka_partition = 1 AND kafka_offset = 5",
        f"UPDATE {NEW}.processed_events SET projected_at = now()",  # means nothing
        f"INSERT INTO {NEW}.activity_hourly VALUES (now(), 1, 1, 0, 'default', 'LOGIN')",
    )
    found = json.loads(rebuild(footfall, "verify", "--json", code=1))
    assert found["equal"] is False
    differing = {table["table"]: table["differing"] for table in found["tables"] if table["differing"]}
    hows = {table: [key["how"] for bucket in buckets for key in bucket["keys"]] for table, buckets in differing.items()}
    assert set(hows) == {"user_activity", "product_views", "processed_events", "activity_hourly"}
    assert hows["user_activity"] == ["different"]
    assert set(hows["product_views"]) == {"missing"}
    assert hows["processed_events"] == ["different"]
    assert hows["activity_hourly"] == ["extra"]
    (bucket,) = differing["user_activity"]
    assert json.loads(bucket["keys"][0]["key"])["user_id"] == "user-7"
    text = rebuild(footfall, "verify", code=1)
    assert re.search(rf"user_activity, bucket {bucket['number']}: different .*user-7", text)
    assert "not verified" in rebuild(footfall, "promote", code=1)  # the first verification counts no longer
    assert "NOT equal" in rebuild(footfall, "verify", "--skip", "user_activity", code=1)
    assert sql(footfall.servers, "SELECT holds FROM ops.generations WHERE holds IS NOT NULL") == []
    rebuild(footfall, "promote", "--force")
    assert state_of(footfall, NEW) == "active"


def test_promote_refuses_what_lags_and_pause_resume_cap_and_cancel_do_as_they_say(footfall: Footfall) -> None:
    projector = a_build(footfall, 6_000, "--max-rate", "100")  # a minute: whatever a machine takes for what follows
    wait_until(lambda: metric(projector, "rebuild_progress") > 0, 20, "the gauge to show progress")
    began, first = time.monotonic(), done(footfall, NEW)
    time.sleep(3)  # what is measured is a rate
    rate = (done(footfall, NEW) - first) / (time.monotonic() - began)
    assert 0 < rate <= 130, rate
    stand = stands(footfall)[NEW]
    assert 0 < stand["progress"] < 1
    assert 0 < stand["events_per_second"] <= 200
    assert stand["seconds_left"] > 1
    assert "is building" in rebuild(footfall, "start", code=1)

    rebuild(footfall, "pause")
    wait_until(lambda: stands(footfall)[NEW]["projectors"] == 0, 10, "the projector to leave")
    stood = done(footfall, NEW)
    assert "paused" in rebuild(footfall, "verify", code=1)
    assert "paused" in rebuild(footfall, "promote", "--force", code=1)
    assert "paused already" in rebuild(footfall, "pause", code=1)
    assert done(footfall, NEW) == stood
    rebuild(footfall, "resume", "--max-rate", "100")
    wait_until_done(footfall, NEW, stood + 30)
    plant(footfall, f"UPDATE ops.generations SET verified = '{{}}', verified_at = now() WHERE name = '{NEW}'")
    assert "behind the end of the log" in rebuild(footfall, "promote", code=1)
    assert "did not get to where" in rebuild(footfall, "verify", "--wait", "2", code=1)
    rebuild(footfall, "resume", "--max-rate", "0")
    assert f"{NEW} building" in rebuild(footfall, "status", "--watch")  # ends with the build
    wait_until_done(footfall, NEW, 6_000)
    assert re.search(rf"{NEW}.*building.*100", rebuild(footfall, "status"))

    assert NEW in rebuild(footfall, "cancel")
    assert "nothing to drop" in rebuild(footfall, "cancel", code=1)
    assert state_of(footfall, NEW) is None
    assert sql(footfall.servers, f"SELECT to_regnamespace('{NEW}') AS gone")[0]["gone"] is None
    produce(footfall, a_day(100))
    wait_until_done(footfall, OLD, 6_100)
    assert "batch_failed" not in projector.log_text()
    assert "read_g3" in rebuild(footfall, "start")  # a number is never used twice


def test_what_operators_discarded_is_passed_over_and_what_they_redrove_is_applied(footfall: Footfall) -> None:
    later = [record_of(an_event("user-1", {"n": n}), 0) for n in range(3)]
    produce(footfall, [*a_day(60), Raw(b"{", b"user-1", 0), *later, Raw(b"{", b"user-2", 0)])
    start_projector(footfall)
    wait_until_done(footfall, OLD, 65)
    parked = f"FROM {OLD}.dead_letters WHERE state = 'parked'"
    assert sql(footfall.servers, f"SELECT count(*) AS n {parked}")[0]["n"] >= 5
    dlq(footfall, "discard", "--user", "user-1", "--error", "InvalidEvent", "--yes")
    dlq(footfall, "redrive", "--user", "user-1")
    assert sql(footfall.servers, f"SELECT count(*) AS n {parked}")[0]["n"] == 1
    rebuild(footfall, "start")
    wait_until_done(footfall, NEW, 65)
    assert "is verified" in rebuild(footfall, "verify")
    rebuild(footfall, "promote")
    assert sql(footfall.servers, "SELECT count(*) AS n FROM read.processed_events")[0]["n"] == 63
    wait_until(
        lambda: not sql(footfall.servers, f"SELECT FROM {NEW}.dead_letters WHERE published_at IS NULL"),
        20,
        "publishing",
    )
    letters = records_of(footfall.servers.kafka, f"{footfall.topic}-dlq")
    offsets = [dict(letter.headers)["footfall-dlq-offset"] for letter in letters]
    assert len(offsets) == len(set(offsets)) >= 5  # nothing is published again by the new generation


def test_start_refuses_a_topic_that_does_not_reach_back_to_its_origin(footfall: Footfall) -> None:
    produce(footfall, [record_of(an_event(f"user-{n}"), n % 6) for n in range(120)])
    start_projector(footfall)
    wait_until_done(footfall, OLD, 120)
    asyncio.run(delete_before(footfall.servers.kafka, footfall.topic, 4, 15))
    assert "offsets 0 to 14 of partition 4" in rebuild(footfall, "start", code=1)
    assert stands(footfall).keys() == {OLD}
    assert journal(footfall) == []


def hold_at(footfall: Footfall, share: float) -> None:
    """The build goes no further than this share of each partition, for the time being."""
    ends = sql(footfall.servers, f"SELECT partition, next_offset FROM {OLD}.checkpoints")
    holds = json.dumps({str(row["partition"]): int(row["next_offset"] * share) for row in ends})
    held = f"holds = '{holds}', held_until = now() + '1 hour'"
    plant(footfall, f"UPDATE ops.generations SET {held} WHERE name = '{NEW}'")


def wait_until_register_read(footfall: Footfall) -> None:
    """Until the projector has read the register of generations again, and acted on what it read."""
    waiters = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'ops.generations'::regclass"

    async def hold_up_readers_twice() -> None:
        connection = await asyncpg.connect(footfall.servers.admin_url)
        for _ in range(2):  # who reads for the second time has acted on the first
            async with asyncio.timeout(PATIENCE), connection.transaction():
                await connection.execute("LOCK TABLE ops.generations IN ACCESS EXCLUSIVE MODE")
                while not await connection.fetchval(waiters):  # noqa: ASYNC110 - PostgreSQL tells nobody
                    await asyncio.sleep(0.05)
        await connection.close()

    asyncio.run(hold_up_readers_twice())


def test_projectors_killed_again_and_again_during_a_rebuild_resume_from_its_checkpoints(footfall: Footfall) -> None:
    kills, count = 3, 4_000
    produce(footfall, a_day(count), compression_type="lz4")
    projectors = [start_projector(footfall) for _ in range(2)]
    wait_until_done(footfall, OLD, count)
    rebuild(footfall, "start", "--max-rate", "20")  # next to nothing, until it is held
    for number in range(1, kills + 1):
        hold_at(footfall, number / (kills + 1))  # so that the build is never over before a kill
        rebuild(footfall, "resume", "--max-rate", "900")
        wait_until_done(footfall, NEW, int((number - 0.5) / (kills + 1) * count))
        for projector in projectors:
            projector.kill()
        assert 0 < done(footfall, NEW) < count
        projectors = [start_projector(footfall) for _ in range(2)]
    plant(footfall, f"UPDATE ops.generations SET holds = NULL, held_until = NULL WHERE name = '{NEW}'")
    rebuild(footfall, "resume", "--max-rate", "0")
    wait_until_done(footfall, NEW, count)
    assert "is verified" in rebuild(footfall, "verify")
    found = sql(footfall.servers, f"SELECT sum(stored) AS stored, sum(duplicates) AS again FROM {NEW}.checkpoints")
    assert (found[0]["stored"], found[0]["again"]) == (count, 0)
    rebuild(footfall, "promote")


def test_a_hold_ends_by_itself_should_whoever_set_it_be_gone(footfall: Footfall) -> None:
    a_build(footfall, 300)
    wait_until_done(footfall, NEW, 300)
    hold_at(footfall, 0)
    assert stands(footfall)[NEW]["held"]
    wait_until_register_read(footfall)
    produce(footfall, a_day(100))
    wait_until_done(footfall, OLD, 400)
    assert done(footfall, NEW) == 300
    plant(footfall, f"UPDATE ops.generations SET held_until = now() + '0.5 s' WHERE name = '{NEW}'")
    wait_until_done(footfall, NEW, 400)
    assert not stands(footfall)[NEW]["held"]


def test_a_build_that_fails_does_not_disturb_what_serves(footfall: Footfall) -> None:
    projector = a_build(footfall, 500, "--max-rate", "50")
    plant(
        footfall,
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$",
        f"CREATE TRIGGER refuse BEFORE INSERT ON {NEW}.processed_events FOR EACH ROW EXECUTE FUNCTION public.refuse()",
    )
    wait_until(lambda: "RaiseError" in str(stands(footfall)[NEW]["partitions"]), 60, "the build to stop")
    produce(footfall, a_day(200))
    wait_until_done(footfall, OLD, 700)
    assert httpx.get(f"{projector.url}/health/ready", timeout=PATIENCE).status_code == 200
    assert "did not get to where" in rebuild(footfall, "verify", "--wait", "3", code=1)
    rebuild(footfall, "cancel")
    assert projector.terminate() == 0


def test_promote_waits_for_queries_without_standing_in_the_way_of_others(footfall: Footfall) -> None:
    a_build(footfall, 300)
    wait_until_done(footfall, NEW, 300)

    async def long_query_meanwhile(seconds: float) -> float:
        """Holds a view as a long export does; returns the longest time another query took, as a share of that."""
        long = await asyncpg.connect(footfall.servers.query_url)
        other = await asyncpg.connect(footfall.servers.query_url)
        slowest, began = 0.0, time.monotonic()
        async with long.transaction():
            await long.fetchval("SELECT count(*) FROM read.user_sessions")
            holding.set()
            while time.monotonic() - began < seconds:
                asked = time.monotonic()
                await other.fetchval("SELECT count(*) FROM read.user_sessions")
                slowest = max(slowest, time.monotonic() - asked)
                await asyncio.sleep(0.01)
        held = time.monotonic() - began
        await long.close()
        await other.close()
        return slowest / held

    slowest: list[float] = []
    holding = threading.Event()
    thread = threading.Thread(target=lambda: slowest.append(asyncio.run(long_query_meanwhile(6))))
    thread.start()
    assert holding.wait(PATIENCE)
    refused = rebuild(footfall, "promote", "--force", "--wait", "1", code=1)
    assert "Queries read the views" in refused
    assert state_of(footfall, OLD) == "active"
    rebuild(footfall, "promote", "--force", "--wait", "20")
    thread.join()
    assert state_of(footfall, NEW) == "active"
    assert slowest[0] < 0.5  # who waits behind the promotion does not wait for the long query
