"""Every page of the console, as its routes say, in each state: usual, empty, very many, not looked yet, servers away.

In each it fits a telephone and a wide screen, in light and dark, tells whoever cannot see what it shows, is led by the
keyboard alone, and is read without JavaScript.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from typing import Any, Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page

from tests.conftest import Footfall
from tests.drivers.console_browser import (
    NEEDS_BROWSER,
    OF_SIGNING_IN,
    PARTS,
    QUERIES,
    Watched,
    addresses,
    axe_source,
    chromium,
    routed,
    serious,
)
from tests.drivers.token_issuer import keys_served, token
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import Raw, an_event, produce, record_of, sql, start_projector, wait_until_owning
from tests.tcp_proxy import TcpProxy, tcp_proxy

State: TypeAlias = Literal["usual", "empty", "very many", "not looked yet", "away"]
STATES: tuple[State, ...] = ("usual", "empty", "very many", "not looked yet", "away")
LOOKS = list(product((360, 1920), ("light", "dark")))
LONG = "FOOTFALL_LONG" in os.environ
EXAMINED: set[str] = set()  # what pages told that were examined for who cannot see
HEAVIEST = 300 * 1024  # bytes of a page with all that it loads, unpacked
PARTITIONS = 40  # of the topic where there is very much
WIDE = "W" * 128  # a text without a place to break
MANY = (
    f"""
INSERT INTO read_g1.dead_letters (kafka_topic, kafka_partition, kafka_offset, recorded_at, parked_at, cause,
    error_class, error_message, behind_offset, user_id, record_key, record_value, header_names, header_values)
SELECT '{{topic}}', n % 40, n / 40, now(), now() - interval '400 days',
    CASE n % 2 WHEN 0 THEN 'poison' ELSE 'behind' END,
    'Error' || n % 40 || '{WIDE}', '{WIDE}' || n, CASE n % 2 WHEN 0 THEN NULL ELSE n / 2000 END, 'user-' || n,
    convert_to('user-' || n, 'UTF8'), convert_to(repeat('{WIDE}', CASE n WHEN 0 THEN 600 ELSE 1 END), 'UTF8'),
    ARRAY['{WIDE}'], ARRAY[convert_to('{WIDE}', 'UTF8')]::bytea[] FROM generate_series(0, 9999) AS n""",
    f"""
INSERT INTO read_g1.product_views (tenant_id, product_id, hour, views, users, kafka_partition)
SELECT 'default', '{WIDE}' || n, date_trunc('hour', now()), 1000000000 + n, 1, 0 FROM generate_series(1, 500) AS n""",
    """
