"""Signing in at the console and out again, as a browser does it: the cookie, the form, and what is left afterwards."""

import asyncio
import re
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie

import pytest
from structlog.testing import capture_logs

from console import asking
from console.sessions import COOKIE, SECURE_COOKIE, SIGN_IN
from tests.architecture.repository import ROOT
from tests.drivers.console import browser, console_behind, form_token, signed_in
from tests.drivers.identity import OneKey
from tests.drivers.keys import HandMadeRegister
from web.middleware import Middleware
from web.policies.decisions import Decision, Refuse
from web.policies.principal import AccessScope
from web.policies.request_head import RequestHead


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Middleware:
    """The console, whose door knows one key."""
    return console_behind(OneKey(), monkeypatch)


@pytest.mark.parametrize(("scheme", "name"), [("http", COOKIE), ("https", SECURE_COOKIE)])
async def test_a_cookie_is_kept_from_scripts_other_sites_and_plain_connections(
    app: Middleware, scheme: str, name: str
) -> None:
    with browser(app, scheme) as client, capture_logs() as logs:
        answer = await signed_in(client)
        assert (answer.status_code, answer.headers["location"]) == (303, "/console")
        [cookie] = SimpleCookie(answer.headers["set-cookie"]).values()
        assert cookie.key == name
        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
        assert cookie["domain"] == cookie["max-age"] == cookie["expires"] == ""
        assert bool(cookie["secure"]) is (scheme == "https")
        assert "good" not in answer.headers["set-cookie"]
        assert next(log for log in logs if log["event"] == "signed_in")["subject"] == "key:1"
        page = await client.get("/console")
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")


@pytest.mark.parametrize(
    ("says", "is_secure"),
    [
        ({"X-Forwarded-Proto": "https"}, True),
        ({"X-Forwarded-Proto": "https, http"}, True),
        ({"X-Forwarded-Proto": "http"}, False),
        ({"Referer": "https://console.test/console/sign-in"}, True),
        ({"Referer": "http://console.test/console/sign-in"}, False),
        ({}, False),
    ],
)
async def test_behind_a_proxy_that_ends_tls_a_cookie_is_secure_also_without_an_origin(
    app: Middleware, says: dict[str, str], is_secure: bool
) -> None:
    with browser(app) as client:
        client.headers.update(says)
        answer = await signed_in(client)
        [cookie] = SimpleCookie(answer.headers["set-cookie"]).values()
        assert (cookie.key, bool(cookie["secure"])) == (SECURE_COOKIE if is_secure else COOKIE, is_secure)


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        (SIGN_IN, "text/html"),
        ("/console/assets/console.css", "text/css"),
        ("/console/assets/console.js", "text/javascript"),
    ],
)
async def test_a_page_and_its_files_name_their_charset_once(app: Middleware, path: str, media_type: str) -> None:
    with browser(app, "https") as client:
        assert (await client.get(path)).headers["content-type"] == f"{media_type}; charset=utf-8"


@pytest.mark.parametrize("neighbour", ['look={"dark":true}', 'half="', "a b", "mail@home=1", "\xe9=1", "expires=x"])
async def test_cookies_of_others_on_the_host_hide_no_session(app: Middleware, neighbour: str) -> None:
    with browser(app) as client:
        await signed_in(client)
        mine = f"{COOKIE}={client.cookies[COOKIE]}"
    with browser(app) as client:
        for cookies in (f"{neighbour}; {mine}", f"{mine};{neighbour}"):
            answer = await client.get("/console", headers={b"cookie": cookies.encode("latin-1")})
            assert answer.status_code == 200


async def test_signing_out_ends_the_session_and_so_does_signing_in_again(app: Middleware) -> None:
    with browser(app, "https") as client:
        await signed_in(client)
        first = dict(client.cookies)
        await signed_in(client)
        assert dict(client.cookies) != first
        assert (await client.get("/console", cookies=None)).status_code == 200
        with browser(app, "https") as other:
            other.cookies.update(first)
            assert (await other.get("/console")).headers["location"] == SIGN_IN
        last = dict(client.cookies)
        page = (await client.get("/console")).text
        assert re.search(r'<form method="post" action="/console/sign-out">', page)
        assert (await client.post("/console/sign-out", data={"token": "f" * 64})).status_code == 403
        answer = await client.post("/console/sign-out", data={"token": await form_token(client, "/console")})
        assert (answer.status_code, answer.headers["location"]) == (303, SIGN_IN)
        assert answer.headers["clear-site-data"] == '"cache", "storage"'
        assert SECURE_COOKIE not in client.cookies
        with browser(app, "https") as other:
            other.cookies.update(last)
            assert (await other.get("/console")).headers["location"] == SIGN_IN


async def test_what_opens_nothing_gets_no_cookie_and_the_field_for_it_shows_nothing(app: Middleware) -> None:
    with browser(app) as client:
        assert re.search(r'<input id="key" name="key" type="password"', (await client.get(SIGN_IN)).text)
        for key in ("bad", "", "good good", "x" * 20_000):
            answer = await signed_in(client, key)
            assert answer.status_code == 403
            assert "set-cookie" not in answer.headers
        answer = await client.post(SIGN_IN, data={"key": "good"})
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


