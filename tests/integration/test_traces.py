"""One trace tells an event's life, from the request to what queries see (docs/traces.md)."""

import asyncio
import json
import os
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from click.testing import CliRunner

from footfall.cli.main import cli
from footfall.cli.output import dead_letters as dlq_terminal
from tests.conftest import Footfall
from tests.otlp_receiver import Receiver, Span, otlp_receiver
from tests.processes import Process, wait_until
from tests.producing import sql

OURS = "5" + "0" * 20  # how the traces begin that `Poster` marks
CLIENT_TRACE, CLIENT_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{CLIENT_TRACE}-{CLIENT_SPAN}-01"
REFUSE_ONE = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN IF NEW.user_id = 'cursed' THEN RAISE EXCEPTION 'no luck'; END IF; RETURN NEW; END $$
"""
TRIGGER = (
    "CREATE TRIGGER refuse BEFORE INSERT ON read_g1.processed_events FOR EACH ROW EXECUTE FUNCTION public.refuse()"
)
SERVER, CLIENT, PRODUCER, CONSUMER = 2, 3, 4, 5


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with otlp_receiver() as found:
        yield found


@pytest.fixture(scope="module")
def sides(shared_footfall: Footfall, receiver: Receiver) -> tuple[Process, Process]:
    """The front and a projector. Who sends no `traceparent` is not sampled."""
    where = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
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


def test_the_duration_of_a_request_that_is_recorded_has_its_trace_as_example(sides: tuple[Process, Process]) -> None:
    trace = f"{11:032x}"
    assert post(sides[0], "ann", traceparent=f"00-{trace}-00f067aa0ba902b7-01").status_code == 201
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    told = httpx.get(f"{sides[0].url}/metrics", headers=accept).text
    assert [line for line in told.splitlines() if line.startswith("http_request_seconds_bucket") and trace in line]
    assert trace not in httpx.get(f"{sides[0].url}/metrics").text, "the plain format has no examples"


def test_a_dead_letter_and_its_redrive_are_in_the_trace_and_the_batch_links_its_events(
    shared_footfall: Footfall, sides: tuple[Process, Process], receiver: Receiver
) -> None:
    """Two traces in one batch, and one of them cannot be applied."""
    sql(shared_footfall.servers, REFUSE_ONE)
    sql(shared_footfall.servers, TRIGGER)
    client = "00-{trace:032x}-00f067aa0ba902b7-01"
    traces = [f"{number:032x}" for number in range(1, 4)]
    for number, user in enumerate(("cursed", "blessed", "cursed"), 1):
        assert post(sides[0], user, traceparent=client.format(trace=number)).status_code == 201
    parked = wait_for(receiver, traces[0], {"process", "INSERT"})["process"]
    assert (parked.failed, parked.attributes["footfall.outcome"]) == (True, "parked")
    dead = f"send {shared_footfall.topic}-dlq"
    wait_until(lambda: dead in {span.name for span in receiver.traces()[traces[0]]}, 20, "the dead letter in its trace")
    behind = wait_for(receiver, traces[2], {"process"})["process"]
    assert behind.attributes["error.type"] == "behind"
    wait_for(receiver, traces[1], LIFE)
    sql(shared_footfall.servers, "DROP TRIGGER refuse ON read_g1.processed_events")
    where = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "DATABASE_URL": shared_footfall.servers.projector_url}
    with patch.object(dlq_terminal, "configure_logs"):
        run = CliRunner(env={"ENVIRONMENT": "test", **where}).invoke(cli, ["dlq", "redrive", "--json"])
    assert run.exit_code == 0, run.output
    life = wait_for(receiver, traces[0], {"redrive", "visible"})
    assert life["redrive"].attributes["footfall.outcome"] == "stored"
    assert life["redrive"].parent == life["process"].parent
    assert traces[2] in receiver.connected(traces[0]), "redriven in one chunk"
    warned = [json.loads(line) for line in sides[1].log_text().splitlines() if "record_parked" in line]
    assert [line["trace_id"] for line in warned] == [traces[0]]
    assert all(line["request_id"] for line in warned)


def test_a_batch_of_commands_is_one_trace(sides: tuple[Process, Process], receiver: Receiver) -> None:
    trace = f"{7:032x}"
    items = [{"userId": f"user-{n}", "eventType": "LOGIN", "payload": {}} for n in range(40)]
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    assert httpx.post(f"{sides[0].url}/events/generate/batch", json=items, headers=headers).status_code == 201
    life = wait_for(receiver, trace, LIFE)
    assert life["send"].attributes["messaging.batch.message_count"] == 40
    assert life["process"].parent == life["send"].id
    assert len([span for span in receiver.traces()[trace] if span.name.startswith("send")]) == 1


def test_a_repeat_links_to_the_trace_of_its_event(sides: tuple[Process, Process], receiver: Receiver) -> None:
    traces = [f"{number:032x}" for number in (21, 22)]
    answers = [
        post(sides[0], "again", traceparent=f"00-{trace}-00f067aa0ba902b7-01", **{"Idempotency-Key": "k"})
        for trace in traces
    ]
    assert answers[0].json() == answers[1].json()
    first = wait_for(receiver, traces[0], LIFE)
    repeat = wait_for(receiver, traces[1], {"POST"})["POST"]
    assert repeat.links == [(traces[0], first["send"].id)]
    assert "send" not in {span.name.split()[0] for span in receiver.traces()[traces[1]]}


def test_a_query_has_its_statements_in_its_trace_and_names_no_user(
    sides: tuple[Process, Process], receiver: Receiver
) -> None:
    trace = f"{31:032x}"
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "X-Request-ID": "r-31"}
    assert httpx.get(f"{sides[0].url}/users/nobody-at-all/activity", headers=headers).status_code == 404
    life = wait_for(receiver, trace, {"GET", "SELECT"})
    assert life["GET"].name == "GET /users/{id}/activity"
    assert life["SELECT"].parent == life["GET"].id
    assert life["SELECT"].attributes["db.system.name"] == "postgresql"
    assert "nobody-at-all" not in json.dumps([span.__dict__ for span in receiver.spans])


def test_an_endpoint_that_is_away_harms_nobody(shared_footfall: Footfall) -> None:
    start: Any = shared_footfall.start
    front: Process = start("front", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", OTEL_EXPORTER_OTLP_TIMEOUT="1")
    for n in range(20):
        assert post(front, f"user-{n}").status_code == 201
    wait_until(lambda: "spans_not_exported" in front.log_text(), 20, "the line that says so")
    assert front.terminate() == 0
    assert front.log_text().count("spans_not_exported") == 1
    assert "Traceback" not in front.log_text()


class Poster(asyncio.Protocol):
    """Posts so many events, one after the other; every hundredth of them is sampled, if `mark`."""

    def __init__(self, numbers: range, done: asyncio.Future[None], mark: bool) -> None:
        self._numbers, self._done, self._mark = iter(numbers), done, mark

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._post()

    def data_received(self, data: bytes) -> None:
        if not data.startswith(b"HTTP/1.1 201 "):
            self._done.set_exception(AssertionError(data))
            self._transport.close()
            return
        self._post()

    def _post(self) -> None:
        number = next(self._numbers, None)
        if number is None:
            self._transport.close()
            self._done.set_result(None)
            return
        body = b'{"userId":"user-%d","eventType":"LOGIN","payload":{}}' % (number % 997)
        head = b"POST /events/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        if self._mark and number % 100 == 0:
            head += b"traceparent: 00-5%031x-00f067aa0ba902b7-01\r\n" % (number + 1)
        self._transport.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)


async def post_events(port: int, count: int, mark: bool) -> None:
    """Over 32 connections."""
    loop, each = asyncio.get_running_loop(), count // 32
    ends = [loop.create_future() for _ in range(32)]
    for index, end in enumerate(ends):
        numbers = range(index * each, index * each + each)
        await loop.create_connection(lambda n=numbers, e=end: Poster(n, e, mark), "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.gather(*ends)


def torn(spans: list[Span]) -> bool:
    """Whether something of an event's life is missing, or a span's parent."""
    ids = {span.id for span in spans} | {"", CLIENT_SPAN}
    return {span.name.split()[0] for span in spans} != LIFE - {"INSERT"} or any(
        span.parent not in ids for span in spans
    )


def whole_traces(receiver: Receiver, begins: str) -> dict[str, list[Span]]:
    """The traces whose ids begin so, without PostgreSQL's span, which only the first of a batch has."""
    found = {trace: [span for span in spans if "INSERT" not in span.name] for trace, spans in receiver.traces().items()}
    return {trace: spans for trace, spans in found.items() if trace.startswith(begins)}


