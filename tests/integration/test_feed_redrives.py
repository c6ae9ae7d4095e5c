"""Events that become visible below cursors come once, after they do: redriven, or brought by a promotion."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from contracts.versions import encode_event
from tests.conftest import Footfall
from tests.drivers.rebuilding import dlq, rebuild, wait_until_done
from tests.feeds import Received, id_of, ids, page, read_all, stream, wait_until_past
from tests.patience import PATIENCE
from tests.processes import Process
from tests.producing import Raw, an_event, produce, record_of, sql, start_projector

NEWER = b'{"version":"9.0","eventId":"x","tenantId":"default"}'
REFUSE = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN IF NEW.user_id = 'cursed' THEN RAISE EXCEPTION 'no luck'; END IF; RETURN NEW; END $$
"""
TRIGGER = (
    "CREATE TRIGGER refuse BEFORE INSERT ON read_g1.processed_events FOR EACH ROW EXECUTE FUNCTION public.refuse()"
)


@pytest.fixture(scope="module")
def footfall(new_footfall: Any) -> Iterator[Footfall]:
    instance: Footfall = new_footfall(partitions=2)
    yield instance
    instance.close()


@pytest.fixture(scope="module")
def side(footfall: Footfall) -> Process:
    start_projector(footfall)
    return footfall.start("query-side", STREAM_HEARTBEAT_MS="200")


@pytest.fixture
def client(side: Process) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=side.url, timeout=PATIENCE) as found:
        yield found


def test_redriven_events_come_once_in_order_after_their_redrive(
    footfall: Footfall, side: Process, client: httpx.Client
) -> None:
    ann = [an_event("ann", {"n": n}) for n in range(4)]
    of_ann = [record_of(event) for event in ann]
    bob = [record_of(an_event("bob", {"n": n})) for n in range(20)]
    parked = [Raw(NEWER, b"ann"), *of_ann[1:]]
    places = produce(footfall, [parked[0], *bob[:10], *parked[1:], *bob[10:]])
    wait_until_past(client, places)
    all_bob = [id_of(record) for record in bob]
    before, cursor = read_all(client, limit=3)
    assert ids(before) == all_bob
    middle = page(client, "beginning", 5)[1]

    told, resumed = Received(), Received(last_id=cursor)
    with stream(side.url, told, since="beginning") as live:
        live.read_until(lambda told: len(told.events) == 20)
        fixed = (
            f"UPDATE read_g1.dead_letters SET record_value = '\\x{encode_event(ann[0]).hex()}' WHERE cause <> 'behind'"
        )
        sql(footfall.servers, fixed)
        dlq(footfall, "redrive")
        live.read_until(lambda told: len(told.events) == 24)
        more = [record_of(an_event("ann", {"n": n})) for n in range(4, 6)]
        places = produce(footfall, more)
        live.read_until(lambda told: len(told.events) == 26)
    expected = [id_of(record) for record in (*of_ann, *more)]
    assert told.ids() == [*all_bob, *expected]
    with stream(side.url, resumed) as again:
        again.read_until(lambda told: len(told.events) == 6)
    assert resumed.ids() == expected

    after, end = read_all(client, cursor, limit=1)
    assert ids(after) == expected
    rest = ids(read_all(client, middle, limit=2)[0])
    assert sorted(rest) == sorted([*all_bob[5:], *expected])
    assert [one for one in rest if one in expected] == expected
    everything = ids(read_all(client, limit=1_000)[0])
    assert sorted(everything) == sorted([*all_bob, *expected])
    assert page(client, end) == ([], end, False)
    assert page(client, told.last_id)[0] == []


def test_what_a_promotion_brings_comes_once_to_readers_of_the_old_generation(
    footfall: Footfall, side: Process, client: httpx.Client
) -> None:
    sql(footfall.servers, REFUSE)
    sql(footfall.servers, TRIGGER)
    cursed = [record_of(an_event("cursed", {"n": n})) for n in range(3)]
    zoe = [record_of(an_event("zoe", {"n": n})) for n in range(5)]
    _, start, _ = page(client, "now")
    wait_until_past(client, produce(footfall, [*cursed, *zoe]))
    before, cursor = read_all(client, start)
    assert ids(before) == [id_of(record) for record in zoe]

    sql(footfall.servers, "DROP TRIGGER refuse ON read_g1.processed_events")
    rebuild(footfall, "start")
    total = sql(footfall.servers, "SELECT sum(next_offset)::int AS n FROM read_g1.checkpoints")[0]["n"]
    wait_until_done(footfall, "read_g2", total)
    told = Received(last_id=cursor)
    with stream(side.url, told) as live:
        live.read_until(lambda told: bool(told.comments))
        rebuild(footfall, "promote", "--force")
        live.read_until(lambda told: len(told.events) == 3)
        last = record_of(an_event("cursed", {"n": 3}))
        produce(footfall, [last])
        live.read_until(lambda told: len(told.events) == 4)
    expected = [id_of(record) for record in (*cursed, last)]
    assert told.ids() == expected
    assert ids(read_all(client, cursor, limit=2)[0]) == expected
    everything = ids(read_all(client, limit=7)[0])
    assert len(everything) == len(set(everything))
    assert set(everything) >= {*expected, *ids(before)}
    assert sorted(ids(read_all(client, start)[0])) == sorted([*ids(before), *expected])
