"""nginx, HAProxy and Apache httpd before us, as strangers configure them: nothing waits there, and nothing is lost."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Footfall
from tests.drivers.proxies import Proxied, proxy_before
from tests.foreign_clients import needed, output
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import an_event, produce, record_of, start_projector, wait_until_processed

PROXIES = ("nginx", "haproxy", "apache2")
GENERATE, STREAM = "/events/generate", "/events/stream"
IDLE, HEARTBEAT_MS = 2, "500"  # seconds until a proxy gives up a connection on which nothing happens
EVENTS = 3_000
TRUSTED, CLIENT = "127.0.0.1", "127.0.0.2"
GZIP = {"Accept-Encoding": "gzip"}


@pytest.fixture(scope="module")
def stored(shared_footfall: Footfall) -> Footfall:
    records = [record_of(an_event(f"user-{n % 40}", {"n": n, "text": "x" * 1_000})) for n in range(EVENTS)]
    produce(shared_footfall, records)
    start_projector(shared_footfall)
    wait_until_processed(shared_footfall, EVENTS, PATIENCE)
    return shared_footfall


@pytest.fixture(scope="module")
def front(stored: Footfall) -> Process:
    return stored.start(
        "front",
        STREAM_HEARTBEAT_MS=HEARTBEAT_MS,
        TRUSTED_PROXIES=TRUSTED,
        LIMIT_ADDRESS="2000",
        LIMIT_WINDOW_MS="600000",
    )


@pytest.fixture(scope="module", params=PROXIES)
def proxy(
    request: pytest.FixtureRequest, front: Process, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxied]:
    scratch = tmp_path_factory.mktemp(request.param)
    scratch.chmod(0o777)
    with proxy_before(request.param, front.url, scratch, IDLE) as found:
        yield found


def posted(url: str, user: str) -> dict[str, Any]:
    answer = httpx.post(url + GENERATE, json={"userId": user, "eventType": "LOGIN"}, timeout=PATIENCE)
    assert answer.status_code == 201, answer.text
    return dict(answer.json()["event"])


def told(lines: Iterator[str], wanted: str) -> str:
    """The first line that has the text."""
    return next(line for line in lines if wanted in line)


@pytest.mark.parametrize("headers", [{"Accept-Encoding": "identity"}, GZIP], ids=["as it is", "compressed"])
def test_an_event_comes_at_once_and_heartbeats_keep_a_stream_that_the_proxy_would_end(
    proxy: Proxied, headers: dict[str, str]
) -> None:
    with httpx.stream("GET", proxy.url + STREAM, headers=headers, timeout=PATIENCE) as answer:
        lines = answer.iter_lines()
        told(lines, "event: begin")
        began = time.monotonic()
        while time.monotonic() - began < 2 * IDLE:
            told(lines, ": heartbeat")
        event = posted(proxy.url, "alice")
        assert json.loads(told(lines, '"alice"').removeprefix("data: ")) == event


def test_a_stream_goes_on_after_the_last_id_through_the_proxy(proxy: Proxied) -> None:
    with httpx.stream("GET", proxy.url + STREAM, timeout=PATIENCE) as answer:
        last = told(answer.iter_lines(), "id: ").removeprefix("id: ")
    missed = [posted(proxy.url, "bob") for _ in range(3)]
    headers = {"Last-Event-ID": last}
    with httpx.stream("GET", f"{proxy.url}{STREAM}?userId=bob", headers=headers, timeout=PATIENCE) as answer:
        lines = answer.iter_lines()
        assert [json.loads(told(lines, '"bob"').removeprefix("data: ")) for _ in missed] == missed


@pytest.mark.parametrize("coding", ["identity", "gzip", "br, gzip;q=0.5, *;q=0.1"])
def test_an_export_is_the_same_through_the_proxy(front: Process, proxy: Proxied, coding: str) -> None:
    def export(url: str) -> bytes:
        target = f"{url}/events/processed?format=ndjson&from=2000-01-01"
        answer = httpx.get(target, headers={"Accept-Encoding": coding}, timeout=PATIENCE)
        assert answer.status_code == 200
        return answer.content

    through = export(proxy.url)
    assert through.count(b"\n") >= EVENTS
    assert export(front.url).startswith(through)  # another test may have recorded more since


@pytest.fixture(params=("haproxy", "apache2"))  # nginx asks in HTTP/1.0 unless it is told otherwise: docs/queries.md
def proxy_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_cut_export_looks_cut_behind_the_proxy(stored: Footfall, tmp_path: Path, proxy_name: str) -> None:
    side = stored.start("query-side")
    tmp_path.chmod(0o777)
    with proxy_before(proxy_name, side.url, tmp_path) as before:
        target = f"{before.url}/events/processed?format=ndjson"
        with httpx.stream("GET", target, headers={"Accept-Encoding": "identity"}, timeout=PATIENCE) as answer:
            pieces = answer.iter_raw(1_024)
            next(pieces)
            side.kill()
            with pytest.raises(httpx.RemoteProtocolError):
                list(pieces)


def test_a_command_in_any_clothes_is_recorded_once(front: Process, proxy: Proxied) -> None:
    needed("curl")
    body = json.dumps({"userId": "carol", "eventType": "LOGIN", "payload": {"text": "y" * 9_000}})
    ways = (
        (proxy.url, "-H", "Expect: 100-continue"),
        (proxy.url, "-H", "Transfer-Encoding: chunked"),
        (proxy.url, "-H", "Connection: close"),
        (proxy.url, "-H", "Expect: 100-continue", "-H", "Transfer-Encoding: chunked"),
        (proxy.http2, "--http2-prior-knowledge"),
    )
    command = ("curl", "-sS", "-H", "Content-Type: application/json", "-w", "%{http_code}", "-o", "/dev/null")
    for url, *arguments in ways:
        assert output(*command, *arguments, "-d", body, url + GENERATE) == "201", arguments
    absolute = ("--request-target", f"http://elsewhere.example{GENERATE}")
    assert output(*command, "-d", body, *absolute, front.url) == "201"
    found = f"{front.url}/events/processed?userId=carol&limit=1000"
    wait_until(lambda: len(httpx.get(found).json()) % (len(ways) + 1) == 0, 30, "each of them, once")


def test_http_2_in_front_streams_and_exports(front: Process, proxy: Proxied) -> None:
    needed("curl")
    curl = ("curl", "-sS", "--http2-prior-knowledge", "--compressed", "-N")
    exported = output(*curl, "--max-time", "60", f"{proxy.http2}/events/processed?format=csv")
    assert exported.count("\n") > EVENTS
    streamed = output("sh", "-c", f"timeout 3 {' '.join(curl)} {proxy.http2}{STREAM}; true")
    assert streamed.count("event: begin") == 1
    assert streamed.count(": heartbeat") >= 2, "they come while the stream lasts, not at its end"


def test_nobody_is_taken_for_another_by_what_it_writes_into_a_header(proxy: Proxied) -> None:
    """What a client writes stands before what the proxy adds. Last: it uses up the limit of its address."""

    def status(forwarded: str, address: str) -> int:
        with httpx.Client(transport=httpx.HTTPTransport(local_address=address)) as client:
            headers = {"X-Forwarded-For": forwarded, "Forwarded": f"for={forwarded}", "X-Real-IP": forwarded}
            return client.get(f"{proxy.url}/events/processed?limit=1", headers=headers).status_code

    for number in range(3_000):
        if status(f"203.0.113.{number % 250}", CLIENT) == 429:
            break
    else:
        pytest.fail("nobody was limited")
    assert status("203.0.113.251", CLIENT) == 429
    assert status("203.0.113.251", "127.0.0.3") == 200
