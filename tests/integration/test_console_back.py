"""A browser that goes back: to a list as it was filtered, to what was asked before an action, and to the live tail."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from playwright.sync_api import Page

from tests.conftest import Footfall
from tests.drivers.console_browser import NEEDS_BROWSER, Watched, chromium
from tests.processes import wait_until
from tests.producing import Raw, an_event, produce, record_of, start_projector, wait_until_owning

pytestmark = NEEDS_BROWSER


@pytest.fixture(scope="module")
def started(shared_footfall: Footfall) -> tuple[Footfall, str]:
    """Its console, with two letters and some events."""
    wait_until_owning(start_projector(shared_footfall), 6)
    bad = [Raw(b"{", b"bad-user", 0), Raw(b"{}", b"bad-user", 0)]
    produce(shared_footfall, [*bad, *(record_of(an_event(f"user-{n}", {"productId": f"p-{n}"}), 1) for n in range(9))])
    console = shared_footfall.start("console", OPERATOR_DATABASE_URL=shared_footfall.servers.admin_url)
    seen: Callable[[], bool] = lambda: "2 events are parked" in httpx.get(f"{console.url}/console").text  # noqa: E731
    wait_until(seen, 30, "the letters to be seen")
    return shared_footfall, console.url


@pytest.fixture(scope="module")
def page(started: tuple[Footfall, str]) -> Iterator[Page]:
    """Of a browser in which nothing went wrong at the end."""
    with chromium() as browser:
        watched = Watched(browser, started[1], viewport={"width": 1280, "height": 900})
        yield watched.page
        watched.assert_well()


def test_a_list_is_filtered_as_before(page: Page) -> None:
    page.goto("/console/dead-letters")
    page.locator("select[name=cause]").select_option("behind")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**cause=behind**")
    assert page.locator("table.letters tbody tr").count() == 1
    page.locator("table.letters a").first.click()
    page.get_by_role("heading", name="Dead letter 0-1").wait_for()
    page.go_back()
    assert page.locator("table.letters tbody tr").count() == 1
    assert page.locator("select[name=cause]").input_value() == "behind"
    page.go_back()
    assert page.locator("table.letters tbody tr").count() == 2
    assert page.locator("select[name=cause]").input_value() == ""
    page.go_forward()
    assert page.locator("table.letters tbody tr").count() == 1


def test_a_length_of_time_is_as_before(page: Page) -> None:
    page.goto("/console")
    for name in ("6 hours", "7 days"):
        page.get_by_role("link", name=name).click()
    page.go_back()
    assert page.locator(".tabs [aria-current]").inner_text() == "6 hours"
    page.locator(".verdict").wait_for()
    page.go_back()
    assert page.locator(".tabs [aria-current]").inner_text() == "15 minutes"


def test_behind_an_action_is_the_page_that_asked_and_says_that_it_was_begun(
    page: Page, started: tuple[Footfall, str]
) -> None:
    page.goto("/console/dead-letters")
    page.get_by_role("button", name="Redrive").click()
    page.get_by_text("still cannot be applied").wait_for()
    page.get_by_role("button", name="Redrive 2 letters").click()
    page.locator("#job").get_by_text("2 letters were looked at").wait_for()
    page.go_back()
    page.get_by_text("It was begun at").wait_for()
    assert page.get_by_role("button", name="Redrive 2 letters").count() == 0
    page.get_by_role("link", name="What came of it").click()
    page.locator("#job").get_by_text("2 letters were looked at").wait_for()
    page.go_back()
    page.go_back()
    page.get_by_role("heading", name="Dead letters", exact=True).wait_for()


def test_behind_an_action_on_a_partition_it_is_asked_anew(page: Page) -> None:
    page.goto("/console/projectors")
    page.get_by_role("button", name="Stop partition 5").click()
    page.get_by_role("button", name="Stop", exact=True).click()
    page.locator("#job").get_by_text("Stopped: read_g1, partition 5").wait_for()
    page.go_back()
    page.get_by_role("heading", name="Stop partition 5?").wait_for()
    page.go_back()
    page.get_by_role("button", name="Restart partition 5").click()
    page.get_by_role("button", name="Restart", exact=True).click()
    page.locator("#job").get_by_text("Goes on").wait_for()


def test_the_tail_is_filtered_as_before_and_connected(page: Page, started: tuple[Footfall, str]) -> None:
    page.goto("/console/live")
    page.get_by_text("Connected").wait_for()
    page.get_by_label("User").fill("tail-1")
    page.get_by_role("button", name="Filter").click()
    page.get_by_text("Connected").wait_for()
    _send(started[0], ["tail-2", "tail-1"])
    row = page.locator(".events li", has_text="tail-1")
    row.wait_for()
    assert page.locator(".events li").count() == 1
    row.get_by_role("link").click()
    page.get_by_text("accepted").wait_for()
    page.go_back()
    page.get_by_text("Connected").wait_for()
    assert page.get_by_label("User").input_value() == "tail-1"
    _send(started[0], ["tail-2", "tail-1"])
    page.locator(".events li", has_text="tail-1").first.wait_for()
    assert page.locator(".events li", has_text="tail-2").count() == 0


def _send(footfall: Footfall, users: list[str]) -> None:
    with ThreadPoolExecutor(1) as thread:  # whose event loop is not the browser's
        thread.submit(produce, footfall, [record_of(an_event(user, {"productId": "p"}), 2) for user in users]).result()
