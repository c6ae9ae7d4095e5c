"""Access tokens at a real server: who is let in, what the others are told, on both ways of a POST."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from footfall.processes.identity import load_identity
from identity.tokens.authenticator import TokenAuthenticator
from identity.tokens.tokens import tokens_of
from tests.drivers.raw_http import DIRECT, ON_ASGI, Client, port_of, post, served
from tests.drivers.token_issuer import (
    AUDIENCE,
    ISSUER,
    KeyServer,
    claims_at,
    header_for,
    settings,
    signed,
    token,
    whole,
)
from web.asgi import App, Message, Receive, Scope, Send, respond
from web.fast_handler import BufferedRequest
from web.middleware import Middleware
from web.policies.access import check_access
from web.policies.identity import Identity
from web.policies.passage import HEAD_KEY
from web.policies.principal import Principal

WAYS = (DIRECT, ON_ASGI)


@asynccontextmanager
async def door(issuer: KeyServer, **changed: Any) -> AsyncIterator[Client]:
    """A client of a server behind tokens, whose answers tell who asked."""
    tokens = tokens_of(settings(oidc_jwks_url=issuer.url, **changed))
    policies = (Identity([TokenAuthenticator(tokens)]), check_access)
    app = Middleware(tells_who, "test", {}, {}, {DIRECT.encode(): tells_who_at_once}, policies)
    async with served(app) as server:
        client = Client(*await asyncio.open_connection("127.0.0.1", port_of(server)))
        yield client
        client.writer.close()


def told(principal: Principal) -> bytes:
    return f'"{principal.tenant_id} {principal.subject}"'.encode()


async def tells_who(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    await respond(send, 201, told(scope[HEAD_KEY].fact(Principal)), b"application/json")


async def lifespan(receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "lifespan.shutdown":
        started: Message = {"type": "lifespan.startup.complete"}
        await send(started)
    await send({"type": "lifespan.shutdown.complete"})


def tells_who_at_once(request: BufferedRequest) -> None:
    request.answer(201, told(request.head.fact(Principal)), b"application/json")


_app: App = tells_who  # mypy holds the signature


async def answers(client: Client, *headers: str) -> list[tuple[int, dict[str, str], Any]]:
    """Of both ways, without what differs in every answer."""
    found = []
    for target in WAYS:
        status, given, body = await client.ask(post("user-1", *headers, target=target))
        found.append(
            (status, {name: value for name, value in given.items() if name not in ("date", "x-request-id")}, body)
        )
    return found


def bearer(text: bytes) -> str:
    return f"Authorization: Bearer {text.decode('latin-1')}"


async def test_a_token_says_tenant_and_subject_on_both_ways(issuer: KeyServer) -> None:
    async with door(issuer) as client:
        good = bearer(token("ES256", time.time()))
        for _ in range(2):  # the first one waits for the keys
            for status, _headers, body in await answers(client, good):
                assert (status, body) == (201, f"acme token:{ISSUER}/alice")
        assert issuer.asked == [b"/keys"]


@pytest.mark.parametrize(
    ("claims", "sentence"),
    [
        ({"exp": 1_700_000_000, "iat": 1_699_999_000}, "The token has expired."),
        ({"aud": "https://other.example.com"}, "The token is for another audience."),
        ({"iss": "https://id.example.com"}, "The token is of another issuer."),
    ],
)
async def test_a_refusal_has_the_same_bytes_on_both_ways(
    issuer: KeyServer, claims: dict[str, Any], sentence: str
) -> None:
    async with door(issuer) as client:
        first, second = await answers(client, bearer(token("RS256", time.time(), **claims)))
        assert first == second
        status, headers, body = first
        assert status == 401
        challenge = f'Bearer realm="footfall", error="invalid_token", error_description="{sentence}"'
        assert headers["www-authenticate"] == challenge
        assert body == {"success": False, "event": None, "errors": None, "error": sentence}


async def test_a_token_without_the_scope_is_forbidden(issuer: KeyServer) -> None:
    async with door(issuer) as client:
        first, second = await answers(client, bearer(token("RS256", time.time(), scope="openid events:read")))
        assert first == second
        status, headers, _ = first
        assert status == 403
        assert 'error="insufficient_scope", scope="events:write"' in headers["www-authenticate"]


async def test_while_the_issuer_is_away_the_answer_is_503_and_says_when_to_come_back(issuer: KeyServer) -> None:
    issuer.answer = whole(b"", "502 Bad Gateway")
    async with door(issuer) as client:
        first, second = await answers(client, bearer(token("RS256", time.time())))
        for status, headers, body in (first, second):
            assert status == 503
            assert 1 <= int(headers["retry-after"]) <= 5
            assert "issuer of tokens does not answer" in body["error"]
            assert "www-authenticate" not in headers


async def test_bytes_of_every_kind_are_refused_and_the_connection_goes_on(issuer: KeyServer) -> None:
    strange = [b"\xff.\xff.\xff", b"a.b.c", b"..", b"eyJ.eyJ.eyJ", b"%2e.%2e.%2e", b"x" * 20_000 + b".y.z"]
    async with door(issuer) as client:
        for text in strange:
            client.writer.write(post("user-1", "Authorization: Bearer TOKEN").replace(b"TOKEN", text))
            status, _, body = await client.answer()
            assert status == 401, text
            assert body["error"]
        assert issuer.asked == []  # nothing of it was worth a question


async def test_what_no_key_of_the_issuer_signed_is_refused_for_the_issuers_own_keys_too(issuer: KeyServer) -> None:
    async with door(issuer, oidc_algorithms="ES256") as client:
        text = signed("RS256", header_for("RS256"), claims_at(time.time()))
        [(status, headers, _), _] = await answers(client, bearer(text))
        assert status == 401
        assert "algorithm that is not accepted" in headers["www-authenticate"]


def test_tokens_are_for_a_door_that_is_not_open(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVIRONMENT", "test")
    monkeypatch.setenv("OIDC_ISSUER", ISSUER)
    with pytest.raises(SystemExit, match="1"):
        load_identity("127.0.0.1")
    assert "  OIDC_ISSUER needs OIDC_AUDIENCE: a token for another service" in capfd.readouterr().err
    monkeypatch.setenv("OIDC_AUDIENCE", AUDIENCE)
    with pytest.raises(SystemExit, match="1"):
        load_identity("127.0.0.1")
    assert "OIDC_ISSUER: is set, but AUTH does not name `tokens`" in capfd.readouterr().err
    monkeypatch.setenv("AUTH", "tokens")
    identity = load_identity("127.0.0.1").policy
    assert isinstance(identity, Identity)
    assert identity.probes.keys() == {"tokens"}
