"""Keys in memory: what opens, what does not, and what the register makes of its records."""

import random
import time
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from identity.keys.administration import KeyRefusedError, Wanted, digest_at, problem_of
from identity.keys.authenticator import KeyAuthenticator
from identity.keys.key_record import decode_key, encode_key
from identity.keys.key_text import ALPHABET, digest_of, is_key, new_key
from identity.keys.reader import RegisterReader
from identity.keys.register import Register
from identity.keys.uses import KeyUses
from tests.drivers.keys import ORIGIN, HandMadeRegister
from web.policies.decisions import Refuse
from web.policies.identity import NOT_MINE, Authenticated, Presented, Settled
from web.policies.origins import is_origin
from web.policies.principal import AccessScope, Principal
from web.policies.request_head import RequestHead

TWISTED = 500


def head(*headers: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead("POST", "/events/generate", b"/events/generate", b"", list(headers), None, "http")


def shown(made: HandMadeRegister, key: bytes, *headers: tuple[bytes, bytes], now: float | None = None) -> Authenticated:
    """Who it is; whether that is settled for other requests is tested in `test_identity.py`."""
    clock = {} if now is None else {"clock": lambda: now}
    answer = KeyAuthenticator(lambda: made.register, KeyUses(), **clock)(head(*headers), Presented(key))
    return answer.principal if isinstance(answer, Settled) else answer


def test_a_key_has_256_random_bits_and_says_its_kind() -> None:
    keys = {new_key("secret") for _ in range(100)}
    assert len(keys) == 100
    assert all(is_key(key.encode()) and key.startswith("ffs_") for key in keys)
    assert len(ALPHABET) ** 43 >= 2**256


def test_a_record_holds_no_key() -> None:
    made = HandMadeRegister()
    key = made.key()
    record = made.register.records["k1"]
    assert key not in repr(record)
    assert key[4:].encode() not in encode_key(record)
    assert decode_key(encode_key(record)) == record


def test_a_key_is_its_principal() -> None:
    made = HandMadeRegister()
    key = made.key(tenant="acme", scopes=[AccessScope.EVENTS_READ])
    assert shown(made, key.encode()) == Principal("acme", "key:k1", frozenset({AccessScope.EVENTS_READ}))


def test_a_public_key_has_idempotency_keys_of_its_own_and_needs_a_listed_origin() -> None:
    made = HandMadeRegister()
    key = made.key("public").encode()
    principal = Principal("default", "key:k1", frozenset({AccessScope.EVENTS_WRITE}), "k1")
    assert shown(made, key, (b"origin", ORIGIN.encode())) == principal
    for headers in (
        [],
        [(b"origin", b"https://evil.example")],
        [(b"origin", b"null")],
        [(b"origin", ORIGIN.encode())] * 2,
        [(b"origin", ORIGIN.encode() + b":443")],
        [(b"origin", ORIGIN.encode() + b".evil.example")],
        [(b"referer", ORIGIN.encode())],
    ):
        answer = shown(made, key, *headers)
        assert isinstance(answer, Refuse), headers
        assert answer.status == 403


def test_a_record_that_gives_a_public_key_more_gives_it_no_more() -> None:
    made = HandMadeRegister()
    key = made.key("public", scopes=list(AccessScope)).encode()
    answer = shown(made, key, (b"origin", ORIGIN.encode()))
    assert isinstance(answer, Principal)
    assert answer.scopes == {AccessScope.EVENTS_WRITE}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"expires_at": datetime(2026, 1, 1, tzinfo=UTC)}, "This key has expired."),
        ({"revoked_at": datetime(2026, 1, 1, tzinfo=UTC)}, "This key was revoked."),
        ({"digests": ()}, "This key is not known."),
    ],
)
def test_a_key_that_ended_is_refused(changes: dict[str, object], sentence: str) -> None:
    made = HandMadeRegister()
    key = made.key().encode()
    made.change("k1", **changes)
    answer = shown(made, key)
    assert isinstance(answer, Refuse)
    assert (answer.status, answer.error) == (401, sentence)


def test_two_texts_of_a_key_are_valid_while_it_is_rotated_and_the_older_one_ends() -> None:
    made = HandMadeRegister()
    older, newer, now = made.key(), new_key("secret"), datetime.now(UTC)
    [text] = made.register.records["k1"].digests
    ending = msgspec.structs.replace(text, expires_at=now + timedelta(hours=1))
    made.change("k1", digests=(digest_at(newer, now), ending))
    soon, later = now.timestamp() + 60, now.timestamp() + 3_700
    assert [type(shown(made, key.encode(), now=soon)) for key in (older, newer)] == [Principal, Principal]
    assert [type(shown(made, key.encode(), now=later)) for key in (older, newer)] == [Refuse, Principal]


def test_a_revocation_is_never_undone_by_what_comes_behind_it() -> None:
    made = HandMadeRegister()
    key = made.key().encode()
    before = made.register.records["k1"]
    made.change("k1", revoked_at=datetime.now(UTC))
    made.register.apply("k1", encode_key(before))
    assert isinstance(shown(made, key), Refuse)


