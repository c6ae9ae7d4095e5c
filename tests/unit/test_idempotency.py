"""Ids from keys, and what a process remembers of them."""

import asyncio
import hashlib
from uuid import UUID

import pytest

from command_side.event_log import Position, PublishFailedError
from command_side.idempotency import (
    ENTRY_BYTES,
    KeyConflict,
    RecentKeys,
    Remembered,
    derived_event_id,
    fingerprint,
    is_valid_key,
)
from contracts.event import ActivityCommand

LOGIN = ActivityCommand("user-1", "LOGIN")
LOGOUT = ActivityCommand("user-1", "LOGOUT")


class Clock:
    now = 1_000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("command_side.idempotency.time.monotonic", lambda: found.now)
    return found


def claimed(keys: RecentKeys, key: bytes, command: ActivityCommand = LOGIN) -> Remembered:
    found = keys.claim(key, command, "r")
    assert isinstance(found, Remembered)
    return found


def test_an_id_is_a_uuid_of_version_8_from_tenant_and_key() -> None:
    made = derived_event_id("acme", b"key-1")
    assert (made.version, made.variant) == (8, "specified in RFC 4122")
    digest = hashlib.sha256(b"acme\0key-1").digest()
    mask = ~((0xF << 76) | (0x3 << 62))
    assert made.int & mask == int.from_bytes(digest[:16], "big") & mask
    assert derived_event_id("acme", b"key-1") == made
    assert len({derived_event_id(t, k) for t in ("a", "ab") for k in (b"bc", b"c", b"\x7e")}) == 6


def test_a_derived_id_never_changes() -> None:
    assert derived_event_id("default", b"order-1842-viewed") == UUID("3107d537-01d3-8040-a3b4-a8e7003c1b49")


def test_a_fingerprint_knows_user_type_and_payload_but_not_their_order() -> None:
    base = ActivityCommand("u", "LOGIN", {"a": 1, "b": {"c": [1, 2], "d": None}})
    same = ActivityCommand("u", "LOGIN", {"b": {"d": None, "c": [1, 2]}, "a": 1})
    others = [
        ActivityCommand("v", "LOGIN", base.payload),
        ActivityCommand("u", "LOGOUT", base.payload),
        ActivityCommand("u", "LOGIN", {}),
        ActivityCommand("u", "LOGIN", {"a": 1, "b": {"c": [2, 1], "d": None}}),
        ActivityCommand("u", "LOGIN", {"a": "1", "b": {"c": [1, 2], "d": None}}),
    ]
    assert fingerprint(base) == fingerprint(same)
    assert len({fingerprint(command) for command in [base, *others]}) == 6


@pytest.mark.parametrize("key", [b"k", b"!~", b"x" * 255, b'"quoted"'])
def test_visible_characters_are_a_key(key: bytes) -> None:
    assert is_valid_key(key)


@pytest.mark.parametrize("key", [b"", b"x" * 256, b"a b", b"\xc3\xa9", b"a\tb", b"a\n"])
def test_anything_else_is_none(key: bytes) -> None:
    assert not is_valid_key(key)


async def test_one_leads_and_the_others_learn_its_outcome() -> None:
    keys = RecentKeys(max_bytes=1_000_000, window=60)
    first, second = claimed(keys, b"k"), claimed(keys, b"k")
    assert first is second
    assert (first.lead(), second.lead()) == (True, False)
    waiting = [asyncio.create_task(second.outcome()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # one who leaves takes nothing from the others
    await asyncio.sleep(0)
    first.settle(Position(1, 7))
    assert await asyncio.gather(*waiting[1:]) == [Position(1, 7)] * 2
    again = claimed(keys, b"k")
    assert not again.lead()
    assert await again.outcome() == Position(1, 7)


async def test_after_a_failure_a_repeat_publishes_the_same_record() -> None:
    keys = RecentKeys(max_bytes=1_000_000, window=60)
    first = claimed(keys, b"k")
    assert first.lead()
    waiting = asyncio.create_task(first.outcome())
    await asyncio.sleep(0)
    first.settle(PublishFailedError())
    assert isinstance(await waiting, PublishFailedError)
    again = claimed(keys, b"k")
    assert again.record is first.record
    assert again.lead()


def test_another_command_under_a_remembered_key_is_a_conflict() -> None:
    keys = RecentKeys(max_bytes=1_000_000, window=60)
    claimed(keys, b"k")
    assert keys.claim(b"k", LOGOUT, "r") == KeyConflict()
    assert isinstance(keys.claim(b"another", LOGOUT, "r"), Remembered)


def test_a_key_is_forgotten_after_the_window(clock: Clock) -> None:
    keys = RecentKeys(max_bytes=1_000_000, window=60)
    first = claimed(keys, b"k")
    clock.now += 59.9
    assert claimed(keys, b"k") is first
    clock.now += 0.1
    assert claimed(keys, b"k", LOGOUT) is not first


def test_beyond_its_memory_it_forgets_the_oldest() -> None:
    keys = RecentKeys(max_bytes=20 * ENTRY_BYTES, window=60)
    made = [claimed(keys, b"%d" % n) for n in range(1_000)]
    remembered = [n for n in range(990, 1_000) if claimed(keys, b"%d" % n) is made[n]]
    assert remembered == list(range(990, 1_000))
    assert claimed(keys, b"900") is not made[900]
