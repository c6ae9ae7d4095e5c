"""What the console's pages tell of an event, a user, products and settings, and the tail as somebody leads it."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page

from contracts.derived_ids import KeySpace, derived_event_id
from tests.conftest import Footfall
from tests.drivers.console_browser import NEEDS_BROWSER, Watched, chromium
from tests.processes import Process, wait_until
from tests.producing import Raw, an_event, produce, record_of, start_projector, wait_until_owning

pytestmark = NEEDS_BROWSER
BY_KEY = derived_event_id(KeySpace("default"), b"order-7")
PRODUCT = "a,b<i>\u202e"  # which no list of names may split, and no page run or turn round
SECRET = "s3cret-of-a-test-that-nobody-is-shown"


@pytest.fixture(scope="module")
def console(shared_footfall: Footfall) -> Process:
    wait_until_owning(start_projector(shared_footfall), 6)
    bad = [Raw(b"{", b"bad-user", 0), *(Raw(b"{}", b"bad-user", 0) for _ in range(3))]
    views = [record_of(an_event("buyer", {"productId": PRODUCT}), 1) for _ in range(3)]
    keyed = record_of(an_event("buyer", {"productId": "p-2"}, event_id=BY_KEY), 1)
    produce(shared_footfall, [*bad, *views, keyed])
    start: Any = shared_footfall.start
    process: Process = start(
        "console",
        OPERATOR_DATABASE_URL=shared_footfall.servers.admin_url,
        CURSOR_SECRET=SECRET,
        KAFKA_SASL_PASSWORD=SECRET,
    )
    seen: Callable[[], bool] = lambda: "4 events are parked" in httpx.get(f"{process.url}/console").text  # noqa: E731
    wait_until(seen, 30, "the letters to be seen")
    return process


@pytest.fixture(scope="module")
def page(console: Process) -> Iterator[Page]:
    with chromium() as browser:
        watched = Watched(browser, console.url, viewport={"width": 1280, "height": 900})
        yield watched.page
        watched.assert_well()


def main_of(page: Page, path: str) -> str:
    page.goto(path)
    return page.locator("main").inner_text()


def test_an_event_is_found_by_its_id_and_by_the_key_of_its_command(page: Page) -> None:
    for text in (str(BY_KEY), str(BY_KEY).upper(), "order-7"):
        told = main_of(page, f"/console/find?q={text}")
        assert f"Event {BY_KEY}" in told, text
        assert "accepted" in told
        assert "projected" in told


def test_a_user_has_sums_and_a_timeline_that_leads_to_each_event(page: Page) -> None:
    told = main_of(page, "/console/find?q=buyer")
    assert "Newest events" in told
    rows = page.get_by_role("region", name="Timeline").locator("tbody tr")
    assert rows.count() == 4
    page.get_by_role("region", name="Timeline").get_by_role("link").first.click()
    page.get_by_role("heading", name="Event ").wait_for()


def test_products_have_lines_over_time_and_sums(page: Page) -> None:
    told = main_of(page, "/console/activity")
    shown = PRODUCT.replace("\u202e", "\\u202e")
    assert shown in told
    line = page.locator(".plot", has_text="Views per hour").locator(".now-values")
    assert f"1. {shown}: 3" in line.inner_text()
    assert "2. p-2: 1" in line.inner_text()


def test_who_waits_is_named_with_whom_for(page: Page) -> None:
    told = main_of(page, "/console/dead-letters")
    assert "partition 0, offset 0" in told
    rows = page.get_by_role("region", name="Letters that wait").locator("tbody tr")
    assert rows.all_inner_texts()[0].split("\t")[1].strip() == "3"


@pytest.mark.parametrize("what", ["now", "rebuilds", "projectors"])
def test_what_is_old_is_not_shown_as_if_it_were_now(what: str, console: Process) -> None:
    """Beside the page of the other tests, whose problems these are none of."""
    refusal = '{"success":false,"event":null,"errors":null,"error":"Nobody can check keys."}'
    answer: list[Any] = [lambda route: route.fulfill(status=503, body=refusal, content_type="application/json")]
    page = "" if what == "now" else f"/{what}"

    def look() -> None:
        with chromium() as browser:
            shown = browser.new_page()
            shown.route(
                f"**/console/{what}", lambda route, asked: route.continue_() if not_a_part(asked) else answer[0](route)
            )
            shown.goto(f"{console.url}/console{page}")
            shown.get_by_text("The console answers 503: Nobody can check keys. What is shown here was seen").wait_for()
            answer[0] = lambda route: route.abort()
            shown.get_by_text("The console does not answer. What is shown here was seen before.").wait_for()
            answer[0] = lambda route: route.continue_()
            shown.locator(".problem-text").wait_for(state="detached")

    with ThreadPoolExecutor(1) as thread:  # playwright's loop of the other page is in this one
        thread.submit(look).result()


def not_a_part(asked: Any) -> bool:
    return "hx-request" not in asked.headers


def test_settings_name_where_they_come_from_and_show_no_secret(page: Page, console: Process) -> None:
    told = main_of(page, "/console/settings")
    rows = {row.split("\t")[0].strip(): row.split("\t")[1:] for row in page.locator("tr").all_inner_texts()}
    for name in ("CURSOR_SECRET", "KAFKA_SASL_PASSWORD", "OPERATOR_DATABASE_URL"):
        assert [each.strip() for each in rows[name]] == ["set, not shown", "environment"], name
    assert rows["KAFKA_TOPIC"][1].strip() == "environment"
    assert rows["QUERY_POOL_SIZE"][1].strip() == "default"
    for known in ("PostgreSQL", "PRODUCT_VIEW", "read_g1.processed_events", "Partition 1"):
        assert known in told
    assert re.search(r"Partition 1\s+ends at offset [\d,]+, [\d.,]+ \w+ with all copies", told), told[-500:]
    assert SECRET not in page.content()
    assert SECRET not in console.log_text()


def test_the_tail_is_paused_and_goes_on_with_what_came_meanwhile(page: Page, shared_footfall: Footfall) -> None:
    page.goto("/console/live")
    page.get_by_text("Connected").wait_for()
    page.get_by_role("button", name="Pause").click()
    with ThreadPoolExecutor(1) as thread:  # whose event loop is not the browser's
        thread.submit(produce, shared_footfall, [record_of(an_event("tail", {"productId": "p"}), 2)]).result()
    page.locator("[data-rate]", has_text=re.compile("^[1-9]")).wait_for()
    assert page.locator(".events li").count() == 0
    page.get_by_role("button", name="Go on").click()
    page.locator(".events li", has_text="tail").wait_for()
