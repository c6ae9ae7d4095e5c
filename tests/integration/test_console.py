"""The console in a real browser: every page, every action, hostile payloads, a projector that is killed."""

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import httpx
import pytest
from playwright.sync_api import Browser

from tests.conftest import Footfall
from tests.drivers.console_browser import NEEDS_BROWSER, Watched, chromium
from tests.patience import patient
from tests.processes import Process, wait_until
from tests.producing import Raw, an_event, produce, record_of, sql, start_projector, wait_until_owning

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01".encode()
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\u202egnp.exe"

Found = TypeVar("Found")
MOST_TIMES = 20  # as long as with a few letters may the page of 10,000 take; a walk over all takes far longer
MANY = """
INSERT INTO read_g1.dead_letters (kafka_topic, kafka_partition, kafka_offset, recorded_at, cause, error_class,
    error_message, user_id, record_key, record_value, header_names, header_values)
SELECT 'many', n % 6, n, now(), 'poison', 'InvalidEvent', 'planted ' || n, 'user-' || n,
    convert_to('user-' || n, 'UTF8'), '\\x00', '{}', '{}' FROM generate_series(1, 10000) AS n
"""

pytestmark = NEEDS_BROWSER


@pytest.fixture(scope="module")
def running(shared_footfall: Footfall) -> tuple[Footfall, Process, Process]:
    """A projector and a console that watches it, with some events and letters."""
    projector = start_projector(shared_footfall)
    wait_until_owning(projector, 6)
    bad = [Raw(HOSTILE.encode(), b"bad-user", 0), Raw(HOSTILE.encode() + b"x" * 16_384, b"bad-user", 0)]
    good = [record_of(an_event(f"user-{n % 5}", {"productId": f"p-{n}", "note": HOSTILE}), 1) for n in range(40)]
    good[7] = replace(good[7], headers=[("request-id", b"r-17"), ("traceparent", TRACEPARENT)])
    produce(shared_footfall, [*bad, *good])
    console = shared_footfall.start(
        "console",
        OPERATOR_DATABASE_URL=shared_footfall.servers.admin_url,
        CONSOLE_WATCH_URLS=projector.url,
    )
    wait_until(lambda: "2 events are parked" in httpx.get(f"{console.url}/console").text, 20, "the letters to be seen")
    return shared_footfall, projector, console


@pytest.fixture(scope="module")
def browser(running: tuple[Footfall, Process, Process]) -> Iterator[Browser]:
    """Behind `running`: helpers here start event loops of their own."""
    with chromium() as found:
        yield found


@pytest.fixture
def watched(browser: Browser, running: tuple[Footfall, Process, Process]) -> Iterator[Watched]:
    """A page that has to end without a problem."""
    found = Watched(browser, running[2].url, viewport={"width": 1280, "height": 900})
    yield found
    found.context.close()
    found.assert_well()


def test_letters_are_shown_as_text_predicted_redriven_and_discarded(
    watched: Watched, running: tuple[Footfall, Process, Process]
) -> None:
    footfall = running[0]
    page = watched.open("/dead-letters")
    page.locator("table.letters a").first.click()
    value = page.locator("pre").inner_text()
    assert HOSTILE.replace("\u202e", "\\u202e") in value
    assert page.title() != "owned"
    page.get_by_role("button", name="Redrive").click()
    assert "still cannot be applied" in page.locator("main").inner_text()
    assert actions(footfall) == ["dlq show"], "a prediction changes nothing, so it is no deed"
    page.get_by_role("button", name="Redrive").click()
    assert "1 poison" in page.locator("#job").inner_text()
    page = watched.open("/dead-letters?cause=poison")
    page.get_by_role("button", name="Discard").click()
    page.get_by_role("button", name="Discard 1 letter").click()
    assert "1 discarded" in page.locator("#job").inner_text()
    assert actions(footfall) == ["dlq show", "dlq redrive", "dlq redrive", "dlq discard", "dlq discard"]
    rows = aside(sql, footfall.servers, "SELECT actor FROM ops.audit WHERE action = 'dlq discard'")
    assert all(row["actor"].startswith("anonymous by console@") for row in rows), rows
    assert "dlq discard" in watched.open("/dead-letters/done").locator("main").inner_text()


