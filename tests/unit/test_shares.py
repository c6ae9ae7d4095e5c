"""Shares: nobody holds all of what a process can do at once, and who held something and left holds nothing."""

import asyncio

import pytest

from query_side.api.pending_bytes import PAGE_BYTES, WaitingBytes
from web.asgi import Message
from web.policies.decisions import ADMIT, RefusedError
from web.policies.limits.shares import RequestShares, Share
from web.policies.passage import Passage
from web.policies.principal import ANONYMOUS, AccessScope, Principal
from web.policies.request_head import RequestHead


def principal(subject: str) -> Principal:
    return Principal("acme", subject, frozenset(AccessScope))


@pytest.mark.parametrize(
    ("places", "percent", "most"), [(4, 50, 2), (512, 50, 256), (3, 50, 1), (1, 1, 1), (4, 100, 4)]
)
def test_a_share_is_a_part_and_at_least_one(places: int, percent: int, most: int) -> None:
    share = Share("exports", places, percent)
    assert [share.take(principal("key:1")) for _ in range(most + 2)] == [True] * most + [False] * 2
    assert share.take(principal("key:2"))
    share.give_back(principal("key:1"))
    assert share.take(principal("key:1"))
    assert not share.take(principal("key:1"))


def test_a_share_of_bytes_lets_through_what_is_larger_alone() -> None:
    share = Share("bytes of unread pages", 100, 50)
    assert [share.take(principal("key:1"), amount) for amount in (30, 20, 1)] == [True, True, False]
    assert share.take(principal("key:2"), 80), "nobody is refused for ever"
    assert not share.take(principal("key:2"), 1)
    for subject, amount in (("key:1", 30), ("key:1", 20), ("key:2", 80)):
        share.give_back(principal(subject), amount)
    assert len(share) == 0


async def test_unread_pages_of_one_client_leave_room_for_those_of_others() -> None:
    waiting, reads = WaitingBytes(8 * PAGE_BYTES, 50), asyncio.Event()
    begun = 0

    async def unread(message: Message) -> None:
        nonlocal begun
        begun += message["type"] == "http.response.start"
        await reads.wait()

    async def page(subject: str) -> None:
        await waiting.respond(unread, principal(subject), 200, b"x" * PAGE_BYTES, b"application/json")

    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(page("key:1"))
        await asyncio.sleep(0)
        with pytest.raises(RefusedError) as refused:
            await page("key:1")
        assert refused.value.answer.status == 429
        tasks.create_task(page("key:2"))
        await asyncio.sleep(0)
        assert begun == 5
        reads.set()
    assert waiting.held == 0


def test_whoever_holds_nothing_is_forgotten() -> None:
    share = Share("exports", 4, 50)
    for number in range(1_000):
        share.take(principal(f"key:{number}"))
        share.give_back(principal(f"key:{number}"))
    assert len(share) == 0


def test_an_open_door_has_no_shares() -> None:
    share = Share("exports", 4, 50)
    assert all(share.take(principal(ANONYMOUS)) for _ in range(100))
    share.give_back(principal(ANONYMOUS))
    assert len(share) == 0


def test_requests_in_flight_hold_a_place_until_they_have_ended() -> None:
    commands, others = Share("commands", 4, 50), Share("requests", 8, 50)
    policy = RequestShares(commands, others)

    def begun(method: str, subject: str) -> Passage:
        head = RequestHead(method, "/here", b"/here", b"", [], None, "http")
        head.facts = {Principal: principal(subject)}
        return Passage(head, [policy])

    running = [begun("POST", "key:1") for _ in range(3)]
    assert commands.refusal.status == 429
    assert [passage.proceed() for passage in running] == [ADMIT, ADMIT, commands.refusal]
    assert begun("GET", "key:1").proceed() is ADMIT  # reads have places of their own
    assert begun("POST", "key:2").proceed() is ADMIT
    for passage in running:
        passage.end()
        passage.end()
    assert begun("POST", "key:1").proceed() is ADMIT
    assert begun("POST", ANONYMOUS).proceed() is ADMIT
