"""Whatever refuses a browser at the console is a page with the reason and what to do; a program gets the envelope."""

import re
from collections.abc import Callable

import httpx
import pytest

from tests.drivers.console import browser, console_behind, form_token, signed_in
from tests.drivers.identity import OneKey
from tests.drivers.keys import HandMadeRegister
from web.access import ACCESS
from web.policies.decisions import Decision, Refuse
from web.policies.principal import AccessScope
from web.policies.request_head import RequestHead

PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
OF_OPERATORS = sorted(
    path for path, needed in ACCESS.items() if path.startswith("/console") and needed is AccessScope.OPERATOR
)


def assert_page(answer: httpx.Response, status: int, says: str, does: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8"), answer.text
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert len(answer.headers.get_list("content-security-policy")) == 1
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert re.search(r"<h1>[^<]+</h1>", answer.text)
    for text in (says, does, answer.headers["x-request-id"]):
        assert text in answer.text, (text, answer.text)


async def test_a_scope_that_is_missing_is_a_page_to_a_browser_and_an_envelope_to_a_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = HandMadeRegister()
    app = console_behind(keys.identity, monkeypatch)
    with browser(app) as client:
        await signed_in(client, keys.key(scopes=[AccessScope.EVENTS_READ]))
        for path in OF_OPERATORS:
            for ask in (client.get, client.post):
                answer = await ask(path, headers=PAGE)
                assert_page(answer, 403, "This needs the scope operator", "Sign out, and sign in with a key")
                assert answer.headers["www-authenticate"]
                assert 'action="/console/sign-out"' in answer.text
                for other in ({"Accept": "*/*"}, {"Accept": "application/json"}, {**PAGE, "HX-Request": "true"}):
                    assert (await ask(path, headers=other)).json()["success"] is False


@pytest.mark.parametrize("path", ["/console/nowhere", "/console/dead-letters/x/y", "/console/assets/x.js"])
async def test_a_page_that_is_not_there_says_so(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = HandMadeRegister()
    app = console_behind(keys.identity, monkeypatch)
    for scopes in ([AccessScope.EVENTS_READ], list(AccessScope)):
        with browser(app) as client:
            await signed_in(client, keys.key("operator", scopes))
            assert_page(await client.get(path, headers=PAGE), 404, "Not found", "To the overview")
            assert (await client.get(path)).json()["error"] == "Not found"


async def test_the_front_of_the_service_stays_an_envelope_to_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    with browser(console_behind(OneKey(), monkeypatch)) as client:
        for path in ("/consoles", "/events/processed", "/nowhere"):
            assert (await client.get(path, headers=PAGE)).json()["success"] is False


async def test_a_method_that_no_page_has_and_a_failure_that_nobody_foresaw_are_pages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = console_behind(OneKey(), monkeypatch)
    with browser(app) as client:
        await signed_in(client)
        assert_page(await client.put("/console", headers=PAGE), 405, "Method PUT is not allowed", "To the overview")
        monkeypatch.setattr("console.pages.overview.now_shown", lambda _: 1 / 0)
        assert_page(await client.get("/console", headers=PAGE), 500, "Internal server error", "the log of the console")


@pytest.mark.parametrize(
    ("refusal", "does"),
    [
        (Refuse(429, "Too many requests.", ((b"retry-after", b"7"),)), "Wait a moment"),
        (Refuse(503, "This process cannot check keys yet."), "<code>footfall doctor</code>"),
        (Refuse(400, "", problems=("One.", "Two.")), "One. Two."),
    ],
)
async def test_each_policy_is_told_as_a_page(refusal: Refuse, does: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = console_behind(refusing("/console", refusal), monkeypatch)
    with browser(app) as client:
        answer = await client.get("/console", headers={**PAGE, "Authorization": "Bearer good"})
        assert_page(answer, refusal.status, refusal.error, does)
        assert {name.decode(): answer.headers[name.decode()] for name, _ in refusal.headers} == {
            name.decode(): value.decode() for name, value in refusal.headers
        }


async def test_while_nobody_can_check_a_key_the_pages_keep_their_style_and_whoever_wants_signs_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    door, away = OneKey(), Refuse(503, "This process cannot check keys yet.")
    is_away = False

    def identity(head: RequestHead) -> Decision:
        return away if is_away and dict(head.headers).get(b"authorization") else door(head)

    with browser(console_behind(identity, monkeypatch)) as client:
        await signed_in(client)
        token = await form_token(client, "/console")
        is_away = True
        assert_page(await client.get("/console/live", headers=PAGE), 503, away.error, "footfall doctor")
        assert (await client.get("/console/assets/console.css")).status_code == 200
        answer = await client.post("/console/sign-in", data={"key": "good", "token": await form_token(client)})
        assert (answer.status_code, "Kafka for keys" in answer.text) == (503, True)
        answer = await client.post("/console/sign-out", data={"token": token})
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/sign-in")
        is_away = False
        assert (await client.get("/console")).headers["location"] == "/console/sign-in"


def refusing(path: str, refusal: Refuse) -> Callable[[RequestHead], Decision]:
    door = OneKey()
    return lambda head: refusal if head.path == path else door(head)
