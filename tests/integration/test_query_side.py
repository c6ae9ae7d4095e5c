"""The query side over real HTTP and a real PostgreSQL: exact answers, one snapshot, constant memory, outages."""

import asyncio
import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import psutil
import pytest

from contracts.versions import encode_event
from query_side.events import queries
from tests.conftest import Footfall
from tests.drivers.token_issuer import authorization, keys_served
from tests.many_events import event_path, fill
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.servers import Servers
from tests.stored_events import NOON, event, store, store_async, wire
from tests.tcp_proxy import TcpProxy, tcp_proxy

PROCESSED = "/events/processed"
MANY = 1_000_000 if os.environ.get("FOOTFALL_LONG") else 300_000  # events: 88 MB as JSON, more than MEMORY
MEMORY = 64 * 1024 * 1024  # bytes that they may add
AWAY = "The read model is not available; try again shortly."
SECURE = {"x-content-type-options": "nosniff", "cache-control": "no-store", "content-type": "application/json"}

INSERT_CHECKPOINT = """
INSERT INTO read_g1.checkpoints (topic, partition, next_offset, epoch, owner, stored) VALUES ('t', $1, 9, 1, 'o', $2)
"""


def failed(error: str) -> dict[str, Any]:
    return {"success": False, "event": None, "errors": None, "error": error}


async def run_sql(url: str, statement: str, *arguments: Any) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement, *arguments, timeout=PATIENCE)
    finally:
        await connection.close()


def client_of(process: Process) -> httpx.Client:
    return httpx.Client(base_url=process.url, timeout=PATIENCE)


def test_events_come_back_oldest_first_and_equal(footfall: Footfall) -> None:
    nasty = {
        "backslashes": "\\ \\\\ \\n \\t \\N \\. \\u0041",
        "quotes": "\" ' `",
        "newlines": "a\nb\r\nc\td\x08\x0c\x0b\x1b",
        "unicode": "日本 😀 é \u2028 \u2029 \x7f \ufeff",
        "lookalikes": "\\u0000 \\x00 \\\\u0000 \\ud800",
        "nested": [{"\\": ["\\n", {"\t": None}]}, 1.5, -0.0, 2**64 - 1, True],
        "": "",
    }
    events = [
        event(0),
        event(1, payload=nasty, user_id="back\\slash 😀 \\N"),
        event(2, payload={}),
        event(3, timestamp=NOON + timedelta(seconds=2, microseconds=1)),
        event(4, timestamp=datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        event(5, timestamp=datetime(1, 1, 1, tzinfo=UTC)),
    ]
    expected = [events[5], *events[:5]]
    side = footfall.start("query-side")
    with client_of(side) as client:
        empty = client.get(PROCESSED)
        assert (empty.status_code, empty.content) == (200, b"[]")
        store(footfall.servers.admin_url, *reversed(events))
        answer = client.get(PROCESSED, headers={"x-request-id": "r-1"})
        assert answer.status_code == 200
        assert SECURE.items() <= dict(answer.headers).items()
        assert answer.headers["x-request-id"] == "r-1"
        assert answer.json() == [wire(one) for one in expected]
        assert answer.content == b"[" + b",\n".join(encode_event(one) for one in expected) + b"]"
        for one in events:
            answer = client.get(f"/events/{one.event_id}")
            assert (answer.status_code, answer.content) == (200, encode_event(one))
            assert SECURE.items() <= dict(answer.headers).items()
        assert client.get(f"/events/{str(events[0].event_id).upper()}").json() == wire(events[0])


NO_UUIDS = (
    "%7B01980000-0000-7000-8000-000000000001%7D",
    "urn:uuid:01980000-0000-7000-8000-000000000001",
    "%EF%BC%901980000-0000-7000-8000-000000000001",
    "0198-00000000-7000-8000-000000000001",
)
UUIDS = (
    "01980000-0000-7000-8000-00000000ABCD",
    "0198000000007000800000000000abcd",
    "01980000%2D0000-7000-8000-00000000abcd",
)


def test_an_event_and_its_status_take_the_same_ids_and_no_parameters(client: httpx.Client) -> None:
    for end, found in (("", 404), ("/status", 200)):
        for text in NO_UUIDS:
            answer = client.get(f"/events/{text}{end}")
            assert (answer.status_code, answer.json()) == (400, failed("The event id in the path must be a UUID."))
        for text in UUIDS:
            assert client.get(f"/events/{text}{end}").status_code == found
        for query in ("%70osition=0-99", "Position=0-99", "x=1"):
            answer = client.get(f"/events/{UUIDS[0]}{end}?{query}")
            assert answer.status_code == 400, query
            assert answer.json()["errors"][0].startswith("Unknown parameter"), query


@pytest.fixture(scope="module")
def side(shared_footfall: Footfall) -> Process:
    return shared_footfall.start("query-side", QUERY_POOL_SIZE="2", MAX_EXPORTS="2", EXPORT_TIMEOUT_MS="60000")


@pytest.fixture
def client(side: Process) -> Iterator[httpx.Client]:
    with client_of(side) as found:
        yield found


@pytest.mark.parametrize(
    ("method", "path", "status", "error", "allow"),
    [
        ("GET", "/events/01980000-0000-7000-8000-ffffffffffff", 404,
         "No such event in the read model (it may not be projected yet).", None),
        ("GET", "/events/1", 400, "The event id in the path must be a UUID.", None),
        ("GET", "/events/01980000-0000-7000-8000-00000000000g", 400, "The event id in the path must be a UUID.", None),
        ("GET", "/events/%00", 400, "The event id in the path must be a UUID.", None),
        ("POST", PROCESSED, 405, "Method POST is not allowed here; use GET.", "GET, HEAD"),
        ("DELETE", PROCESSED, 405, "Method DELETE is not allowed here; use GET.", "GET, HEAD"),
        ("PUT", "/events/01980000-0000-7000-8000-000000000001", 405, "Method PUT is not allowed here; use GET.",
         "GET, HEAD"),
        ("GET", "/", 404, "Not found", None),
        ("GET", "/nowhere", 404, "Not found", None),
        ("GET", "/events/processed/more", 404, "Not found", None),
    ],
)  # fmt: skip
def test_refusals_are_answered_in_the_envelope(
    client: httpx.Client, method: str, path: str, status: int, error: str, allow: str | None
) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json(), answer.headers.get("allow")) == (status, failed(error), allow)
    assert SECURE.items() <= dict(answer.headers).items()


