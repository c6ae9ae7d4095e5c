"""The end of a session while pages of the console are open: streams end, and pages lead to the form, which says why."""

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, Route, sync_playwright

from console.sessions import SIGN_IN
from tests.conftest import Footfall
from tests.drivers.token_issuer import keys_served, token
from tests.foreign_clients import needed
from tests.patience import PATIENCE
from tests.processes import Process

LIFE = 5  # seconds of a token that expires in the test
SCOPE = "events:read operator"


@pytest.fixture(scope="module")
def console(shared_footfall: Footfall) -> Iterator[Process]:
    """A console whose door takes access tokens."""
    with keys_served() as issuer:
        yield shared_footfall.start(
            "console",
            ready=True,
            OPERATOR_DATABASE_URL=shared_footfall.servers.admin_url,
            OIDC_LEEWAY_MS="0",
            OIDC_TENANT="default",
            STREAM_HEARTBEAT_MS="200",
            **issuer,
        )


def fresh_token(life: int = 600) -> str:
    now = time.time()
    return token("ES256", now, scope=SCOPE, iat=int(now) - 5, exp=int(now) + life).decode()


@contextmanager
def signed_in(console: Process, key: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=console.url, timeout=PATIENCE) as client:
        answer = client.post(SIGN_IN, data={"key": key, "token": form_token(client.get(SIGN_IN).text)})
        assert answer.status_code == 303, answer.text
        yield client


def form_token(page: str) -> str:
    return str(re.findall(r'name="token" value="([0-9a-f]{64})"', page)[0])


def test_signing_out_ends_the_streams_that_other_pages_of_the_session_follow(console: Process) -> None:
    key = fresh_token()
    with signed_in(console, key) as client, client.stream("GET", "/events/stream") as followed:
        told = followed.iter_text()
        assert "event: begin" in next(told)
        program = {"Authorization": f"Bearer {key}"}
        with httpx.stream("GET", f"{console.url}/events/stream", headers=program, timeout=PATIENCE) as other:
            heard = other.iter_text()
            assert "event: begin" in next(heard)
            client.post("/console/sign-out", data={"token": form_token(client.get("/console").text)})
            assert '"reason":"credentials"' in "".join(told)
            assert "heartbeat" in next(heard), "a program with the same key goes on"
        assert client.get("/events/stream").status_code == 401


def test_a_token_that_expires_ends_streams_and_pages_of_its_session(console: Process) -> None:
    with signed_in(console, fresh_token(LIFE)) as client:
        discard = {"token": form_token(client.get("/console").text), "reason": "never"}
        with client.stream("GET", "/events/stream") as followed:
            assert '"reason":"credentials"' in "".join(followed.iter_text())
        part = client.get("/console/now", headers={"HX-Request": "true"})
        assert (part.status_code, part.headers["hx-redirect"]) == (204, SIGN_IN)
        answer = client.post("/console/dead-letters/discard", data=discard)
        assert (answer.status_code, answer.headers["location"]) == (303, SIGN_IN)
        assert "The session has ended" in client.get(SIGN_IN).text
        again = client.post(SIGN_IN, data={"key": "a.b.c", "token": form_token(client.get(SIGN_IN).text)})
        assert (again.status_code, "The token is malformed." in again.text) == (403, True)


@pytest.fixture
def tabs() -> Iterator[BrowserContext]:
    needed("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        context = browser.new_context()
        context.set_default_timeout(PATIENCE * 1000)
        yield context
        browser.close()


def opened(tabs: BrowserContext, url: str) -> Page:
    page = tabs.new_page()
    page.goto(url)
    return page


def test_signing_out_in_one_tab_leads_every_other_to_the_form(console: Process, tabs: BrowserContext) -> None:
    page = opened(tabs, f"{console.url}/console")
    page.get_by_label("API key or access token").fill(fresh_token())
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Overview").wait_for()
    live, overview = opened(tabs, f"{console.url}/console/live"), opened(tabs, f"{console.url}/console")
    live.get_by_text("Connected").wait_for()
    page.get_by_role("button", name="Sign out").click()
    for tab in (page, live, overview):
        tab.wait_for_url(f"**{SIGN_IN}")
        assert tab.get_by_role("heading", level=1).all_inner_texts() == ["Sign in"], "one page, none in another"


def test_the_tail_tries_again_after_an_answer_that_ends_an_event_source(console: Process, tabs: BrowserContext) -> None:
    """A browser gives up for ever when a proxy answers 502 while the console restarts."""
    page = opened(tabs, f"{console.url}/console")
    page.get_by_label("API key or access token").fill(fresh_token())
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Overview").wait_for()
    away = True

    def proxied(route: Route) -> Any:
        return route.fulfill(status=502, body="<html>") if away else route.continue_()

    page.route("**/events/stream*", proxied)
    page.goto(f"{console.url}/console/live")
    page.get_by_text("The stream is refused (502); it is tried again every 5 s.").wait_for()
    away = False
    page.get_by_text("Connected").wait_for()
