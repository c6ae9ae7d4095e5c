"""While several tenants read from one process, each gets its part; who asks little waits for nobody."""

import asyncio
from functools import partial

import pytest

from web.policies.decisions import ADMIT, Admit, NeedsIO
from web.policies.limits.turns import AT_ONCE, LONGEST, REMEMBERED, Turn, Turns
from web.policies.principal import ANONYMOUS, AccessScope, Principal
from web.policies.request_head import RequestHead

PLACES = 10


def read(tenant: str, path: str = "/events/processed", subject: str = "key:1") -> RequestHead:
    head = RequestHead("GET", path, path.encode(), b"", [], None, "http")
    head.facts = {Principal: Principal(tenant, subject, frozenset(AccessScope))}
    return head


class Reads:
    """Reads of tenants, and the clock that they go by."""

    def __init__(self) -> None:
        self.now = 100.0
        self.turns = Turns(PLACES, lambda: self.now)
        self.going: dict[str, list[RequestHead]] = {}

    def begins(self, tenant: str) -> bool:
        """Whether a read begins at once."""
        decision = self.turns(read(tenant))
        if isinstance(decision, Admit):
            self._goes(tenant, decision)
        return isinstance(decision, Admit)

    def _goes(self, tenant: str, decision: Admit) -> None:
        head = read(tenant)
        head.facts[Turn] = decision.fact
        self.going.setdefault(tenant, []).append(head)

    def waits(self, tenant: str) -> "asyncio.Task[None]":
        """A read that has to wait; it is done when it has begun."""
        decision = self.turns(read(tenant))
        assert isinstance(decision, NeedsIO)

        async def waiting() -> None:
            admitted = await decision.ask()
            assert isinstance(admitted, Admit)
            self._goes(tenant, admitted)

        return asyncio.create_task(waiting())

    def end(self, tenant: str, took: float = 0.01) -> None:
        self.now += took
        head = self.going[tenant].pop(0)
        self.turns._end(head)


@pytest.fixture
def reads() -> Reads:
    return Reads()


def test_a_tenant_alone_is_not_held_up(reads: Reads) -> None:
    assert all(reads.begins("acme") for _ in range(100))


def test_an_open_door_and_what_lasts_by_itself_have_no_turns(reads: Reads) -> None:
    assert reads.turns(read("default", subject=ANONYMOUS)) is ADMIT
    assert reads.turns(read("acme", "/events/stream")) is ADMIT
    assert reads.turns(read("acme", "/health/ready")) is ADMIT


async def test_who_asks_little_goes_at_once_and_who_asks_much_waits(reads: Reads) -> None:
    assert all(reads.begins("acme") for _ in range(30))
    assert reads.begins("bolt")
    waiting = reads.waits("acme")
    for _ in range(5):
        reads.end("bolt")
        assert reads.begins("bolt")
    for _ in range(30 - AT_ONCE + 1):
        reads.end("acme", took=0)
    await asyncio.sleep(0)
    assert not waiting.done(), "as many are at work as may be"
    reads.end("acme", took=0)
    await asyncio.wait_for(waiting, 5)


def noted(order: list[str], tenant: str, _ended: "asyncio.Task[None]") -> None:
    order.append(tenant)


async def test_the_next_turn_is_of_the_tenant_whose_reads_took_least_time(reads: Reads) -> None:
    assert all(map(reads.begins, ("acme", "bolt") * (AT_ONCE // 2)))
    order: list[str] = []
    for tenant in ("acme", "bolt", "bolt"):
        reads.waits(tenant).add_done_callback(partial(noted, order, tenant))
    await asyncio.sleep(0)
    for ended in ("acme", "bolt", "bolt"):  # which have taken 0.05, 0.06 and 0.07 s
        reads.end(ended, took=0.05 if ended == "acme" else 0.01)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert order == ["bolt", "acme", "bolt"]


async def test_a_read_that_takes_long_loses_its_turn_and_not_its_place(reads: Reads) -> None:
    assert all(reads.begins("acme") for _ in range(PLACES // 2))
    assert reads.begins("bolt")
    reads.now += 2 * LONGEST
    assert all(reads.begins("bolt") for _ in range(2)), "those of acme have had their turns"
    refused = reads.waits("acme")
    await asyncio.sleep(0)
    assert not refused.done(), "it holds half of the places"
    reads.end("acme")
    await asyncio.wait_for(refused, 5)


async def test_who_waits_behind_long_reads_goes_on_although_nothing_ends(reads: Reads) -> None:
    assert all(reads.begins(tenant) for tenant in ("acme", "bolt") * (AT_ONCE // 2))
    waiting = reads.waits("acme")
    await asyncio.sleep(2 * LONGEST)
    assert not waiting.done(), "by the clock of the reads, nothing has taken long yet"
    reads.now += 2 * LONGEST
    await asyncio.wait_for(waiting, 5)


async def test_who_leaves_while_waiting_leaves_nothing_behind(reads: Reads) -> None:
    assert all(reads.begins("acme") for _ in range(AT_ONCE))
    assert reads.begins("bolt")
    waiting = reads.waits("acme")
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    while reads.going["acme"]:
        reads.end("acme")
    reads.end("bolt")
    reads.now += 2 * REMEMBERED
    assert reads.begins("cane")
    assert reads.begins("cane")
    assert (reads.turns._at_work, len(reads.turns._begun)) == (2, 2)
