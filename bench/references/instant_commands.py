"""The command side behind its door, as its process composes it, before a log that acknowledges at once."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from joserfc import jwt
from joserfc.jwk import RSAKey

from bench.references.app import lifespan
from command_side.api.fast_single import FastCommands
from command_side.api.single import GENERATE
from command_side.app import command_policies
from command_side.idempotency import RecentKeys
from command_side.publishing.event_log import Acknowledged, NotTaken, Outcome, PendingPublish
from command_side.settings import CommandSettings
from command_side.submission import Commands
from contracts.event import DEFAULT_TENANT
from contracts.record import EventRecord
from contracts.types import read_catalogue
from contracts.validation.commands import CommandRules
from footfall.processes.identity import NO_ORIGINS, browsers_of
from identity.keys.administration import digest_at
from identity.keys.authenticator import KeyAuthenticator
from identity.keys.key_record import KeyRecord, encode_key
from identity.keys.key_text import new_key
from identity.keys.register import Register
from identity.keys.uses import KeyUses
from identity.settings import IdentitySettings
from identity.tokens.authenticator import TokenAuthenticator
from identity.tokens.claims import ClaimRules
from identity.tokens.key_set import KeySet, read_key_set
from identity.tokens.known_keys import KnownKeys
from identity.tokens.tokens import Tokens
from web.asgi import Receive, Scope, Send, respond
from web.middleware import Middleware
from web.policies.access import check_access
from web.policies.decisions import RequestPolicy
from web.policies.identity import Identity
from web.policies.limits.limit_side import limit_side
from web.policies.principal import AccessScope, OpenDoor
from web.tenants.position_tokens import PositionTokens

ISSUER, AUDIENCE = "https://issuer.example", "footfall"
LIMIT = 1_000_000_000  # units: never reached, and counted


class Sent:
    """A publish that cannot be withdrawn any more."""

    def withdraw(self) -> None:
        """See `PendingPublish`."""


class InstantLog:
    """Acknowledges each record in the next turn of the loop, as a round of Kafka does for many at once."""

    def __init__(self) -> None:
        self._offset = 0

    def publish_nowait(self, record: EventRecord, on_result: Callable[[Outcome], None]) -> PendingPublish | NotTaken:
        """See `EventLog`."""
        self._offset += 1
        asyncio.get_running_loop().call_soon(on_result, Acknowledged(0, self._offset))
        return Sent()

    async def publish_all(self, records: Sequence[EventRecord]) -> list[Outcome] | NotTaken:
        """See `EventLog`."""
        return [Acknowledged(0, 1) for _ in records]

    async def partition_count(self) -> int:
        """See `EventLog`."""
        return 6

    async def connected(self) -> bool:
        """See `EventLog`."""
        return True


async def application(door: str) -> tuple[Middleware, str]:
    """The application, and the header field that opens it. `door`: `open`, `key`, `token`; `limits`: key and rates."""
    settings = CommandSettings(limit_subject=LIMIT, limit_tenant=LIMIT) if door == "limits" else CommandSettings()
    identity, header = await identity_of(door)
    limits = limit_side(settings, is_open=door == "open", commands=512, requests=4_000)
    browsers = browsers_of(IdentitySettings(), "127.0.0.1", lambda: NO_ORIGINS)
    policies: list[RequestPolicy] = [*limits.first, browsers, identity, check_access, *limits.policies]
    policies += command_policies(settings)
    keys = RecentKeys(max_bytes=settings.idempotency_memory_bytes, window=settings.idempotency_window_ms / 1000)
    commands = Commands(InstantLog(), keys, CommandRules(read_catalogue(None)))
    handlers = {GENERATE.encode(): FastCommands(commands, PositionTokens("")).handle}
    return Middleware(nothing_else, "command-side", {}, {}, handlers, policies), header


async def nothing_else(scope: Scope, receive: Receive, send: Send) -> None:
    """Whatever left the fast path: it is refused, so that the benchmark fails and does not measure another way."""
    await (lifespan(receive, send) if scope["type"] == "lifespan" else respond(send, 500, b"{}", b"application/json"))


async def identity_of(door: str) -> tuple[RequestPolicy, str]:
    """The policy, and the header field with what opens it."""
    if door == "open":
        return OpenDoor(DEFAULT_TENANT), ""
    register, key = registered()
    tokens, token = issued()
    await tokens.keys.ask()
    both = Identity([KeyAuthenticator(lambda: register, KeyUses()), TokenAuthenticator(tokens)])
    return both, f"Authorization: Bearer {token if door == 'token' else key}"


def registered() -> tuple[Register, str]:
    """A register with one key, and the key."""
    register, key, now = Register(), new_key("secret"), datetime.now(UTC)
    scopes = frozenset({AccessScope.EVENTS_WRITE})
    record = KeyRecord("k1", "secret", DEFAULT_TENANT, "bench", scopes, (digest_at(key, now),), now, "bench")
    register.apply("k1", encode_key(record))
    return register, key


def issued() -> tuple[Tokens, str]:
    """What checks tokens, and one that it accepts."""
    key = RSAKey.generate_key(2048, {"kid": "k1", "alg": "RS256", "use": "sig"})
    listed = json.dumps({"keys": [key.as_dict(private=False)]}).encode()

    async def fetch() -> KeySet:
        return read_key_set(listed, ["RS256"])

    rules = ClaimRules(ISSUER, AUDIENCE, 30.0, 86_400.0, DEFAULT_TENANT, "", "sub", ["scope"])
    tokens = Tokens(KnownKeys(fetch), rules, ["RS256"], max_bytes=8_192, remembered=10_000)
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "bench", "iat": now, "exp": now + 3_600, "scope": "events:write"}
    return tokens, jwt.encode({"typ": "at+jwt", "alg": "RS256", "kid": "k1"}, claims, key)
