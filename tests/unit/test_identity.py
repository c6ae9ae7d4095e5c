"""Whom an authenticator has settled is not asked about again for a moment; who is asked about each time."""

from datetime import UTC, datetime, timedelta

import pytest

from identity.keys.authenticator import KeyAuthenticator
from identity.keys.uses import KeyUses
from tests.drivers.keys import ORIGIN, HandMadeRegister
from web.policies.decisions import ADMIT, Admit, Decision, Refuse
from web.policies.identity import HELD, MAX_HELD, Identity
from web.policies.principal import Principal
from web.policies.request_head import RequestHead

NEAR = 0.01  # seconds


class Door:
    """The identity policy in front of a register, with one clock for both, which only the test moves."""

    def __init__(self) -> None:
        self.made = HandMadeRegister()
        self.now = datetime.now(UTC).timestamp() + 1
        keys = KeyAuthenticator(lambda: self.made.register, KeyUses(), lambda: self.now)
        self.identity = Identity([keys], clock=lambda: self.now)

    def asks(self, *shown: str, origin: str = "") -> tuple[Decision, Principal | None]:
        """What is decided of a request with these keys, and who it is for later policies."""
        headers = [(b"authorization", f"Bearer {key}".encode()) for key in shown]
        headers += [(b"origin", origin.encode())] if origin else []
        head = RequestHead("POST", "/events/generate", b"/events/generate", b"", headers, None, "http", facts={})
        decision = self.identity(head)
        if isinstance(decision, Admit) and isinstance(decision.fact, Principal):
            return ADMIT, decision.fact
        return decision, head.facts.get(Principal)

    def is_open_to(self, *shown: str, origin: str = "") -> bool:
        """Whether they are somebody."""
        decision, principal = self.asks(*shown, origin=origin)
        return decision is ADMIT and principal is not None and principal.scopes != frozenset()


@pytest.fixture
def door() -> Door:
    return Door()


def test_who_is_settled_is_the_same_principal_the_second_time(door: Door) -> None:
    acme, other = door.made.key(tenant="acme"), door.made.key(tenant="other")
    for _ in range(3):
        assert [door.asks(key)[1].tenant_id for key in (acme, other)] == ["acme", "other"]  # type: ignore[union-attr]


def test_a_revoked_key_is_refused_within_the_time_that_it_may_be_held(door: Door) -> None:
    key = door.made.key()
    assert door.is_open_to(key)
    door.made.change("k1", revoked_at=datetime.now(UTC))
    door.now += HELD + NEAR
    decision, _ = door.asks(key)
    assert isinstance(decision, Refuse)
    assert decision.error == "This key was revoked."


def test_use_does_not_prolong_it(door: Door) -> None:
    key = door.made.key()
    assert door.is_open_to(key)
    door.made.change("k1", revoked_at=datetime.now(UTC))
    until = door.now + HELD
    while door.now < until - NEAR:
        door.asks(key)
        door.now += NEAR
    door.now = until
    assert not door.is_open_to(key)


def test_a_key_ends_when_it_ends_though_it_is_held(door: Door) -> None:
    ends = datetime.fromtimestamp(door.now, UTC) + timedelta(seconds=HELD / 2)
    key = door.made.key()
    door.made.change("k1", expires_at=ends)
    assert door.is_open_to(key)
    door.now = ends.timestamp() - 0.001
    assert door.is_open_to(key)
    door.now = ends.timestamp() + 0.001
    assert not door.is_open_to(key)


def test_a_key_that_becomes_known_is_no_longer_refused(door: Door) -> None:
    key = door.made.key()
    door.made.change("k1", revoked_at=datetime.now(UTC))
    assert not door.is_open_to(key)
    assert door.is_open_to(door.made.key())


def test_a_public_key_is_asked_about_each_time_since_its_origin_counts(door: Door) -> None:
    key = door.made.key("public")
    for _ in range(2):
        assert door.is_open_to(key, origin=ORIGIN)
        assert not door.is_open_to(key, origin="https://evil.example")
        assert not door.is_open_to(key)


def test_two_headers_are_refused_though_each_is_settled(door: Door) -> None:
    one, other = door.made.key(), door.made.key()
    assert door.is_open_to(one)
    assert door.is_open_to(other)
    for both in ((one, other), (one, one)):
        assert isinstance(door.asks(*both)[0], Refuse)


def test_another_spelling_of_what_is_settled_is_another_header(door: Door) -> None:
    key = door.made.key()
    assert door.is_open_to(key)
    assert not door.is_open_to(key.swapcase())
    assert not door.is_open_to(key + " ", key)
    assert not door.is_open_to()


def test_what_is_held_is_bounded() -> None:
    door = Door()
    for _ in range(MAX_HELD + 10):
        assert door.is_open_to(door.made.key())
    assert len(door.identity._held) <= MAX_HELD


@pytest.mark.parametrize("spelled", ["bearer {}", "Bearer  {}", "Bearer {}{}".format("{}", " " * 30_000), "BEARER {}"])
def test_only_the_usual_spelling_is_held_since_one_key_has_thousands_of_32_kib(door: Door, spelled: str) -> None:
    shown = spelled.format(door.made.key()).encode()
    head = RequestHead("GET", "/events/feed", b"/events/feed", b"", [(b"authorization", shown)], None, "http", facts={})
    assert isinstance(door.identity(head), Admit), "whoever spells it so is known all the same"
    assert door.identity._held == {}
