"""The console's application behind a door of a test, and a browser without pages: cookies and forms."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

import footfall.processes.console
from console.sessions import SIGN_IN
from footfall.processes.identity import Door
from tests.drivers.applications import application_of
from web.middleware import Middleware
from web.policies.decisions import RequestPolicy


def console_behind(identity: RequestPolicy, monkeypatch: pytest.MonkeyPatch) -> Middleware:
    with monkeypatch.context() as patched:
        patched.setattr(footfall.processes.console, "load_identity", lambda *_: Door(identity))
        return application_of("console", patched)


@contextmanager
def browser(app: Middleware, scheme: str = "http") -> Iterator[httpx.AsyncClient]:
    yield httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=f"{scheme}://console.test")


async def form_token(client: httpx.AsyncClient, path: str = SIGN_IN) -> str:
    [found, *_] = re.findall(r'name="token" value="([0-9a-f]{64})"', (await client.get(path)).text)
    return str(found)


async def signed_in(client: httpx.AsyncClient, key: str = "good") -> httpx.Response:
    return await client.post(SIGN_IN, data={"key": key, "token": await form_token(client)})
