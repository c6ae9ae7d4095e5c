"""Sessions of the console: everybody sees and ends their own, operators all, with their key or token once more."""

import re
from collections.abc import Iterator

import httpx
import pytest
from structlog.testing import capture_logs

from console.sessions import COOKIE, SIGN_IN
from tests.drivers.console import browser, console_behind, form_token, signed_in
from tests.drivers.keys import HandMadeRegister
from web.middleware import Middleware
from web.policies.principal import AccessScope

SESSIONS, END = "/console/sessions", "/console/sessions/end"


@pytest.fixture
def keys() -> HandMadeRegister:
    return HandMadeRegister()


@pytest.fixture
def app(keys: HandMadeRegister, monkeypatch: pytest.MonkeyPatch) -> Middleware:
    return console_behind(keys.identity, monkeypatch)


@pytest.fixture
def browsers(app: Middleware) -> Iterator[list[httpx.AsyncClient]]:
    """Four, with cookies of their own."""
    with browser(app) as first, browser(app) as second, browser(app) as third, browser(app) as fourth:
        yield [first, second, third, fourth]


async def shown_to(client: httpx.AsyncClient) -> list[tuple[str, str, bool]]:
    """Name and subject of each session that the page shows, and whether it is the browser's own."""
    page = (await client.get(SESSIONS)).text
    rows = re.findall(r"<tr><td>(\S+?)( <span.*?this one</span>)?</td>.*?value=\"([0-9a-f]{16})\"", page)
    return [(name, subject, bool(mine)) for subject, mine, name in rows]


async def end(client: httpx.AsyncClient, session: str, key: str) -> httpx.Response:
    given = {"session": session, "key": key, "token": await form_token(client, SESSIONS)}
    return await client.post(END, data=given)


async def is_in(client: httpx.AsyncClient) -> bool:
    return (await client.get("/console")).status_code == 200


async def test_everybody_sees_and_ends_their_own_sessions(
    keys: HandMadeRegister, browsers: list[httpx.AsyncClient]
) -> None:
    mine, theirs = keys.key(scopes=[AccessScope.EVENTS_READ]), keys.key(scopes=[AccessScope.EVENTS_READ])
    here, there, elsewhere, foreign = browsers
    for client in (here, there, elsewhere):
        await signed_in(client, mine)
    await signed_in(foreign, theirs)
    shown = await shown_to(here)
    assert [subject for _, subject, _ in shown] == ["key:k1"] * 3
    assert [is_mine for _, _, is_mine in shown] == [True, False, False], "the one used last comes first"
    page = (await here.get(SESSIONS)).text
    assert not any(client.cookies[COOKIE] in page for client in browsers), "what opens a session is on no page"
    assert "127.0.0.1" in page

    [(foreign_name, _, _)] = await shown_to(foreign)
    assert (await end(here, foreign_name, mine)).status_code == 404
    for key in ("", "ffs_" + "a" * 43, theirs):
        assert (await end(here, shown[1][0], key)).status_code == 403, "a stolen cookie ends nobody's session"
    assert [await is_in(client) for client in browsers] == [True] * 4
    with capture_logs() as logs:
        assert (await end(here, shown[1][0], mine)).headers["location"] == SESSIONS
    said = next(log for log in logs if log["event"] == "session_ended")
    assert (said["subject"], said["by"]) == ("key:k1", "key:k1")
    assert [await is_in(client) for client in browsers] == [True, True, False, True]
    assert (await end(here, "others", mine)).status_code == 303
    assert [await is_in(client) for client in browsers] == [True, False, False, True]
    [(own, _, _)] = await shown_to(here)
    await end(here, own, mine)
    assert (await here.get("/console")).headers["location"] == SIGN_IN


async def test_an_operator_sees_and_ends_everybodys(keys: HandMadeRegister, browsers: list[httpx.AsyncClient]) -> None:
    reader, operator = keys.key(scopes=[AccessScope.EVENTS_READ]), keys.key("operator")
    here, there, *_ = browsers
    await signed_in(there, reader)
    await signed_in(here, operator)
    shown = {subject: name for name, subject, _ in await shown_to(here)}
    assert set(shown) == {"key:k1", "key:k2"}
    with capture_logs() as logs:
        await end(here, shown["key:k1"], operator)
    assert {"subject": "key:k1", "by": "key:k2"}.items() <= next(
        log for log in logs if log["event"] == "session_ended"
    ).items()
    assert [await is_in(client) for client in (here, there)] == [True, False]


async def test_only_a_page_of_the_session_ends_one(keys: HandMadeRegister, browsers: list[httpx.AsyncClient]) -> None:
    key, (here, there, *_) = keys.key(scopes=[AccessScope.EVENTS_READ]), browsers
    await signed_in(here, key)
    await signed_in(there, key)
    [(own, _, _), *_] = await shown_to(here)
    token = await form_token(there, SESSIONS)
    answer = await here.post(END, data={"session": own, "key": key, "token": token})
    assert (answer.status_code, await is_in(here)) == (403, True)
    anonymous = await httpx.AsyncClient(transport=here._transport, base_url="http://console.test").get(SESSIONS)
    assert anonymous.headers["location"] == SIGN_IN