@pytest.mark.parametrize("value", [None, b"", b"{", b"null", b'{"keyId":"k1"}', b"\xff"])
def test_what_cannot_be_read_closes_the_key_that_it_is_about_and_no_other(value: bytes | None) -> None:
    made = HandMadeRegister()
    key, other = made.key().encode(), made.key().encode()
    made.register.apply("k1", value)
    assert isinstance(shown(made, key), Refuse)
    assert isinstance(shown(made, other), Principal)


def test_a_record_under_the_id_of_another_key_is_none() -> None:
    made = HandMadeRegister()
    key = made.key().encode()
    register = Register()
    register.apply("k2", encode_key(made.register.records["k1"]))
    assert register.find(digest_of(key)) is None


def test_no_twisted_key_is_accepted() -> None:
    """Of `TWISTED`: each differs from a valid key by a character, its case, its kind, its length or its spelling."""
    made, chance = HandMadeRegister(), random.Random(12)
    keys = [made.key(kind).encode() for kind in ("public", "secret", "operator") for _ in range(5)]
    accepted = []
    for number in range(TWISTED):
        twisted = twist(chance.choice(keys), number, chance)
        assert twisted not in keys
        if isinstance(shown(made, twisted, (b"origin", ORIGIN.encode())), Principal):
            accepted.append(twisted)
    assert accepted == []


def twist(key: bytes, number: int, chance: random.Random) -> bytes:
    at = chance.randrange(4, len(key))
    other = chance.choice([each for each in ALPHABET.encode() if each != key[at]])
    kinds = [
        key[:at] + bytes([other]) + key[at + 1 :],
        key[:at] + key[at + 1 :],
        key[:at] + key[at : at + 1] + key[at:],
    ]
    kinds += [key + b"=", key + b"\0", b"Bearer " + key, key.upper(), key.swapcase(), key[:4] + key[4:][::-1], key[4:]]
    kinds += [chance.choice([b"ffw", b"ffs", b"ffa", b"ffx"]).replace(key[:3], b"ffz") + key[3:], digest_of(key)]
    kinds += [digest_of(key).hex().encode(), key + key, key + b"," + key, key.replace(b"_", b"-"), key[:4]]
    return kinds[number % len(kinds)]


def test_what_is_no_key_is_left_to_others() -> None:
    made = HandMadeRegister()
    assert shown(made, b"eyJhbGciOiJub25lIn0.e30.") is NOT_MINE
    assert KeyAuthenticator(lambda: None, KeyUses())(head(), Presented(None)) is NOT_MINE


def test_a_process_that_does_not_know_the_register_refuses_every_key() -> None:
    made = HandMadeRegister()
    answer = KeyAuthenticator(lambda: None, KeyUses())(head(), Presented(made.key().encode()))
    assert isinstance(answer, Refuse)
    assert (answer.status, dict(answer.headers)[b"retry-after"]) == (503, b"2")


async def test_a_reader_without_kafka_serves_what_it_knows_for_a_while_and_says_so() -> None:
    reader = RegisterReader({}, "keys", stale_after=60.0)
    assert reader.register() is None
    assert not (await reader.state()).ok
    reader._fresh_at = time.monotonic()
    assert (reader.register(), (await reader.state()).detail) == (reader._known, "")
    reader._fresh_at = time.monotonic() - 20.0
    state = await reader.state()
    assert reader.register() is not None
    assert state.ok
    assert "Kafka was last heard 20 s ago" in state.detail
    assert "no key is accepted any more" in state.detail
    reader._fresh_at = time.monotonic() - 61.0
    assert reader.register() is None
    assert not (await reader.state()).ok


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ({"kind": "public", "origins": [ORIGIN]}, ""),
        ({"kind": "public"}, "at least one origin"),
        ({"kind": "public", "origins": ["shop.example"]}, "is no origin"),
        ({"kind": "public", "origins": ["https://shop.example/"]}, "is no origin"),
        ({"kind": "public", "origins": ["*"]}, "is no origin"),
        ({"kind": "secret", "origins": [ORIGIN]}, "Only a public key"),
        ({"kind": "public", "origins": [ORIGIN], "scopes": [AccessScope.EVENTS_READ]}, "cannot have events:read"),
        ({"kind": "secret", "scopes": [AccessScope.OPERATOR]}, "cannot have operator"),
        ({"kind": "operator"}, ""),
        ({"kind": "secret", "tenant_id": "a/b"}, "no name of a tenant"),
    ],
)
def test_a_key_that_could_do_more_than_its_kind_is_not_made(wanted: dict[str, object], problem: str) -> None:
    asked = Wanted(**{"tenant_id": "acme", "name": "n", "actor": "a", **wanted})  # type: ignore[arg-type]
    found = problem_of(asked, frozenset(asked.scopes))
    assert problem in found
    assert bool(problem) == bool(found)
    assert issubclass(KeyRefusedError, Exception)


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        ("https://shop.example", True),
        ("http://localhost:3000", True),
        ("http://[::1]:8080", True),
        ("https://shop.example:443", False),
        ("http://shop.example:80", False),
        ("https://Shop.example", False),
        ("https://shop.example/a", False),
        ("null", False),
        ("file://", False),
        ("https://", False),
        ("https://a@b", False),
    ],
)
def test_an_origin_is_what_browsers_send(text: str, sound: bool) -> None:
    assert is_origin(text) == sound