async def test_real_keys_sign_in_and_the_page_says_why_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = HandMadeRegister()
    app = console_behind(keys.identity, monkeypatch)
    reader = keys.key(scopes=[AccessScope.EVENTS_READ])
    refused = {
        keys.key(revoked=True): "This key was revoked.",
        "ffs_" + "a" * 43: "This key is not known.",
        keys.key(scopes=[AccessScope.EVENTS_WRITE]): "lacks the scope events:read",
        keys.key("public"): "This key is not for this origin",
    }
    with browser(app) as client:
        for key, says in refused.items():
            answer = await signed_in(client, key)
            assert (answer.status_code, says in answer.text) == (403, True), answer.text
            assert "set-cookie" not in answer.headers
        form = (await client.get(SIGN_IN)).text
        assert "/console/dead-letters" not in form, "nobody is told anything before the sign-in"
        assert (await signed_in(client, reader)).status_code == 303
        page = (await client.get("/console")).text
        assert ("/console/live" in page, "/console/settings" in page) == (True, False), "what a reader may see"


async def test_while_keys_cannot_be_checked_nobody_is_signed_out_and_the_form_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    door, away = OneKey(), Refuse(503, "This process cannot check keys yet.", ((b"retry-after", b"2"),))
    is_away = False

    def identity(head: RequestHead) -> Decision:
        return away if is_away and dict(head.headers).get(b"authorization") else door(head)

    app = console_behind(identity, monkeypatch)
    with browser(app) as client:
        await signed_in(client)
        is_away = True
        assert (await client.get("/console")).status_code == 503
        with browser(app) as other:
            answer = await signed_in(other)
            assert (answer.status_code, away.error in answer.text) == (503, True)
        is_away = False
        assert (await client.get("/console")).status_code == 200


async def test_a_page_whose_session_has_ended_leads_to_the_form_which_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    door = OneKey()
    app = console_behind(door, monkeypatch)
    with browser(app) as client:
        await signed_in(client)
        token = await form_token(client, "/console")
        door.revoked = True
        part = await client.get("/console/now", headers={"HX-Request": "true"})
        assert (part.status_code, part.headers["hx-redirect"], part.text) == (204, SIGN_IN, "")
        discard = await client.post("/console/dead-letters/discard", data={"token": token, "reason": "x"})
        assert (discard.status_code, discard.headers["location"]) == (303, SIGN_IN)
        assert "nothing was done" in (await client.get(SIGN_IN)).text
        program = await client.post("/console/dead-letters/discard", json={})
        assert (program.status_code, program.json()["success"]) == (401, False)
        assert (await client.post("/console/sign-out", data={"token": token})).headers["location"] == SIGN_IN
        assert "nothing was done" not in (await client.get(SIGN_IN)).text


async def test_a_form_behind_a_proxy_that_changes_the_host_is_told_so(app: Middleware) -> None:
    with browser(app) as client:
        token = await form_token(client)
        for origin in ("https://console.example", "http://console.test:8080"):
            answer = await client.post(SIGN_IN, data={"key": "good", "token": token}, headers={"Origin": origin})
            assert answer.status_code == 403
            assert "proxy_set_header Host $http_host" in answer.text, "the remedy is at the proxy"
        same = {"Origin": "http://console.test"}
        assert (await client.post(SIGN_IN, data={"key": "good", "token": token}, headers=same)).status_code == 303


async def test_a_browser_that_several_processes_answer_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """They share no sessions: a proxy has to lead each browser to one of them."""
    first, second = console_behind(OneKey(), monkeypatch), console_behind(OneKey(), monkeypatch)
    with browser(first) as here, browser(second) as there:
        answer = await there.post(SIGN_IN, data={"key": "good", "token": await form_token(here)})
        assert (answer.status_code, "Another console process gave this form" in answer.text) == (403, True)
        await signed_in(here)
        token = await form_token(here, "/console")
        there.cookies.update(here.cookies)
        for path in ("/console", "/console/rebuilds"):
            assert (await there.get(path)).headers["location"] == SIGN_IN
        page = (await there.get(SIGN_IN)).text
        assert "another console process has it" in page
        assert "lead each browser to the same one" in page, "what to do, too"
        await signed_in(there)
        answer = await there.post("/console/sign-out", data={"token": token})
        assert (answer.status_code, "several processes answer in turn" in answer.text) == (403, True)
        mine = await form_token(there, "/console")
        there.cookies.clear()
        answer = await there.post("/console/sign-out", data={"token": mine})
        assert (answer.status_code, "came from somewhere else, or is too old" in answer.text) == (403, True)


async def test_a_form_that_never_comes_does_not_hold_its_place(
    app: Middleware, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "FORM_TIMEOUT", 0.05)
    never = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"token="
        await never.wait()

    with browser(app) as client:
        answer = await client.post(SIGN_IN, content=endless())
        assert (answer.status_code, asking.TOO_SLOW in answer.text) == (408, True)


def test_the_pages_keep_nothing_in_the_browser() -> None:
    ours = (ROOT / "console" / "assets" / "console.js").read_text()
    assert not re.search(r"localStorage|sessionStorage|indexedDB|document\.cookie|caches\b", ours)
    assert '"historyCacheSize":0' in (ROOT / "console" / "templates" / "base.html").read_text()
