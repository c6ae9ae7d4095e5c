"""A stream that catches up with a tail which a forced promotion has left ahead of the generation that serves."""

from typing import Any

import httpx

from tests.drivers.rebuilding import rebuild
from tests.feeds import Received, id_of, ids, page, read_all, stream, wait_until_past
from tests.patience import PATIENCE
from tests.producing import an_event, produce, record_of, start_projector

EVENTS = 60
MIDDLE = 20


def test_a_reader_between_the_generation_and_the_tail_misses_nothing(new_footfall: Any) -> None:
    footfall = new_footfall(partitions=2)
    try:
        projector = start_projector(footfall)
        side = footfall.start("query-side", STREAM_HEARTBEAT_MS="200")
        records = [record_of(an_event(f"user-{n % 7}", {"n": n})) for n in range(EVENTS)]
        with httpx.Client(base_url=side.url, timeout=PATIENCE) as client, stream(side.url) as keeps_the_tail_ahead:
            keeps_the_tail_ahead.read_until(lambda told: bool(told.comments))
            wait_until_past(client, produce(footfall, records))
            keeps_the_tail_ahead.read_until(lambda told: len(told.events) == EVENTS)
            seen, cursor, _ = page(client, "beginning", MIDDLE)

            assert projector.terminate() == 0
            rebuild(footfall, "start")
            rebuild(footfall, "promote", "--force")
            assert read_all(client, "beginning")[0] == []  # the new generation has not begun
            told = Received(last_id=cursor)
            with stream(side.url, told) as live:
                live.read_until(lambda told: len(told.comments) >= 5)
                assert told.events == []
                start_projector(footfall)
                live.read_until(lambda told: len(told.events) == EVENTS - MIDDLE)
                last = record_of(an_event("user-1", {"n": EVENTS}))
                produce(footfall, [last])
                live.read_until(lambda told: len(told.events) == EVENTS - MIDDLE + 1)
            keeps_the_tail_ahead.read_until(lambda told: len(told.events) == EVENTS + 1)
            everything = [id_of(record) for record in (*records, last)]
            assert sorted([*ids(seen), *told.ids()]) == sorted(everything)
            assert told.ids()[-1] == id_of(last)
            assert sorted(keeps_the_tail_ahead.told.ids()) == sorted(everything)
    finally:
        footfall.close()
