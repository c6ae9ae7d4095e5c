"""How streams end: for a client that is too slow, and for a server that stops; with a reason, and to be resumed."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from footfall.cli.main import cli
from tests.conftest import Footfall
from tests.drivers.own_broker import OwnBroker
from tests.feeds import Received, page, stream
from tests.patience import PATIENCE
from tests.processes import wait_until
from tests.producing import an_event, metric, produce, record_of, start_projector
from tests.servers import Servers
from tests.topics import make_topics

LARGE = 300  # events of 16 KB: more than sockets and the queue of a client hold
BURST = 25  # of them at once


@pytest.fixture(scope="module")
def footfall(new_footfall: Any) -> Iterator[Footfall]:
    instance: Footfall = new_footfall(partitions=2)
    start_projector(instance)
    yield instance
    instance.close()


def has(count: int) -> Callable[[Received], bool]:
    return lambda told: len(told.ids()) == count


def test_a_slow_client_is_told_why_it_is_dropped_and_misses_nothing(footfall: Footfall) -> None:
    side = footfall.start("query-side")
    records = [record_of(an_event(f"user-{n}", {"n": n, "text": "x" * 15_900})) for n in range(LARGE)]
    ids = [json.loads(record.value or b"")["eventId"] for record in records]
    told, quick = Received(), Received()
    with stream(side.url, told) as slow:
        slow.read_until(lambda told: bool(told.last_id))
        with stream(side.url, quick) as attentive:
            attentive.read_until(lambda told: bool(told.last_id))
            for first in range(0, LARGE, BURST):
                produce(footfall, records[first : first + BURST])
                attentive.read_until(has(first + BURST))  # the other one is in nobody's way
                slow.take_a_little()  # who takes nothing at all for 30 s is cut off without a word
        wait_until(lambda: metric(side, "streams_dropped_total") == 1, 20, "the slow client to be dropped")
        slow.read_until(lambda told: bool(told.ends()))
        assert told.ends() == ["slow"]
        slow.read_until(lambda _: False)  # the answer is whole
        assert slow.ended
    assert 0 < len(told.ids()) < LARGE
    with stream(side.url, told) as again:
        again.read_until(has(LARGE))
    assert sorted(told.ids()) == sorted(quick.ids()) == sorted(ids)
    wait_until(lambda: metric(side, "streams_open") == 0, 20, "the streams to end")


def test_a_server_that_stops_ends_its_streams_and_another_goes_on(footfall: Footfall) -> None:
    first, second = footfall.start("query-side"), footfall.start("query-side")
    told = Received()
    with httpx.Client(base_url=first.url) as client:
        _, cursor, _ = page(client, "now")
    told.last_id = cursor
    with stream(first.url, told) as live:
        live.read_until(lambda told: bool(told.comments))
        records = [record_of(an_event("sid", {"n": n})) for n in range(6)]
        produce(footfall, records[:3])
        live.read_until(has(3))
        assert first.terminate() == 0
        assert "graceful shutdown exceeded" not in first.log_text()  # it waited for no request
        live.read_until(lambda _: False)
    assert told.ends() == ["shutdown"]
    produce(footfall, records[3:])
    with stream(second.url, told) as again:
        again.read_until(has(6))
    assert told.ids() == [json.loads(record.value or b"")["eventId"] for record in records]


def test_a_stream_whose_key_nobody_can_check_ends_and_goes_on_where_it_was(
    new_database: Callable[[], Servers], tmp_path: Path
) -> None:
    """The register of keys comes by Kafka: without it for too long, a process would not hear of a revocation."""
    broker = OwnBroker(tmp_path)
    footfall = Footfall(replace(new_database(), kafka=broker.address), "checked", tmp_path)
    environment = {"AUTH": "keys", "KAFKA_KEYS_TOPIC": "checked-keys", "KEYS_STALE_MS": "5000"}
    try:
        make_topics(footfall, 2)
        variables = {"ENVIRONMENT": "test", **footfall.environment(), **environment}
        made = CliRunner().invoke(cli, ["keys", "create", "--kind", "secret", "--name", "test"], env=variables)
        side = footfall.start("query-side", ready=True, **environment)
        shown = {"Authorization": f"Bearer {made.stdout.strip()}"}
        with httpx.stream("GET", f"{side.url}/events/stream", headers=shown, timeout=PATIENCE) as answer:
            told = answer.iter_text()
            begin = next(told)
            assert "event: begin" in begin
            broker.stop()
            assert '"reason":"unchecked"' in "".join(told)
        refused = httpx.get(f"{side.url}/events/stream", headers=shown)
        assert (refused.status_code, "retry-after" in refused.headers) == (503, True), "it may come back, and when"
        broker.start()
        wait_until(lambda: httpx.head(f"{side.url}/events/stream", headers=shown).status_code == 200, 60, "the keys")
        again = {**shown, "Last-Event-ID": re.findall(r"^id: (.+)$", begin, re.MULTILINE)[0]}
        with httpx.stream("GET", f"{side.url}/events/stream", headers=again, timeout=PATIENCE) as answer:
            assert answer.status_code == 200
    finally:
        footfall.close()
        broker.stop()