def test_a_generation_is_started_paused_resumed_and_cancelled(watched: Watched) -> None:
    for what, says in (
        ("start", "is being built"),
        ("pause", "is paused"),
        ("resume", "is being built"),
        ("cancel", "is dropped"),
    ):
        do(watched, what, says)


def test_a_generation_is_verified_promoted_rolled_back_and_dropped(watched: Watched) -> None:
    do(watched, "start", "is being built")
    page = watched.open("/rebuilds")
    page.locator("section", has_text="building").locator("dd", has_text="100 %").wait_for()
    for what, says in (
        ("verify", "is verified: it equals read_g1"),
        ("promote", "Queries see"),
        ("rollback", "Queries see read_g1 now"),
        ("drop", "is dropped"),
    ):
        do(watched, what, says)
    watched.open("/rebuilds").locator("section").first.wait_for()  # after a look that took too long, with the next one
    watched.page.get_by_role("button", name="Start a rebuild").wait_for()


def do(watched: Watched, what: str, says: str) -> None:
    """As soon as the page offers it: says yes to what it asks, and waits until it has ended so."""
    page = watched.open("/rebuilds")
    page.get_by_role("button", name=what.capitalize(), exact=False).first.click()
    assert page.locator("main form").count() == 1, "it asks before it changes anything"
    page.get_by_role("button", name=what.capitalize(), exact=True).click()
    page.locator("#job").get_by_text(says).wait_for()


def test_a_partition_is_stopped_and_restarted(watched: Watched) -> None:
    page = watched.open("/projectors")
    page.get_by_role("button", name="Stop partition 5").click()
    page.get_by_role("button", name="Stop", exact=True).click()
    page.locator("#job").get_by_text("Stopped: read_g1, partition 5").wait_for()
    page = watched.open("/projectors")
    page.get_by_text("an operator holds it").wait_for()
    page.get_by_role("button", name="Restart partition 5").click()
    page.get_by_role("button", name="Restart", exact=True).click()
    page.locator("#job").get_by_text("Goes on").wait_for()


def test_one_box_finds_users_events_and_letters(watched: Watched, running: tuple[Footfall, Process, Process]) -> None:
    page = watched.open("/find?q=user-1")
    assert "Product views" in page.locator("main").inner_text()
    page = watched.open("/find?q=1-3")
    assert "accepted" in page.locator("main").inner_text()
    assert HOSTILE[:8] in page.locator("pre").inner_text()
    assert "Nothing of the tenant" in watched.open("/find?q=nobody").locator("main").inner_text()
    assert "Dead letter 0-0" in watched.open("/find?q=0-0").locator("main").inner_text()
    for named in ("r-17", TRACE):
        page = watched.open(f"/find?q={named}")
        page.get_by_role("link", name="Search the log").click()
        page.get_by_role("link", name="1-7", exact=True).click()
        assert (TRACE in (told := page.locator("main").inner_text()), "r-17" in told) == (True, True)


def test_lag_has_a_graph_by_partition_and_who_came_back_a_table(watched: Watched) -> None:
    page = watched.open("/projectors")
    page.locator(".now-values", has_text="partition").wait_for()
    page.locator(".canvas canvas").wait_for()
    page.locator("thead", has_text="Caught up in").wait_for()
    page = watched.open("/retention")
    assert page.locator("tbody tr").first.locator("td").first.inner_text() == "5"


def test_the_tail_shows_events_as_text(watched: Watched, running: tuple[Footfall, Process, Process]) -> None:
    page = watched.open("/live")
    page.get_by_text("Connected").wait_for()
    polluting = {"__proto__": {"owned": True}, "constructor": {"prototype": {"owned": True}}}
    aside(produce, running[0], [record_of(an_event("tail-user", {"productId": HOSTILE, **polluting}), 1)])
    page.locator(".events li", has_text="tail-user").wait_for()
    assert page.title() != "owned"
    assert page.evaluate("({}).owned === undefined && [].owned === undefined")