@pytest.fixture(scope="module")
def many_events(shared_footfall: Footfall) -> Footfall:
    """A read model of many events, for the tests that stream."""
    fill(shared_footfall.servers.admin_url, MANY)
    return shared_footfall


def test_many_events_stream_in_one_snapshot_with_constant_memory(
    side: Process, client: httpx.Client, many_events: Footfall
) -> None:
    client.get(event_path(0)).raise_for_status()  # warm: pool, code paths
    process = psutil.Process(side.popen.pid)
    before = most = process.memory_info().rss
    newlines, head, tail = 0, b"", b""
    with client.stream("GET", PROCESSED, headers={"accept-encoding": "identity"}) as answer:
        assert answer.status_code == 200
        for number, chunk in enumerate(answer.iter_raw()):
            if number == 0:
                head = chunk[:500]
                # Written while the answer is under way: at the end, where the stream has not been yet.
                store(many_events.servers.admin_url, event(MANY, timestamp=datetime(2099, 1, 1, tzinfo=UTC)))
            newlines += chunk.count(b"\n")
            tail = (tail + chunk)[-500:]
            most = max(most, process.memory_info().rss)
    assert newlines + 1 == MANY
    assert json.loads(head[1:].partition(b",\n")[0])["userId"] == "user-0"
    last = json.loads(tail.rpartition(b",\n")[2].removesuffix(b"]"))
    assert last["payload"] == {
        "productId": f"p-{MANY - 1}",
        "referrer": 'https://example.com/?q="a\\b"',
        "ip": "203.0.113.7",
    }
    assert most - before <= MEMORY, f"{(most - before) / 2**20:.0f} MiB"


def slow_reader(side: Process, *headers: str) -> socket.socket:
    """A client that asks for everything, reads a little, and then only holds the connection."""
    address = urlsplit(side.url)
    connection = socket.create_connection((address.hostname or "", address.port or 0), PATIENCE)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    connection.sendall("\r\n".join([f"GET {PROCESSED} HTTP/1.1", "Host: here", *headers, "", ""]).encode())
    assert connection.recv(12) == b"HTTP/1.1 200"
    return connection


