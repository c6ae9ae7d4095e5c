"""Retention: what is older than a tenant keeps it goes from every generation, and a rebuild does not bring it back."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from contracts.versions import encode_event
from tests.conftest import Footfall
from tests.drivers.erasure import assert_rebuilt_the_same, hits
from tests.drivers.privacy import privacy
from tests.drivers.rebuilding import NEW, OLD, dlq, rebuild, wait_until_done
from tests.processes import wait_until
from tests.producing import Raw, an_event, checkpoints, produce, record_of, sql, start_projector, wait_until_processed

NOW = datetime.now(UTC)
KINDS = ("LOGIN", "PRODUCT_VIEW", "LOGOUT")
AGES = (0, 40, 100)  # days


def a_history() -> list[Raw]:
    """Sessions of three users today, 40 and 100 days ago."""
    return [
        record_of(an_event(f"user-{user}", event_type=kind, timestamp=NOW - timedelta(days=days, minutes=5 - number)))
        for days in sorted(AGES, reverse=True)
        for user in range(3)
        for number, kind in enumerate(KINDS)
    ]


def of_age(days: int, number: int) -> Raw:
    """A record of so many days ago, whose event's id was made then."""
    moment = NOW - timedelta(days=days, minutes=30 - number)
    made = UUID(int=round(moment.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | number)
    event = an_event(f"user-{number % 3}", event_id=made, timestamp=moment)
    return replace(record_of(event, partition=0), timestamp_ms=round(moment.timestamp() * 1000))


def kept(footfall: Footfall, schema: str) -> Counter[tuple[str, int]]:
    """Events by type and age in days."""
    rows = sql(footfall.servers, f"SELECT event_type, occurred_at FROM {schema}.processed_events")
    return Counter((row["event_type"], round((NOW - row["occurred_at"]) / timedelta(days=1))) for row in rows)


def total(footfall: Footfall, statement: str) -> int:
    [(found,)] = sql(footfall.servers, statement)
    return int(found)


def test_old_events_go_by_type_and_tenant_and_a_rebuild_does_not_bring_them_back(footfall: Footfall) -> None:
    produce(footfall, a_history())
    start_projector(footfall)
    wait_until_processed(footfall, 27)
    counted = total(footfall, "SELECT sum(events) FROM read_g1.activity_hourly")
    assert "for ever" in privacy(footfall, "retention", "list")
    privacy(footfall, "retention", "set", "--days", "60")
    privacy(footfall, "retention", "set", "--type", "PRODUCT_VIEW", "--days", "30")
    privacy(footfall, "retention", "set", "--tenant", "another", "--days", "1")
    assert len(json.loads(privacy(footfall, "retention", "list", "--json"))) == 3
    assert sum(kept(footfall, OLD).values()) == 27  # setting a line deletes nothing

    told = json.loads(privacy(footfall, "retention", "run", "--json"))
    expected = {(kind, age): 3 for kind in KINDS for age in AGES if age < (30 if kind == "PRODUCT_VIEW" else 60)}
    assert kept(footfall, OLD) == expected
    assert told[OLD]["rows"]["processed_events"] == 27 - 15
    assert total(footfall, "SELECT count(*) FROM read_g1.user_sessions") == 6
    assert total(footfall, "SELECT count(*) FROM read_g1.product_views_users") == 6
    assert total(footfall, "SELECT sum(events) FROM read_g1.activity_hourly") == counted == 27
    assert json.loads(privacy(footfall, "retention", "run", "--json"))[OLD]["rows"]["processed_events"] == 0

    rebuild(footfall, "start")
    wait_until_done(footfall, NEW, sum(row["next_offset"] for row in checkpoints(footfall).values()))
    assert json.loads(rebuild(footfall, "verify", "--json"))["equal"]
    rebuild(footfall, "promote")
    assert kept(footfall, "read") == expected
    privacy(footfall, "retention", "remove", "--type", "PRODUCT_VIEW")
    privacy(footfall, "retention", "remove", "--type", "PRODUCT_VIEW", code=1)
    actions = [row["action"] for row in sql(footfall.servers, "SELECT action FROM ops.audit WHERE outcome = 'done'")]
    assert Counter(actions)["privacy retention run"] == 2


def test_who_is_erased_after_their_old_events_went_is_in_no_table(footfall: Footfall) -> None:
    produce(footfall, a_history())
    produce(footfall, [record_of(an_event("user-1", event_type="SEARCH", timestamp=NOW - timedelta(days=50)))])
    start_projector(footfall)
    wait_until_processed(footfall, 28)
    for kind in ("PRODUCT_VIEW", "SEARCH"):
        privacy(footfall, "retention", "set", "--type", kind, "--days", "30")
    privacy(footfall, "retention", "run")
    assert json.loads(privacy(footfall, "erase", "user-1", "--yes", "--json"))["done"]
    assert hits(footfall, "user-1", OLD) == {}
    assert quoted_in_statistics(footfall, "user-1")
    privacy(footfall, "retention", "run")
    assert not quoted_in_statistics(footfall, "user-1")
    produce(footfall, a_history())  # the user is back, in hours of which they were erased
    wait_until_processed(footfall, 28 + 27)
    privacy(footfall, "retention", "run")
    assert_rebuilt_the_same(footfall)


def quoted_in_statistics(footfall: Footfall, user: str) -> bool:
    """Whether PostgreSQL's statistics of the read model name the user."""
    told = f"concat_ws(' ', most_common_vals::text, histogram_bounds::text) ~ '\\y{user}\\y'"
    return bool(sql(footfall.servers, f"SELECT FROM pg_stats WHERE schemaname = '{OLD}' AND {told} LIMIT 1"))


def test_settled_dead_letters_go_and_what_was_discarded_stays_discarded(footfall: Footfall) -> None:
    broken = [encode_event(an_event(f"user-{n}")).replace(b"PRODUCT_VIEW", b"wink") for n in range(3)]
    produce(footfall, [Raw(value, f"user-{n}".encode(), 0) for n, value in enumerate(broken)])
    start_projector(footfall)
    wait_until_processed(footfall, 3)
    dlq(footfall, "discard", "--user", "user-0", "--yes")
    dlq(footfall, "discard", "--user", "user-1", "--yes")
    sql(footfall.servers, "UPDATE read_g1.dead_letters SET resolved_at = resolved_at - interval '9 days' "
                          "WHERE user_id = 'user-0'")  # fmt: skip
    sql(footfall.servers, "UPDATE read_g1.dead_letters SET parked_at = parked_at - interval '9 days'")
    privacy(footfall, "retention", "set", "--dead-letters", "--days", "7")
    told = privacy(footfall, "retention", "run")
    assert "1 of dead_letters" in told
    assert "1 older letters are parked" in told
    letters = sql(
        footfall.servers,
        "SELECT state, user_id, record_value, error_message FROM read_g1.dead_letters ORDER BY 2 NULLS FIRST",
    )
    assert [(row["state"], row["user_id"], row["record_value"] is None) for row in letters] == [
        ("discarded", None, True),
        ("discarded", "user-1", False),
        ("parked", "user-2", False),
    ]
    assert [row["error_message"] == "The record is erased." for row in letters] == [True, False, False]


def test_a_projector_forgets_by_its_setting_and_readers_are_told(footfall: Footfall) -> None:
    ages = [days for days in (100, 40, 0) for _ in range(3)]
    produce(footfall, [of_age(days, number) for number, days in enumerate(ages)])
    projector = start_projector(footfall)
    wait_until_processed(footfall, 9)
    query_side = footfall.start("query-side", ready=True)
    page = httpx.get(f"{query_side.url}/events/feed", params={"since": "beginning", "limit": 2})
    stale, follower = page.headers["footfall-cursor"], httpx.get(f"{query_side.url}/events/feed").headers
    old = page.json()[0]["eventId"]
    assert httpx.get(f"{query_side.url}/events/{old}").status_code == 200
    projector.terminate()

    start_projector(footfall, RETENTION_DAYS="60", RETENTION_COUNTS_DAYS="30")
    wait_until(lambda: len(kept(footfall, OLD)) == 2, 60, "the oldest events to go")
    assert {age for _, age in kept(footfall, OLD)} == {0, 40}
    counts = "SELECT sum(events) FROM read_g1.activity_hourly"
    wait_until(lambda: total(footfall, counts) == 6, 60, "counts to go, but none of which events are kept")
    answer = httpx.get(f"{query_side.url}/events/{old}")
    assert (answer.status_code, "keeps no event of that time" in answer.text) == (410, True)
    assert httpx.get(f"{query_side.url}/events/{uuid4()}").status_code == 404
    status = httpx.get(f"{query_side.url}/events/{old}/status").json()
    assert (status["status"], "may be deleted" in status["reason"]) == ("expired", True)
    for path in ("feed", "stream"):
        assert httpx.get(f"{query_side.url}/events/{path}", params={"since": stale}).status_code == 410
    gone_on = httpx.get(f"{query_side.url}/events/feed", params={"since": follower["footfall-cursor"]})
    assert (gone_on.status_code, gone_on.json()) == (200, [])
    assert len(httpx.get(f"{query_side.url}/events/feed").json()) == 6
    assert "of every tenant without a line" in privacy(footfall, "retention", "list")
    asyncio.run(assert_no_more_than_the_lines_say(footfall))
    assert sum(kept(footfall, OLD).values()) == 6


def used_twice(partition: int, first: int, again: int) -> list[Raw]:
    """Two records of one id, so many days ago."""
    made = UUID(int=8 << 76 | 2 << 62 | partition)
    moments = [NOW - timedelta(days=days) for days in (first, again)]
    events = [record_of(an_event(event_id=made, timestamp=moment), partition) for moment in moments]
    return [replace(each, timestamp_ms=round(at.timestamp() * 1000)) for each, at in zip(events, moments, strict=True)]


def test_a_rebuild_tells_a_repeat_from_a_new_event_as_the_running_generation_did(footfall: Footfall) -> None:
    privacy(footfall, "retention", "set", "--days", "60")
    (gone, new), (kept_then, repeat) = used_twice(0, 100, 2), used_twice(1, 62, 58)
    produce(footfall, [gone, kept_then, repeat])
    projector = start_projector(footfall)
    wait_until_processed(footfall, 3)
    privacy(footfall, "retention", "run")
    produce(footfall, [new])
    wait_until_processed(footfall, 4)
    assert kept(footfall, OLD) == {("PRODUCT_VIEW", 2): 1}
    projector.terminate()

    rebuild(footfall, "start")
    holds = f"""UPDATE ops.generations SET holds = '{{"1": 1}}', held_until = now() + '1 hour' WHERE name = '{NEW}'"""
    sql(footfall.servers, holds)
    start_projector(footfall)
    wait_until_done(footfall, NEW, 3)
    privacy(footfall, "retention", "run")  # the first of the two waits for its repeat
    sql(footfall.servers, "UPDATE ops.generations SET holds = NULL, held_until = NULL")
    wait_until_done(footfall, NEW, 4)
    found = rebuild(footfall, "verify", "--json")
    assert json.loads(found)["equal"], found
    assert kept(footfall, NEW) == {("PRODUCT_VIEW", 2): 1}
    counted = [total(footfall, f"SELECT sum(events) FROM {each}.activity_hourly") for each in (OLD, NEW)]
    assert counted == [3, 3]


async def assert_no_more_than_the_lines_say(footfall: Footfall) -> None:
    """The projector's role deletes by the functions only, and they know no moment but today."""
    events = "SELECT deleted FROM ops.forget_events('read_g1', 'default', '', '2099-01-01', '-infinity', $1, 1000)"
    refused = {
        "DELETE FROM read_g1.processed_events": asyncpg.InsufficientPrivilegeError,
        "DELETE FROM read_g1.activity_hourly": asyncpg.InsufficientPrivilegeError,
        "INSERT INTO ops.retention (tenant_id, what, days) VALUES ('acme', 'events', 1)": (
            asyncpg.InsufficientPrivilegeError
        ),
        "SELECT ops.declare_retention(0, NULL)": asyncpg.CheckViolationError,
        "SELECT ops.forget_hours('read_g1', 'default', 'user_activity', now(), 10)": asyncpg.RaiseError,
        "SELECT ops.forget_hours('pg_catalog', 'default', 'activity_hourly', now(), 10)": asyncpg.RaiseError,
    }
    connection = await asyncpg.connect(footfall.servers.projector_url)
    try:
        assert await connection.fetchval(events, UUID(int=0)) == 0
        for statement, error in refused.items():
            with pytest.raises(error):
                await connection.execute(statement)
    finally:
        await connection.close()
    reading = await asyncpg.connect(footfall.servers.query_url)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reading.fetchval(events, UUID(int=0))
    finally:
        await reading.close()
