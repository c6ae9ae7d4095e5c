"""A real Keycloak: its access tokens are accepted, and what it signs for another purpose is not.

It needs a distribution: KEYCLOAK_HOME names one, FOOTFALL_LONG=1 fetches it (180 MB).
"""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from identity.tokens.known_keys import BETWEEN_FETCHES
from identity.tokens.outcomes import NEEDS_KEYS, TokenFault
from identity.tokens.settings import TokenSettings
from identity.tokens.tokens import Tokens, tokens_of
from tests.drivers.keycloak import AUDIENCE, Keycloak, distribution, keycloak
from tests.patience import patient
from web.policies.principal import AccessScope, Principal

pytestmark = pytest.mark.timeout(patient(300))


@pytest.fixture(scope="module")
async def issuer(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Keycloak]:
    home = await asyncio.to_thread(distribution)
    if home is None:
        pytest.skip("no Keycloak: KEYCLOAK_HOME names a distribution, FOOTFALL_LONG=1 fetches one")
    async with keycloak(home, tmp_path_factory.mktemp("keycloak")) as running:
        yield running


class Clock:
    ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(issuer: Keycloak, clock: Clock) -> Tokens:
    return tokens_of(TokenSettings(oidc_issuer=issuer.issuer, oidc_audience=AUDIENCE), clock)


async def test_its_access_token_says_tenant_subject_and_scopes(issuer: Keycloak, tokens: Tokens) -> None:
    text = await issuer.token()
    assert tokens.principal(text, time.time()) is NEEDS_KEYS
    found = await tokens.principal_once_asked(text, time.time())
    assert isinstance(found, Principal)
    assert found.tenant_id == "acme"
    assert found.subject.startswith(f"token:{issuer.issuer}/")
    assert found.scopes == {AccessScope.EVENTS_WRITE, AccessScope.EVENTS_READ}
    assert tokens.principal(text, time.time() + 3_600) is TokenFault.EXPIRED
    assert (await tokens.keys.state()).ok


async def test_its_other_tokens_are_refused(issuer: Keycloak, tokens: Tokens) -> None:
    await tokens.keys.ask()
    assert tokens.principal(await issuer.token("plain"), time.time()) is TokenFault.TYPE
    assert tokens.principal(await issuer.token("elsewhere"), time.time()) is TokenFault.AUDIENCE
    text = await issuer.token()
    head, payload, signature = text.split(b".")
    other = (await issuer.token()).split(b".")[1]
    assert tokens.principal(b".".join((head, other, signature)), time.time()) is TokenFault.SIGNATURE
    assert tokens.principal(b".".join((head, payload, b"AAAA" + signature[4:])), time.time()) is TokenFault.SIGNATURE


async def test_a_key_that_it_rotates_to_is_found(issuer: Keycloak, tokens: Tokens, clock: Clock) -> None:
    await tokens.keys.ask()
    before = await issuer.token()
    await issuer.rotate_keys()
    after = await issuer.token()
    assert before.split(b".")[0] != after.split(b".")[0]
    assert tokens.principal(after, time.time()) is TokenFault.KEY  # it was asked just now
    clock.ahead = BETWEEN_FETCHES
    assert isinstance(await tokens.principal_once_asked(after, time.time()), Principal)
    assert isinstance(tokens.principal(before, time.time()), Principal)  # the old key is still published