def test_more_exports_than_allowed_are_503_and_leaving_frees_them(
    side: Process, client: httpx.Client, many_events: Footfall
) -> None:
    readers = [slow_reader(side), slow_reader(side)]
    answer = client.get(PROCESSED)
    assert (answer.status_code, answer.json()) == (
        503,
        failed("Too many answers of all events are being streamed; try again shortly."),
    )
    assert answer.headers["retry-after"] == "5"
    for reader in readers:
        reader.close()

    def accepted() -> bool:
        with client.stream("GET", PROCESSED) as again:
            return again.status_code == 200  # and leave in the middle, which must free it once more

    for _ in range(4):  # more often than there are connections in the pool
        wait_until(accepted, 10, "an export to be accepted after others were abandoned")
    wait_until(lambda: backends(many_events, "COPY") == 0, 10, "abandoned queries to end in PostgreSQL")
    assert client.get(event_path(0)).status_code == 200


def test_one_client_holds_its_share_of_the_exports(many_events: Footfall) -> None:
    with keys_served() as issuer:
        settings: dict[str, Any] = {"MAX_EXPORTS": "2", **issuer}
        side = many_events.start("query-side", **settings)
        alice, bob = authorization("alice", "events:read export"), authorization("bob", "events:read export")
        mine = slow_reader(side, alice)
        with client_of(side) as client:
            again = client.get(PROCESSED, headers={"Authorization": alice.partition(": ")[2]})
        assert again.status_code == 429
        assert again.json() == failed(
            "Too many exports at once: 1 are the share of one client. Try again when one has ended."
        )
        for reader in (mine, slow_reader(side, bob)):
            reader.close()


def backends(footfall: Footfall, running: str) -> int:
    """How many sessions of the query side run a statement that begins so."""

    async def count() -> int:
        connection = await asyncpg.connect(footfall.servers.query_url)
        try:
            found: int = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'footfall-query-side' "
                "AND datname = current_database() AND state = 'active' AND query LIKE $1 || '%'",
                running,
            )
            return found
        finally:
            await connection.close()

    return asyncio.run(count())


def test_a_client_that_stops_reading_is_cut_off(many_events: Footfall) -> None:
    side = many_events.start("query-side", MAX_EXPORTS="1", EXPORT_TIMEOUT_MS="1000")
    with slow_reader(side), client_of(side) as client:
        assert client.get(PROCESSED).status_code == 503

        # It never closes its end, yet its place is free again.
        def accepted() -> bool:
            with client.stream("GET", PROCESSED) as again:
                return again.status_code == 200

        wait_until(accepted, 10, "the stalled export to be given up")
    assert side.terminate() == 0


def test_lookups_are_answered_while_all_exports_are_taken(
    side: Process, client: httpx.Client, many_events: Footfall
) -> None:
    readers = [slow_reader(side), slow_reader(side)]  # as many as MAX_EXPORTS, and as QUERY_POOL_SIZE
    try:
        answer = client.get(event_path(0))
        assert answer.status_code in (200, 503)
    finally:
        for reader in readers:
            reader.close()


def test_head_of_an_event_tells_its_length(client: httpx.Client, many_events: Footfall) -> None:
    path = event_path(0)
    answer = client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(client.get(path).content))


@pytest.fixture
def proxied(footfall: Footfall) -> Iterator[tuple[TcpProxy, Process]]:
    """A query side that reaches PostgreSQL through a proxy, with one event stored."""
    store(footfall.servers.admin_url, event(7))
    parts = urlsplit(footfall.servers.query_url)
    with tcp_proxy(parts.hostname or "", parts.port or 5432) as proxy:
        url = urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}"))
        yield proxy, footfall.start("query-side", DATABASE_URL=url, QUERY_TIMEOUT_MS="3000")
        footfall.close()


def test_while_postgresql_is_away_every_query_is_503_and_afterwards_all_is_well(
    proxied: tuple[TcpProxy, Process],
) -> None:
    proxy, side = proxied
    found = f"/events/{event(7).event_id}"
    with client_of(side) as client:
        assert client.get(found).json() == wire(event(7))
        for _ in range(2):
            proxy.cut()
            for path in (found, PROCESSED, found):
                answer = client.get(path)
                assert (answer.status_code, answer.json()) == (503, failed(AWAY))
                assert answer.headers["retry-after"] == "2"
            ready = client.get("/health/ready")
            assert ready.status_code == 503
            assert ready.json()["dependencies"]["postgres"]["ok"] is False
            assert client.get("/health/live").status_code == 200
            assert client.get("/metrics").status_code == 200
            proxy.mend()
            wait_until(lambda: client.get(found).status_code == 200, 10, "the read model to be back")
            assert client.get(PROCESSED).json() == [wire(event(7))]
            assert client.get("/health/ready").status_code == 200