INSERT INTO read_g1.activity_hourly (tenant_id, hour, event_type, events, users, kafka_partition)
SELECT 'default', date_trunc('hour', now()) - n * interval '1 hour', 'TYPE_' || m, 1000000000 + n, 1000000, 0
FROM generate_series(0, 700) AS n, generate_series(1, 12) AS m""",
)

pytestmark = NEEDS_BROWSER


class Shown:
    """A console in some state, and the addresses of all its pages."""

    def __init__(self, console: Process, all_pages: list[str], *, may_fail: bool) -> None:
        self.url, self.addresses, self.may_fail = console.url, all_pages, may_fail


def test_every_page_that_there_is_is_in_these_tests() -> None:
    known = [*QUERIES, *PARTS, *OF_SIGNING_IN]
    assert sorted(known) == sorted(routed()), "tests/drivers/console_browser.py has to say how a new page is opened"


@pytest.fixture(scope="module")
def shown(new_footfall: Callable[..., Footfall]) -> Iterator[Callable[[State], Shown]]:
    """Makes the console of a state, once. All are made before the browser, whose event loop would be in their way."""
    with ExitStack() as stack:
        made = {state: stack.enter_context(MAKE[state](new_footfall)) for state in STATES}
        yield lambda state: made[state]


@pytest.fixture(scope="module")
def browser(shown: Any, closed: Any) -> Iterator[Browser]:
    with chromium() as found:
        yield found


@contextmanager
def instance(new_footfall: Callable[..., Footfall], partitions: int = 6) -> Iterator[Footfall]:
    footfall = new_footfall(partitions)
    try:
        yield footfall
    finally:
        footfall.close()


def acting(footfall: Footfall, **more: str) -> Process:
    return footfall.start("console", ready=False, OPERATOR_DATABASE_URL=footfall.servers.admin_url, **more)


@pytest.fixture(scope="module")
def closed(new_footfall: Callable[..., Footfall]) -> Iterator[Process]:
    """A console where people sign in; nothing else runs."""
    with instance(new_footfall) as footfall, keys_served() as issuer:
        more = {"OPERATOR_DATABASE_URL": footfall.servers.admin_url, "OIDC_TENANT": "default", **issuer}
        console = started(footfall, **more)
        wait_until(lambda: text_of(console, "/console/sign-in") != "", 30, "the console")
        yield console


@contextmanager
def usual(new_footfall: Callable[..., Footfall]) -> Iterator[Shown]:
    with instance(new_footfall) as footfall:
        projector = start_projector(footfall)
        wait_until_owning(projector, 6)
        bad = [Raw(b"{", b"bad-user", 0), Raw(b"{}", b"bad-user", 0)]
        produce(
            footfall, [*bad, *(record_of(an_event(f"user-{n % 5}", {"productId": f"p-{n}"}), 1) for n in range(40))]
        )
        console = acting(footfall, CONSOLE_WATCH_URLS=projector.url)
        wait_until(lambda: "2 events are parked" in text_of(console, "/console"), 30, "the letters to be seen")
        yield Shown(console, addresses(console.url, footfall.topic, queries=9), may_fail=False)


@contextmanager
def empty(new_footfall: Callable[..., Footfall]) -> Iterator[Shown]:
    with instance(new_footfall) as footfall:
        console = acting(footfall)
        wait_until(lambda: "read_g1" in text_of(console, "/console/rebuilds"), 30, "the first look")
        yield Shown(console, addresses(console.url, footfall.topic), may_fail=False)


@contextmanager
def very_many(new_footfall: Callable[..., Footfall]) -> Iterator[Shown]:
    """Of everything; and no projector, so that each of many partitions is a finding."""
    with instance(new_footfall, PARTITIONS) as footfall:
        for statement in MANY:
            sql(footfall.servers, statement.replace("{topic}", footfall.topic))
        users = [f"{WIDE}{n}" for n in range(60)]
        produce(
            footfall, [record_of(an_event(user, {"productId": WIDE}), n % PARTITIONS) for n, user in enumerate(users)]
        )
        console = acting(footfall, CONSOLE_WATCH_URLS=",".join(f"http://{WIDE[:60]}-{n}.invalid:1" for n in range(30)))
        wait_until(lambda: "and" in text_of(console, "/console") and "more:" in text_of(console, "/console"), 60, "it")
        found = addresses(console.url, footfall.topic)
        yield Shown(console, [*found, "/console/find?q=0-0", "/console/activity?days=30"], may_fail=False)


@contextmanager
def not_looked_yet(new_footfall: Callable[..., Footfall]) -> Iterator[Shown]:
    """Both servers take connections and say nothing, so the first look has not ended."""
    with instance(new_footfall) as footfall:
        database, broker = urlsplit(footfall.servers.admin_url), urlsplit(f"//{footfall.servers.kafka}")
        with silent(database) as silent_database, silent(broker) as silent_broker:
            url = f"{silent_database.in_front_of(footfall.servers.admin_url)}?connect_timeout=1"
            kafka = f"127.0.0.1:{silent_broker.port}"
            console = started(footfall, DATABASE_URL=url, OPERATOR_DATABASE_URL=url, KAFKA_BOOTSTRAP_SERVERS=kafka)
            wait_until(lambda: text_of(console, "/console/rebuilds") != "", 30, "the console")
            yield Shown(console, addresses(console.url, footfall.topic), may_fail=True)


@contextmanager
def silent(server: SplitResult) -> Iterator[TcpProxy]:
    with tcp_proxy(str(server.hostname), server.port or 5432) as proxy:
        proxy.freeze()
        yield proxy


def started(footfall: Footfall, **environment: str) -> Process:
    start: Any = footfall.start
    process: Process = start("console", ready=False, **environment)
    return process


@contextmanager
def away(new_footfall: Callable[..., Footfall]) -> Iterator[Shown]:
    """PostgreSQL was there, and is not any more."""
    with instance(new_footfall) as footfall:
        at = urlsplit(footfall.servers.admin_url)
        with tcp_proxy(str(at.hostname), at.port or 5432) as proxy:
            url = proxy.in_front_of(footfall.servers.admin_url)
            console = started(footfall, DATABASE_URL=url, OPERATOR_DATABASE_URL=url)
            wait_until(lambda: "read_g1" in text_of(console, "/console/rebuilds"), 30, "the first look")
            found = addresses(console.url, footfall.topic)
            proxy.cut()
            wait_until(lambda: "It cannot be used" in text_of(console, "/console"), 30, "it to be seen")
            yield Shown(console, found, may_fail=True)


MAKE: dict[State, Callable[[Callable[..., Footfall]], Any]] = {
    "usual": usual,
    "empty": empty,
    "very many": very_many,
    "not looked yet": not_looked_yet,
    "away": away,
}


def text_of(console: Process, path: str) -> str:
    assert console.popen.poll() is None, console.log_text()[-3000:]
    try:
        return httpx.get(f"{console.url}{path}", timeout=PATIENCE).text
    except httpx.TransportError:  # it starts
        return ""


@pytest.mark.parametrize("state", STATES)
def test_every_page_fits_every_width_in_light_and_dark_and_is_told_to_who_cannot_see(
    state: State, shown: Callable[[State], Shown], browser: Browser
) -> None:
    """Each page in one look of four, which differs by page and state; with FOOTFALL_LONG in all of them."""
    console, axe = shown(state), axe_source()
    for number, (width, scheme) in enumerate(LOOKS):
        viewport: Any = {"width": width, "height": 900}
        found = Watched(
            browser,
            console.url,
            may_fail=console.may_fail,
            viewport=viewport,
            color_scheme=scheme,
            bypass_csp=True,
        )
        for place, path in enumerate(console.addresses):
            if not LONG and (place + STATES.index(state)) % len(LOOKS) != number:
                continue
            page = found.open(path)
            where = state, path, width, scheme
            told = page.locator("main").inner_text()
            # An error is the same on many pages, and a long table is as a short one; that takes axe its time.
            is_examined = LONG or (told not in EXAMINED and state != "very many")
            EXAMINED.add(told)
            assert_well_shown(page, axe if is_examined else "", where)
        found.context.close()
        found.assert_well()


def assert_well_shown(page: Page, axe: str, where: object) -> None:
    """It has one title, fits, is light, and is told to who cannot see, if `axe` is to look."""
    assert page.locator("h1").count() == 1, where
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), where
    assert_light(page, where)
    wrong = serious(page, axe) if axe else []
    assert not wrong, (where, json.dumps(wrong)[:2000])


def assert_light(page: Page, where: object) -> None:
    """It weighs little; `make bench` says how soon it is painted."""
    weight = page.evaluate(
        "['navigation', 'resource'].flatMap((kind) => performance.getEntriesByType(kind))"
        ".reduce((sum, each) => sum + each.decodedBodySize, 0)"
    )
    assert 10_000 < weight <= HEAVIEST, (where, weight)


@pytest.mark.parametrize("state", STATES)
def test_every_page_is_read_without_javascript(state: State, shown: Callable[[State], Shown], browser: Browser) -> None:
    console = shown(state)
    found = Watched(browser, console.url, may_fail=console.may_fail, java_script_enabled=False)
    for path in console.addresses:
        page = found.open(path)
        assert page.locator("h1").inner_text()
        told = page.locator("main").inner_text()
        assert len(told.splitlines()) > 1, (state, path, told)
        assert not re.search(r"^(Loading|Connecting)", told, re.MULTILINE), (state, path, told)
    found.context.close()
    found.assert_well()


NEXT_FOCUS = """
() => {
  const at = document.activeElement, style = getComputedStyle(at), box = at.getBoundingClientRect();
  at.dataset.reached = "yes";
  return at === document.body ? null
    : [at.outerHTML.slice(0, 120), style.outlineStyle !== "none" && style.outlineWidth !== "0px", box.width];
}
"""
NOT_REACHED = """
() => [...document.querySelectorAll("a[href],button,input:not([type=hidden]),select,textarea,summary,[tabindex='0']")]
  .filter((each) => each.checkVisibility() && !each.disabled && each.dataset.reached !== "yes")
  .map((each) => each.outerHTML.slice(0, 120))
