"""Users with SCRAM passwords (KIP-554) and rights (KIP-11) of a broker, which aiokafka 0.14 cannot ask for."""

# mypy: disable-error-code="misc"
# aiokafka is untyped, and a protocol's messages are subclasses of its classes.

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import DescribeAclsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Array,
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Schema,
    String,
    TaggedFields,
)

from brokers.rights import BITS, Right

MECHANISMS = {"SCRAM-SHA-256": (1, "sha256"), "SCRAM-SHA-512": (2, "sha512")}
ITERATIONS = 4_096  # the least that Kafka takes; every connection pays for each
RESOURCES = {"topic": 2, "group": 3, "cluster": 4}
ALLOW, LITERAL, PREFIXED = 3, 3, 4
ANY = 1  # of a filter
APPLY_TIMEOUT, APPLY_POLL = 30.0, 0.02  # seconds for a broker to follow its controller
_TAGS = ("tags", TaggedFields)


class Rule(msgspec.Struct, frozen=True):
    """That a user may do something with a resource, or with every one whose name begins so."""

    user: str
    operation: str
    resource: str
    name: str
    prefixed: bool = False


def rules_of(user: str, rights: Sequence[Right]) -> list[Rule]:
    """Returns the rules that give a user these rights."""
    return [Rule(user, right.operation, right.resource, right.name, right.prefixed) for right in rights]


class _Changed(Response):
    API_KEY = 51
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle", Int32),
        ("results", CompactArray(("user", CompactString()), ("error", Int16), ("message", CompactString()), _TAGS)),
        _TAGS,
    )


class _ChangeV0(RequestStruct):
    API_KEY = 51
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Changed
    SCHEMA = Schema(
        ("deletions", CompactArray(("name", CompactString()), ("mechanism", Int8), _TAGS)),
        (
            "upsertions",
            CompactArray(
                ("name", CompactString()),
                ("mechanism", Int8),
                ("iterations", Int32),
                ("salt", CompactBytes),
                ("salted_password", CompactBytes),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _Change(Request[_ChangeV0]):
    API_KEY = 51

    def __init__(self, user: str, password: str, mechanism: str) -> None:
        number, digest = MECHANISMS[mechanism]
        salt = secrets.token_bytes(24)
        salted = hashlib.pbkdf2_hmac(digest, password.encode(), salt, ITERATIONS)
        self._upsertion: tuple[Any, ...] = (user, number, ITERATIONS, salt, salted, {})

    def build(self, request_struct_class: type[_ChangeV0]) -> _ChangeV0:
        return request_struct_class([], [self._upsertion], {})


class _Created(Response):
    API_KEY = 30
    API_VERSION = 1
    SCHEMA = Schema(("throttle", Int32), ("results", Array(("error_code", Int16), ("message", String()))))


class _CreateAclsV1(RequestStruct):
    API_KEY = 30
    API_VERSION = 1
    RESPONSE_TYPE = _Created
    SCHEMA = Schema(
        (
            "creations",
            Array(
                ("resource_type", Int8),
                ("resource_name", String()),
                ("pattern_type", Int8),
                ("principal", String()),
                ("host", String()),
                ("operation", Int8),
                ("permission", Int8),
            ),
        )
    )


class _CreateAcls(Request[_CreateAclsV1]):
    API_KEY = 30

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules

    def build(self, request_struct_class: type[_CreateAclsV1]) -> _CreateAclsV1:
        return request_struct_class([_binding(rule) for rule in self._rules])


def _binding(rule: Rule) -> tuple[Any, ...]:
    pattern = PREFIXED if rule.prefixed else LITERAL
    kind, operation = RESOURCES[rule.resource], BITS[rule.operation]
    return kind, rule.name, pattern, f"User:{rule.user}", "*", operation, ALLOW


async def set_password(options: Mapping[str, Any], user: str, password: str, mechanism: str = "SCRAM-SHA-512") -> None:
    """Makes the user, or changes the password. `options`: those of a client that may. Raises KafkaError."""
    response = await _ask(options, _Change(user, password, mechanism))
    _raise_first((code, message) for _, code, message, _ in response.results)


async def allow(options: Mapping[str, Any], rules: Sequence[Rule]) -> None:
    """Gives rights; those that are there already stay. Returns when every broker acts by them.

    The controller answers before brokers have heard of it, and until then they refuse. What was given before, such as
    a password, has come to them as well by then.

    Args:
        options: Those of a client that may.
        rules: What to allow.

    Raises:
        KafkaError: A right was refused, or cannot be given.
        TimeoutError: A broker did not follow within 30 s.
    """
    response = await _ask(options, _CreateAcls(rules))
    _raise_first(response.results)
    wanted = {_binding(rule) for rule in rules}
    async with _admin(options) as admin, asyncio.timeout(APPLY_TIMEOUT):
        for broker in (await admin.describe_cluster())["brokers"]:
            while not wanted <= await _bindings_at(admin, broker["node_id"]):  # noqa: ASYNC110 - a broker's state
                await asyncio.sleep(APPLY_POLL)


async def _bindings_at(admin: AIOKafkaAdminClient, broker: int) -> set[tuple[Any, ...]]:
    """What one broker acts by."""
    everything = DescribeAclsRequest(ANY, None, ANY, None, None, ANY, ANY)
    response = await admin._send_request_to_node(broker, everything)  # noqa: SLF001 - the public call asks any broker
    _raise_first([(response.error_code, response.error_message)])
    return {
        (kind, name, pattern, *granted)
        for kind, name, pattern, grants in response.resources
        for granted in map(tuple, grants)
    }


async def _ask(options: Mapping[str, Any], request: Any) -> Any:
    async with _admin(options) as admin:
        return await admin._send_to_controller(request)  # noqa: SLF001 - aiokafka sends only what it knows


@asynccontextmanager
async def _admin(options: Mapping[str, Any]) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**options)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


def _raise_first(results: Any) -> None:
    for code, message in results:
        if code:
            raise for_code(code)(message)


def make_accounts(options: Mapping[str, Any], passwords: Mapping[str, str], rules: Sequence[Rule]) -> None:
    """Makes all users and gives all rights."""
    asyncio.run(_make_accounts(options, passwords, rules))


async def _make_accounts(options: Mapping[str, Any], passwords: Mapping[str, str], rules: Sequence[Rule]) -> None:
    for user, password in passwords.items():
        await set_password(options, user, password)
    await allow(options, rules)