def test_while_postgresql_hangs_a_query_is_503_within_its_timeout(proxied: tuple[TcpProxy, Process]) -> None:
    proxy, side = proxied
    with client_of(side) as client:
        proxy.freeze()
        try:
            answer = client.get(f"/events/{event(7).event_id}")  # it thaws only after this
            assert (answer.status_code, answer.json()) == (503, failed(AWAY))
        finally:
            proxy.thaw()
        wait_until(lambda: client.get(f"/events/{event(7).event_id}").status_code == 200, 10, "answers again")


def test_a_stream_that_postgresql_breaks_does_not_look_whole(many_events: Footfall) -> None:
    parts = urlsplit(many_events.servers.query_url)
    with tcp_proxy(parts.hostname or "", parts.port or 5432) as proxy:
        url = urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}"))
        side = many_events.start("query-side", DATABASE_URL=url)
        with client_of(side) as client:
            with client.stream("GET", PROCESSED) as answer:
                chunks = answer.iter_raw()
                next(chunks)
                proxy.cut()
                with pytest.raises(httpx.RemoteProtocolError):
                    list(chunks)
            proxy.mend()
            path = event_path(0)
            wait_until(lambda: client.get(path).status_code == 200, 10, "the next query to succeed")


def test_many_lookups_at_once(client: httpx.Client, many_events: Footfall) -> None:
    def look(number: int) -> str:
        answer = client.get(event_path(number))
        assert answer.status_code == 200
        return str(answer.json()["payload"]["productId"])

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(look, range(200))) == [f"p-{n}" for n in range(200)]


def test_health_and_metrics(footfall: Footfall) -> None:
    side = footfall.start("query-side")
    for partition in (0, 1):
        asyncio.run(run_sql(footfall.servers.admin_url, INSERT_CHECKPOINT, partition, 4))
    with client_of(side) as client:
        states = {"status": "ok", "side": "query-side", "dependencies": {"postgres": {"ok": True, "detail": ""}}}
        for path in ("/health", "/health/ready"):
            assert (client.get(path).status_code, client.get(path).json()) == (200, states)
        assert client.get("/health/live").json() == {"status": "ok", "side": "query-side"}
        assert re.search(r"^processed_events 8\.0$", client.get("/metrics").text, re.MULTILINE)


@pytest.fixture
def read_model(new_database: Callable[[], Servers]) -> Servers:
    return new_database()


async def test_the_four_named_queries(read_model: Servers) -> None:
    stored, missing = event(1), event(2)
    await store_async(read_model.admin_url, [stored])
    await run_sql(read_model.admin_url, INSERT_CHECKPOINT, 0, 1)
    connection = await asyncpg.connect(read_model.query_url)
    owner = await asyncpg.connect(read_model.admin_url)
    chunks: list[bytes] = []

    async def sink(chunk: bytes) -> None:
        chunks.append(chunk)

    try:
        assert await queries.is_event_processed(connection, "default", stored.event_id) is True
        assert await queries.is_event_processed(connection, "default", missing.event_id) is False
        assert await queries.get_event_by_id(connection, "default", stored.event_id) == encode_event(stored).decode()
        assert await queries.get_event_by_id(connection, "default", missing.event_id) is None
        assert await queries.count_processed_events(connection) == 1
        await queries.get_all_processed_events(connection, "default", sink, timeout=PATIENCE)
        assert b"".join(chunks) == encode_event(stored) + b"\n"

        for environment in ("production", "development", "", "TEST"):
            with pytest.raises(queries.ClearRefusedError, match="rebuild"):
                await queries.clear(owner, environment)
        assert await queries.is_event_processed(connection, "default", stored.event_id) is True
        with pytest.raises(asyncpg.PostgresError):  # the query side's own role cannot, whatever the environment
            await queries.clear(connection, "test")

        await queries.clear(owner, "test")
        assert await queries.is_event_processed(connection, "default", stored.event_id) is False
        assert await queries.count_processed_events(connection) == 0
        assert await owner.fetchval("SELECT next_offset FROM read_g1.checkpoints") == 9
    finally:
        await connection.close()
        await owner.close()
