"""Whoever may only look is told so on every action, and is offered none."""

import re

import pytest

from tests.drivers.console import browser, console_behind, form_token, signed_in
from tests.drivers.keys import HandMadeRegister
from web.access import ACCESS
from web.policies.principal import AccessScope

CONSOLE = {path: needed for path, needed in ACCESS.items() if path.startswith("/console")}
OF_OPERATORS = [path for path, needed in CONSOLE.items() if needed is AccessScope.OPERATOR]


async def test_a_reader_is_refused_every_action_and_told_which_scope_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = HandMadeRegister()
    app = console_behind(keys.identity, monkeypatch)
    with browser(app) as client:
        await signed_in(client, keys.key(scopes=[AccessScope.EVENTS_READ]))
        token = await form_token(client, "/console")
        assert len(OF_OPERATORS) >= 9
        for path in OF_OPERATORS:
            for answer in (await client.get(path), await client.post(path, data={"token": token, "what": "promote"})):
                assert (answer.status_code, "needs the scope operator" in answer.text) == (403, True), path


async def test_no_page_that_a_reader_sees_has_a_form_that_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = HandMadeRegister()
    app = console_behind(keys.identity, monkeypatch)
    with browser(app) as client:
        await signed_in(client, keys.key(scopes=[AccessScope.EVENTS_READ]))
        for path in ("/console", "/console/rebuilds", "/console/projectors", "/console/find", "/console/live"):
            page = (await client.get(path)).text
            assert set(re.findall(r'method="post" action="([^"]+)"', page)) == {"/console/sign-out"}, path
            assert not set(re.findall(r'href="(/console[^"?]*)', page)) & set(OF_OPERATORS), path
            assert "looks only" in page