def test_ten_thousand_letters_are_paged(watched: Watched, running: tuple[Footfall, Process, Process]) -> None:
    footfall, _, console = running
    few = least_time(f"{console.url}/console/dead-letters")
    aside(sql, footfall.servers, MANY)
    page = watched.open("/dead-letters")
    assert "10,00" in page.locator(".lead").inner_text()
    page.get_by_role("link", name="Next page").click()
    page.get_by_role("link", name="First page").wait_for()
    assert page.locator("table.letters tbody tr").count() == 50
    assert least_time(f"{console.url}/console/dead-letters") < MOST_TIMES * few


def least_time(url: str) -> float:
    """Seconds that the quickest of several answers takes: other work on the machine can only add to it."""
    return min(timed(url) for _ in range(10))


def timed(url: str) -> float:
    began = time.monotonic()
    assert httpx.get(url).status_code == 200
    return time.monotonic() - began


def test_a_sink_stands_beside_the_generations_and_is_gone_when_it_is_dropped(
    watched: Watched, running: tuple[Footfall, Process, Process]
) -> None:
    servers = running[0].servers
    aside(sql, servers, "SELECT ops.open_sink('sink_duckdb', gen_random_uuid(), false)")
    aside(sql, servers, "INSERT INTO sink_duckdb.checkpoints SELECT * FROM read_g1.checkpoints")
    aside(sql, servers, "UPDATE sink_duckdb.checkpoints SET stopped_reason = 'server: <b>full</b>' WHERE partition = 3")
    table = watched.open("/projectors").get_by_role("region", name="Partitions of sink_duckdb")
    table.get_by_text("server: <b>full</b>").wait_for()
    assert table.locator("tbody tr").count() == 6
    watched.open("").get_by_text("sink_duckdb, partition 3 has stopped").first.wait_for()
    aside(sql, servers, "DELETE FROM ops.sinks")
    aside(sql, servers, "DROP SCHEMA sink_duckdb CASCADE")
    watched.open("/projectors")
    table.wait_for(state="detached")


def test_what_does_not_come_from_its_own_form_is_refused(running: tuple[Footfall, Process, Process]) -> None:
    footfall, _, console = running
    before = actions(footfall)
    url = f"{console.url}/console/dead-letters/discard"
    token = token_of(console)
    for headers, fields in (
        ({}, {"offset": "0"}),
        ({}, {"offset": "0", "token": "0" * 64}),
        ({"origin": "https://evil.example"}, {"offset": "0", "token": token}),
        ({"sec-fetch-site": "cross-site"}, {"offset": "0", "token": token}),
    ):
        assert httpx.post(url, data=fields, headers=headers).status_code == 403
    assert httpx.post(url, data={"token": token}).status_code == 400, "all letters at once need a filter"
    assert httpx.get(url).status_code == 405
    assert actions(footfall) == before


def test_a_killed_projector_is_seen_within_five_seconds(
    watched: Watched, running: tuple[Footfall, Process, Process]
) -> None:
    _, projector, _ = running
    page = watched.open("")
    page.locator(".verdict").wait_for()
    began = time.monotonic()
    projector.kill()
    page.get_by_text(f"The process at {projector.url} is not there").wait_for()
    assert time.monotonic() - began < patient(5)
    assert page.locator(".verdict.problem").count() == 1


def aside(work: Callable[..., Found], *arguments: Any) -> Found:
    """Calls what starts an event loop of its own."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work, *arguments).result()


def actions(footfall: Footfall) -> list[str]:
    rows = aside(sql, footfall.servers, "SELECT action FROM ops.audit WHERE action LIKE 'dlq %' ORDER BY number")
    return [row["action"] for row in rows]


def token_of(console: Process) -> str:
    found = re.search(r'name="token" value="(\w+)"', httpx.get(f"{console.url}/console/dead-letters").text)
    return found[1] if found else ""