"""


def test_every_page_is_led_by_the_keyboard_alone(shown: Callable[[State], Shown], browser: Browser) -> None:
    console = shown("usual")
    found = Watched(browser, console.url, viewport={"width": 1280, "height": 900})
    of_each_page = {path.partition("?")[0]: path for path in reversed(console.addresses)}
    for path in console.addresses if LONG else of_each_page.values():
        page = found.open(path)
        page.evaluate("document.activeElement.blur(), getSelection().removeAllRanges()")
        reached: list[str] = []
        for _ in range(400):
            page.keyboard.press("Tab")
            at = page.evaluate(NEXT_FOCUS)
            if at is None:
                continue  # from the end of the page to its beginning
            if reached and at[0] == reached[0]:
                break
            element, has_outline, area = at
            assert has_outline, (path, element, "the focus is not seen")
            assert area > 0, (path, element)
            reached.append(element)
        assert page.evaluate(NOT_REACHED) == [], path
        assert any('class="skip"' in each for each in reached), path
    found.context.close()
    found.assert_well()


@pytest.mark.parametrize(("width", "scheme"), LOOKS if LONG else [LOOKS[0], LOOKS[-1]])
def test_the_pages_of_signing_in_are_well_and_led_by_the_keyboard_alone(
    width: int, scheme: Any, closed: Process, browser: Browser
) -> None:
    now, axe = int(time.time()), axe_source()
    key = token("ES256", now, scope="events:read operator", iat=now - 5, exp=now + 600).decode()
    viewport: Any = {"width": width, "height": 900}
    found = Watched(browser, closed.url, viewport=viewport, color_scheme=scheme, bypass_csp=True)
    page = found.page
    shown = []
    for keys, title in ((["nonsense", "Enter"], "Sign in"), ([key, "Enter"], "Overview")):
        page = found.open(OF_SIGNING_IN[0])
        assert_well_shown(page, axe, (OF_SIGNING_IN[0], width, scheme))
        for pressed in keys:  # the field has the focus
            page.keyboard.press(pressed) if pressed == "Enter" else page.keyboard.insert_text(pressed)
        page.get_by_role("heading", name=title, level=1).wait_for()
        shown.append(page.locator("main").inner_text())
    assert "opens nothing here" in shown[0]
    page = found.open(OF_SIGNING_IN[1])
    assert "this one" in page.locator("main").inner_text()
    assert_well_shown(page, axe, (OF_SIGNING_IN[1], width, scheme))
    page.get_by_role("button", name="Sign out").focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Sign in", level=1).wait_for()
    found.context.close()
    assert [each for each in found.problems if not each.startswith("403 ")] == []
    assert found.foreign == []
