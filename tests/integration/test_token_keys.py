"""The issuer's keys over HTTP: how often it is asked, what of it is believed, and what holds while it is away."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from joserfc.jwk import ECKey

from identity.tokens.known_keys import BETWEEN_FETCHES, FRESH, GRACE
from identity.tokens.outcomes import NEEDS_KEYS, KeysAway, TokenFault
from identity.tokens.provider import Provider, ProviderError
from identity.tokens.settings import TokenSettings
from identity.tokens.tokens import Tokens, tokens_of
from telemetry.metrics import REGISTRY
from tests.drivers.raw_http import until
from tests.drivers.token_issuer import (
    AUDIENCE,
    NOW,
    SIGNING_KEYS,
    KeyServer,
    as_json,
    claims_at,
    header_for,
    jwks,
    settings,
    signed,
    token,
    whole,
)
from web.policies.principal import Principal


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(issuer: KeyServer, clock: Clock) -> Tokens:
    return tokens_of(settings(oidc_jwks_url=issuer.url), clock)


def of_unknown_key(number: int = 0) -> bytes:
    return signed("ES256", {**header_for("ES256"), "kid": f"unknown-{number}"}, claims_at())


async def test_the_first_token_waits_for_the_keys_and_the_next_does_not(tokens: Tokens, issuer: KeyServer) -> None:
    assert tokens.principal(token(), NOW) is NEEDS_KEYS
    assert isinstance(await tokens.principal_once_asked(token(), NOW), Principal)
    assert isinstance(tokens.principal(token("ES256"), NOW), Principal)
    assert len(issuer.asked) == 1


async def test_an_unknown_key_costs_one_request_a_minute_whoever_asks(
    tokens: Tokens, issuer: KeyServer, clock: Clock
) -> None:
    await tokens.keys.ask()
    for minute in range(3):
        clock.now += BETWEEN_FETCHES
        issuer.go_on.clear()
        assert tokens.principal(of_unknown_key(), NOW) is NEEDS_KEYS
        waiting = [asyncio.create_task(tokens.principal_once_asked(of_unknown_key(n), NOW)) for n in range(50)]
        await asyncio.sleep(0)
        issuer.go_on.set()
        assert set(await asyncio.gather(*waiting)) == {TokenFault.KEY}
        clock.now += BETWEEN_FETCHES - 1
        assert tokens.principal(of_unknown_key(99), NOW) is TokenFault.KEY  # without I/O
        clock.now -= BETWEEN_FETCHES - 1
        assert len(issuer.asked) == minute + 2


async def test_a_client_that_leaves_ends_the_request_for_nobody_else(tokens: Tokens, issuer: KeyServer) -> None:
    issuer.go_on.clear()
    leaves, stays = (asyncio.create_task(tokens.principal_once_asked(token(), NOW)) for _ in range(2))
    await until(lambda: bool(issuer.asked))
    leaves.cancel()
    issuer.go_on.set()
    assert isinstance(await stays, Principal)
    assert len(issuer.asked) == 1


async def test_keys_are_replaced_and_what_was_accepted_with_the_old_ones_is_forgotten(
    tokens: Tokens, issuer: KeyServer, clock: Clock
) -> None:
    await tokens.keys.ask()
    old = token("ES256")
    assert isinstance(tokens.principal(old, NOW), Principal)
    new_key = ECKey.generate_key("P-256", {"kid": "new"})
    issuer.answer = whole(as_json(jwks({"ES256": new_key})))
    clock.now += BETWEEN_FETCHES
    new = signed("ES256", {**header_for("ES256"), "kid": "new"}, claims_at(), new_key)
    assert tokens.principal(new, NOW) is NEEDS_KEYS
    assert isinstance(await tokens.principal_once_asked(new, NOW), Principal)
    assert tokens.principal(old, NOW) is TokenFault.KEY
    assert isinstance(tokens.principal(new, NOW), Principal)


async def test_a_key_of_the_same_name_that_changed_is_another_key(
    tokens: Tokens, issuer: KeyServer, clock: Clock
) -> None:
    await tokens.keys.ask()
    old = token("ES256")
    assert isinstance(tokens.principal(old, NOW), Principal)
    issuer.answer = whole(as_json(jwks({"ES256": ECKey.generate_key("P-256", {"kid": "ec"})})))
    clock.now += BETWEEN_FETCHES
    await tokens.keys.ask()
    assert tokens.principal(old, NOW) is TokenFault.SIGNATURE


async def test_without_the_issuer_known_keys_serve_ten_minutes_more_and_then_nobody_is_called_a_liar(
    tokens: Tokens, issuer: KeyServer, clock: Clock
) -> None:
    await tokens.keys.ask()
    known = token()
    assert isinstance(tokens.principal(known, NOW), Principal)
    issuer.answer = whole(b"", "500 Internal Server Error")
    clock.now += FRESH
    issuer.go_on.clear()
    assert (await tokens.keys.state()).ok  # and does not wait for an issuer that hangs
    issuer.go_on.set()
    await tokens.keys.ask()
    assert tokens.keys.is_away()
    state = await tokens.keys.state()
    assert state.ok
    assert "600 s more" in state.detail
    clock.now += GRACE - 1
    assert isinstance(tokens.principal(known, NOW), Principal)  # remembered
    assert isinstance(tokens.principal(token("ES256"), NOW), Principal)  # checked
    assert isinstance(await tokens.principal_once_asked(of_unknown_key(), NOW), KeysAway)
    clock.now += 1
    for text in (known, token("EdDSA"), of_unknown_key()):
        assert isinstance(await tokens.principal_once_asked(text, NOW), KeysAway)
    assert tokens.principal(b"a.b.c", NOW) is TokenFault.MALFORMED  # what is no token is none without keys, too
    assert not (await tokens.keys.state()).ok
    issuer.answer = whole(as_json(jwks()))
    clock.now += BETWEEN_FETCHES
    assert isinstance(await tokens.principal_once_asked(known, NOW), Principal)


async def test_an_issuer_that_never_answered_is_asked_again_soon(
    tokens: Tokens, issuer: KeyServer, clock: Clock
) -> None:
    issuer.answer = whole(b"", "503 Service Unavailable")
    assert isinstance(await tokens.principal_once_asked(token(), NOW), KeysAway)
    assert tokens.principal(token(), NOW) == KeysAway(5)
    assert len(issuer.asked) == 1
    assert REGISTRY.get_sample_value("token_key_age_seconds") == float("inf")
    issuer.answer = whole(as_json(jwks()))
    clock.now += 5
    assert tokens.principal(token(), NOW) is NEEDS_KEYS
    assert isinstance(await tokens.principal_once_asked(token(), NOW), Principal)
    assert REGISTRY.get_sample_value("token_key_age_seconds") == 0


async def test_keys_that_are_no_longer_fresh_serve_while_they_are_fetched_again(
    tokens: Tokens, issuer: KeyServer, clock: Clock
) -> None:
    await tokens.keys.ask()
    known = token()
    tokens.principal(known, NOW)
    issuer.answer = whole(as_json(jwks({"ES256": SIGNING_KEYS["ES256"]})))
    clock.now += FRESH
    issuer.go_on.clear()
    for _ in range(20):
        assert isinstance(tokens.principal(known, NOW), Principal)  # nobody waits
    issuer.go_on.set()
    await tokens.keys.ask()
    assert len(issuer.asked) == 2
    assert tokens.principal(known, NOW) is TokenFault.KEY  # it was withdrawn


async def test_a_look_at_the_health_fetches_the_keys_before_anybody_needs_them(tokens: Tokens) -> None:
    assert (await tokens.keys.state()).ok
    assert isinstance(tokens.principal(token(), NOW), Principal)


# --- what is believed ------------------------------------------------------------------------------------------------

Fetch = Callable[[], Awaitable[bytes]]


def refusing(issuer: KeyServer, answer: bytes) -> Fetch:
    issuer.answer = answer
    return Provider("https://id.example.com", issuer.url).key_set


REFUSED = {
    "redirect": whole(b"", "302 Found", "location: http://127.0.0.1/keys"),
    "not 200": whole(b"{}", "203 Non-Authoritative Information"),
    "too large": whole(b"x" * 131_073),
    "endless": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 300_000,
    "compressed": whole(gzip.compress(as_json(jwks())), "200 OK", "content-encoding: gzip"),
    "no HTTP": b"hello",
    "cut off": whole(as_json(jwks()))[:-10],
}


@pytest.mark.parametrize("answer", REFUSED.values(), ids=REFUSED.keys())
async def test_an_answer_that_is_no_plain_one_is_no_key_set(issuer: KeyServer, answer: bytes) -> None:
    with pytest.raises(ProviderError):
        await refusing(issuer, answer)()
    assert len(issuer.asked) == 1  # nothing was followed


async def test_an_answer_byte_by_byte_ends_in_time(issuer: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("identity.tokens.provider.TIMEOUT", 0.2)
    issuer.drip = 0.05
    with pytest.raises(ProviderError, match="cannot be reached"):
        await refusing(issuer, whole(as_json(jwks())))()


async def test_a_server_with_another_certificate_is_not_the_issuer(issuer: KeyServer) -> None:
    with pytest.raises(ProviderError, match="cannot be reached"):
        await Provider("https://id.example.com", issuer.url.replace("http://", "https://")).key_set()


async def test_the_issuer_says_where_its_keys_are(issuer: KeyServer) -> None:
    origin = f"http://127.0.0.1:{issuer.port}"
    discovery = b"/realms/shop/.well-known/openid-configuration"
    provider = Provider(f"{origin}/realms/shop", "")

    def says(**document: Any) -> None:
        issuer.answers[discovery] = whole(as_json({"issuer": f"{origin}/realms/shop", **document}))

    says(jwks_uri=issuer.url)
    assert await provider.key_set() == as_json(jwks())
    assert issuer.asked == [discovery, b"/keys"]
    for wrong in (
        {"jwks_uri": "http://keys.example.com/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": None},
        {"jwks_uri": issuer.url, "issuer": f"{origin}/realms/other"},
    ):
        says(**wrong)
        with pytest.raises(ProviderError, match="configuration"):
            await provider.key_set()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"oidc_audience": ""}, "OIDC_AUDIENCE"),
        ({"oidc_issuer": "http://id.example.com"}, "OIDC_ISSUER must begin with https://"),
        ({"oidc_jwks_url": "http://id.example.com/keys"}, "OIDC_JWKS_URL must begin with https://"),
        ({"oidc_jwks_url": "file:///keys"}, "OIDC_JWKS_URL must begin with https://"),
        ({"oidc_issuer": "https://user:secret@id.example.com"}, "OIDC_ISSUER must begin with https://"),
        ({"oidc_algorithms": "RS256,HS256"}, "OIDC_ALGORITHMS"),
        ({"oidc_algorithms": "none"}, "OIDC_ALGORITHMS"),
        ({"oidc_algorithms": " , "}, "OIDC_ALGORITHMS"),
    ],
)
def test_settings_that_would_be_unsafe_are_refused(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        settings(**changed)


def test_without_an_issuer_nothing_is_needed() -> None:
    assert TokenSettings(oidc_issuer="").oidc_audience == ""
    assert settings().oidc_audience == AUDIENCE
    assert SIGNING_KEYS.keys() >= set(settings().algorithms())
    assert settings(oidc_ca_file="").oidc_ca_file is None  # as every other file: an empty variable is unset
