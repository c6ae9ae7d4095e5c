"""One trace tells an event's life, from the request to what queries see (docs/traces.md)."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import Footfall
from tests.otlp_receiver import Receiver, Span, otlp_receiver
from tests.processes import Process, wait_until

CLIENT_TRACE, CLIENT_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{CLIENT_TRACE}-{CLIENT_SPAN}-01"
SERVER, CLIENT, PRODUCER, CONSUMER = 2, 3, 4, 5


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with otlp_receiver() as found:
        yield found


@pytest.fixture(scope="module")
def sides(shared_footfall: Footfall, receiver: Receiver) -> tuple[Process, Process]:
    """The front and a projector. Who sends no `traceparent` is not sampled."""
    where = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    sampler = {"OTEL_TRACES_SAMPLER": "parentbased_always_off"}
    start: Any = shared_footfall.start
    return start("front", **where, **sampler), start("projector", **where)


def post(front: Process, user: str, **headers: str) -> httpx.Response:
    return httpx.post(
        f"{front.url}/events/generate",
        json={"userId": user, "eventType": "PRODUCT_VIEW", "payload": {"productId": "p-secret"}},
        headers=headers,
    )


def wait_for(receiver: Receiver, trace: str, names: set[str]) -> dict[str, Span]:
    """The spans of a trace, by the first word of their names, once all are there."""

    def found() -> dict[str, Span]:
        return {span.name.split()[0]: span for span in receiver.traces().get(trace, [])}

    wait_until(lambda: names <= found().keys(), 20, f"{names} in {trace}, which has {found().keys()}")
    return found()


LIFE = {"POST", "send", "produce", "process", "INSERT", "visible"}


def test_one_trace_tells_the_life_of_an_event(sides: tuple[Process, Process], receiver: Receiver) -> None:
    answer = post(sides[0], "zoe-the-user", traceparent=TRACEPARENT)
    assert answer.status_code == 201
    life = wait_for(receiver, CLIENT_TRACE, LIFE)
    parents = {name: span.parent for name, span in life.items()}
    assert parents == {
        "POST": CLIENT_SPAN,
        "send": life["POST"].id,
        "produce": life["send"].id,
        "process": life["send"].id,
        "INSERT": life["process"].id,
        "visible": life["send"].id,
    }
    kinds = {name: span.kind for name, span in life.items() if name != "visible"}
    assert kinds == {"POST": SERVER, "send": PRODUCER, "produce": CLIENT, "process": CONSUMER, "INSERT": CLIENT}
    partition, offset = answer.headers["Footfall-Position"].split("-")
    for name in ("send", "process"):
        said = life[name].attributes
        assert (said["messaging.destination.partition.id"], said["messaging.kafka.offset"]) == (partition, int(offset))
        assert said["messaging.message.id"] == answer.json()["event"]["eventId"]
    assert life["POST"].attributes["http.response.status_code"] == 201
    assert life["POST"].attributes["http.route"] == "/events/generate"
    assert life["process"].links == [(CLIENT_TRACE, life["send"].id)]
    assert (life["POST"].service, life["process"].service) == ("footfall-front", "footfall-projector")
    told = json.dumps([span.__dict__ for span in receiver.spans])
    assert "zoe" not in told
    assert "p-secret" not in told