def test_every_sampled_event_has_one_whole_trace(sides: tuple[Process, Process], receiver: Receiver) -> None:
    asyncio.run(post_events(int(sides[0].url.rpartition(":")[2]), 3_200, mark=True))

    def whole() -> list[str]:
        return [trace for trace, spans in whole_traces(receiver, OURS).items() if not torn(spans)]

    wait_until(lambda: len(whole()) >= 32, 30, "32 whole traces")
    assert len(whole()) == len(whole_traces(receiver, OURS)) == 32
    linked = {other for spans in whole_traces(receiver, OURS).values() for span in spans for other, _ in span.links}
    assert len(linked) == 32, "every batch links to its events"


@pytest.mark.skipif("FOOTFALL_LONG" not in os.environ, reason="100,000 events; FOOTFALL_LONG=1")
def test_one_percent_of_100_000_events_are_1_000_whole_traces(new_footfall: Any) -> None:
    footfall: Footfall = new_footfall()
    with otlp_receiver() as receiver:
        start: Any = footfall.start
        where = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        ratio = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
        try:
            front = start("front", **where, **ratio)
            projector = start("projector", **where)
            asyncio.run(post_events(int(front.url.rpartition(":")[2]), 100_000, mark=False))
            wait_until(lambda: stored(footfall) == 100_000, 120, "100,000 rows")
            assert projector.terminate() == front.terminate() == 0
        finally:
            footfall.close()
        posts = {trace: spans for trace, spans in whole_traces(receiver, "").items() if len(spans) > 1}
        assert 900 <= len(posts) <= 1_100
        assert [trace for trace, spans in posts.items() if torn(spans)] == []


def stored(footfall: Footfall) -> int:
    return int(sql(footfall.servers, "SELECT count(*) FROM read_g1.processed_events")[0]["count"])
