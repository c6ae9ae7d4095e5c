"""Ids from keys, and what a process remembers of them."""

import asyncio
import hashlib
from uuid import UUID

import pytest

from command_side.idempotency import (
    ENTRY_BYTES,
    Claim,
    Follow,
    KeyConflict,
    Lead,
    RecentKeys,
    Settled,
    fingerprint,
    is_valid_key,
)
from command_side.publishing.event_log import BUSY, FAILED, SOMEWHERE, UNKNOWN, Acknowledged, Outcome
from contracts.derived_ids import KeySpace, derived_event_id
from contracts.event import ActivityCommand

SPACE = KeySpace("default")
LOGIN = ActivityCommand("user-1", "LOGIN")
LOGOUT = ActivityCommand("user-1", "LOGOUT")


class Clock:
    now = 1_000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("command_side.idempotency.time.monotonic", lambda: found.now)
    return found


def claimed(keys: RecentKeys, key: bytes, command: ActivityCommand = LOGIN) -> Claim:
    found = keys.claim(keys.keyed(SPACE, key, command, "r"))
    assert not isinstance(found, KeyConflict)
    return found


def led(keys: RecentKeys, key: bytes, command: ActivityCommand = LOGIN) -> Lead:
    found = claimed(keys, key, command)
    assert isinstance(found, Lead)
    return found


def followed(keys: RecentKeys, key: bytes) -> Follow:
    found = claimed(keys, key)
    assert isinstance(found, Follow)
    return found


def settled(keys: RecentKeys, key: bytes) -> Settled:
    found = claimed(keys, key)
    assert isinstance(found, Settled)
    return found


def test_an_id_is_a_uuid_of_version_8_from_tenant_and_key() -> None:
    made = derived_event_id(KeySpace("acme"), b"key-1")
    assert (made.version, made.variant) == (8, "specified in RFC 4122")
    digest = hashlib.sha256(b"acme\0key-1").digest()
    mask = ~((0xF << 76) | (0x3 << 62))
    assert made.int & mask == int.from_bytes(digest[:16], "big") & mask
    assert derived_event_id(KeySpace("acme"), b"key-1") == made
    spaces = [KeySpace("a"), KeySpace("ab"), KeySpace("a", "b"), KeySpace("a", "bc")]
    assert len({derived_event_id(space, key) for space in spaces for key in (b"bc", b"c", b"\x7e")}) == 12


def test_a_derived_id_never_changes() -> None:
    assert derived_event_id(KeySpace("default"), b"order-1842-viewed") == UUID("3107d537-01d3-8040-a3b4-a8e7003c1b49")


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
    lead, follow = led(keys, b"k"), followed(keys, b"k")
    assert follow.record is lead.record
    waiting = [asyncio.create_task(follow.outcome()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # one who leaves takes nothing from the others
    await asyncio.sleep(0)
    lead.settle(Acknowledged(1, 7))
    assert await asyncio.gather(*waiting[1:]) == [Acknowledged(1, 7)] * 2
    assert settled(keys, b"k") == Settled(lead.record, Acknowledged(1, 7))


@pytest.mark.parametrize("outcome", [FAILED, UNKNOWN, BUSY, SOMEWHERE, Acknowledged(0, 0)])
async def test_who_follows_learns_that_outcome_even_if_it_looks_only_after_the_end(outcome: Outcome) -> None:
    keys = RecentKeys(max_bytes=1_000_000, window=60)
    lead, follow = led(keys, b"k"), followed(keys, b"k")
    lead.settle(outcome)
    assert await follow.outcome() == outcome


async def test_who_follows_one_that_failed_learns_nothing_of_a_later_success() -> None:
    keys = RecentKeys(max_bytes=1_000_000, window=60)
    lead, follow = led(keys, b"k"), followed(keys, b"k")
    lead.settle(FAILED)
    led(keys, b"k").settle(Acknowledged(0, 1))
    assert await follow.outcome() == FAILED


async def test_who_leads_and_leaves_leaves_an_unknown_outcome() -> None:
    keys = RecentKeys(max_bytes=1_000_000, window=60)
    lead, follow = led(keys, b"k"), followed(keys, b"k")
    lead.leave()
    assert await follow.outcome() == UNKNOWN
    again = led(keys, b"k")
    again.settle(SOMEWHERE)
    again.leave()  # nothing is left to be said
    assert settled(keys, b"k").outcome == SOMEWHERE


async def test_a_repeat_that_fails_does_not_say_that_nothing_was_recorded_when_nobody_knows() -> None:
    keys = RecentKeys(max_bytes=1_000_000, window=60)
    led(keys, b"k").settle(UNKNOWN)
    assert led(keys, b"k").settle(FAILED) == UNKNOWN
    assert led(keys, b"k").settle(BUSY) == UNKNOWN
    assert led(keys, b"k").settle(SOMEWHERE) == SOMEWHERE


async def test_after_a_failure_a_repeat_publishes_the_same_record() -> None:
    keys = RecentKeys(max_bytes=1_000_000, window=60)
    lead = led(keys, b"k")
    lead.settle(FAILED)
    assert led(keys, b"k").record is lead.record


async def test_a_key_that_is_released_is_free_for_another_command_unless_it_was_there_before() -> None:
    keys = RecentKeys(max_bytes=1_000_000, window=60)
    keyed = keys.keyed(SPACE, b"k", LOGIN, "r")
    lead = keys.claim(keyed)
    assert isinstance(lead, Lead)
    keys.release(keyed, lead)
    led(keys, b"k", LOGOUT).settle(UNKNOWN)  # it may be in the log
    repeat = keys.keyed(SPACE, b"k", LOGOUT, "r")
    again = keys.claim(repeat)
    assert isinstance(again, Lead)
    keys.release(repeat, again)
    assert keys.claim(keys.keyed(SPACE, b"k", LOGIN, "r")) == KeyConflict()


async def test_another_command_under_a_remembered_key_is_a_conflict() -> None:
    keys = RecentKeys(max_bytes=1_000_000, window=60)
    led(keys, b"k")
    assert keys.claim(keys.keyed(SPACE, b"k", LOGOUT, "r")) == KeyConflict()
    assert isinstance(keys.claim(keys.keyed(SPACE, b"another", LOGOUT, "r")), Lead)


async def test_a_key_is_forgotten_after_the_window(clock: Clock) -> None:
    keys = RecentKeys(max_bytes=1_000_000, window=60)
    led(keys, b"k")
    clock.now += 59.9
    followed(keys, b"k")
    clock.now += 0.1
    led(keys, b"k", LOGOUT)


async def test_beyond_its_memory_it_forgets_the_oldest() -> None:
    keys = RecentKeys(max_bytes=20 * ENTRY_BYTES, window=60)
    for n in range(1_000):
        led(keys, b"%d" % n)
    for n in range(990, 1_000):
        followed(keys, b"%d" % n)
    led(keys, b"900")
