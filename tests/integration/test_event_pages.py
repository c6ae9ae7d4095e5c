"""Pages and exports of events over real HTTP: every event once, in order, in every format, whatever is asked."""

import csv
import gzip
import io
import json
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import UUID

import asyncpg
import httpx
import msgspec
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.event import UserEvent
from contracts.types import FIRST_TYPES
from contracts.versions import encode_event
from query_side.app import SESSION
from query_side.events import pages
from query_side.events.filters import EventFilter
from query_side.log_positions.cursors import cursors_of
from tests.architecture.repository import ROOT
from tests.conftest import Footfall
from tests.many_events import fill
from tests.patience import PATIENCE
from tests.processes import Process
from tests.stored_events import NOON, event, store, wire

PROCESSED = "/events/processed"
NDJSON, CSV = "application/x-ndjson", "text/csv"
ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
FORMATS = ("application/json", NDJSON, CSV, ARROW, PARQUET)
TYPES = FIRST_TYPES
NASTY_USERS = (
    "=1+1",
    "+1",
    "-1",
    "@x",
    'a"b',
    "a,b",
    "back\\slash \\N \\.",
    "日本 😀",
    "a/b?c#d%&=+;",
    "'quoted",
    " x ",
)


def an_hour_of_events() -> list[UserEvent]:
    """Several users, types and products; many at the same microsecond; the first and the last moment there are."""
    made = [
        event(
            n,
            user_id=f"user-{n % 7}" if n % 10 else NASTY_USERS[n // 10 % len(NASTY_USERS)],
            event_type=TYPES[n % 3],
            timestamp=NOON + timedelta(seconds=n // 5),
            payload={"productId": f"p-{n % 4}", "text": 'a\\b"\n,\r日', "n": n / 4},
        )
        for n in range(400)
    ]
    ends = [
        event(500 + n, user_id="user-1", timestamp=moment)
        for moment in (datetime(1, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
        for n in (range(3) if moment.year == 1 else range(10, 13))
    ]
    no_products = [
        event(600 + n, user_id="user-2", event_type="PRODUCT_VIEW", payload={"productId": product})
        for n, product in enumerate((1, "p-1" * 2_000, ["p-1"], None))
    ]
    found = [*made, *ends, *no_products]
    return [msgspec.structs.replace(one, event_id=UUID(int=one.event_id.int + 2**100)) for one in found]


EVENTS = sorted(an_hour_of_events(), key=lambda one: (one.timestamp, one.event_id))


@pytest.fixture(scope="module")
def side(shared_footfall: Footfall) -> Process:
    store(shared_footfall.servers.admin_url, *EVENTS)
    return shared_footfall.start("query-side")


@pytest.fixture(scope="module")
def client(side: Process) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=side.url, timeout=PATIENCE) as found:
        yield found


def chosen(**wanted: Any) -> list[Any]:
    """What the parameters choose, worked out here."""
    found = [
        wire(one)
        for one in EVENTS
        if wanted.get("userId") in (None, one.user_id)
        and (not wanted.get("eventType") or one.event_type in wanted["eventType"])
        and (
            wanted.get("productId") is None
            or (one.event_type == "PRODUCT_VIEW" and one.payload.get("productId") == wanted["productId"])
        )
        and (wanted.get("from") is None or one.timestamp >= datetime.fromisoformat(wanted["from"]))
        and (wanted.get("to") is None or one.timestamp < datetime.fromisoformat(wanted["to"]))
    ]
    return found[::-1] if wanted.get("order") == "desc" else found


def all_pages(client: httpx.Client, path: str, **headers: str) -> list[httpx.Response]:
    """The page at `path`, and every one that its `Link` leads to."""
    found = []
    answer = client.get(path, headers=headers)
    while True:
        assert answer.status_code == 200, answer.text
        found.append(answer)
        if "next" not in answer.links:
            return found
        answer = client.get(answer.links["next"]["url"], headers=headers)


@pytest.mark.parametrize(
    "wanted",
    [
        {"limit": 7},
        {"limit": 1, "to": "2026-01-31T12:00:03Z"},
        {"limit": 100, "order": "desc"},
        {"limit": 3, "userId": "user-1"},
        {"limit": 3, "userId": "user-1", "order": "desc"},
        {"userId": "user-3", "eventType": ["LOGIN", "LOGOUT"], "limit": 5},
        {"productId": "p-1", "limit": 4},
        {"productId": "p-2", "limit": 4, "order": "desc"},
        {"productId": "p-2", "eventType": ["LOGIN"], "limit": 4},
        {"productId": "p-3", "userId": "user-5", "limit": 2},
        {"eventType": ["LOGOUT"], "limit": 10},
        {"from": "2026-01-31T12:00:10+00:00", "to": "2026-01-31T12:00:40+00:00", "limit": 9},
        {"from": "2026-01-31T13:00:30+01:00", "userId": "user-2", "order": "desc", "limit": 9},
        {"from": "9999-12-31T00:00:00Z", "limit": 1},
        {"to": "0001-01-01T00:00:00.000001Z", "limit": 2, "order": "desc"},
        {"userId": "nobody", "limit": 2},
        *({"userId": user, "limit": 2} for user in NASTY_USERS),
    ],
)
def test_pages_hold_every_event_once_and_in_order(client: httpx.Client, wanted: dict[str, Any]) -> None:
    answers = all_pages(client, f"{PROCESSED}?{urlencode(wanted, doseq=True)}")
    found = [one for answer in answers for one in answer.json()]
    assert found == chosen(**wanted)
    assert all(len(answer.json()) == wanted.get("limit", 100) for answer in answers[:-1])
    assert all(answer.headers["content-type"] == "application/json" for answer in answers)


def test_parameters_may_be_written_in_every_way_that_urls_allow(client: httpx.Client) -> None:
    some = chosen(userId="日本 😀")
    for written in ("%E6%97%A5%E6%9C%AC%20%F0%9F%98%80", "%e6%97%a5%e6%9c%ac+%f0%9f%98%80"):
        assert client.get(f"{PROCESSED}?user%49d={written}").json() == some
    assert client.get(f"{PROCESSED}?from=9999-12-31").json() == chosen(**{"from": "9999-12-31T00:00:00Z"})
    raw = f"{PROCESSED}?order=desc&from=2026-01-31T13:00:30+01:00&&limit=2"
    assert client.get(raw).json() == chosen(order="desc")[:2]
    assert len(client.get(f"{PROCESSED}?order=asc").json()) == 100


def test_without_parameters_there_is_all_as_the_seed_had_it(client: httpx.Client) -> None:
    for path in (PROCESSED, f"{PROCESSED}?", f"{PROCESSED}/"):
        answer = client.get(path)
        assert answer.content == b"[" + b",\n".join(encode_event(one) for one in EVENTS) + b"]"
        assert "link" not in answer.headers


def rows_of(answer: httpx.Response, media_type: str) -> list[Any]:
    """The events of an answer, whatever its format, as JSON shows them."""
    content = answer.content
    if media_type == "application/json":
        return list(answer.json())
    if media_type == NDJSON:
        assert content == b"" or content.endswith(b"\n")
        return [json.loads(line) for line in content.decode().split("\n")[:-1]]
    if media_type == CSV:
        rows = list(csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True))
        for row in rows:
            assert not row["userId"].startswith(("=", "+", "-", "@", "\t", "\r"))
            row["userId"] = row["userId"].removeprefix("'") if row["userId"] != "'quoted" else "'quoted"
        return [row | {"payload": json.loads(row["payload"])} for row in rows]
    table = pa.ipc.open_stream(content).read_all() if media_type == ARROW else pq.read_table(io.BytesIO(content))
    assert table.schema.field("timestamp").type == pa.timestamp("us", tz="UTC")
    return [
        row | {"timestamp": shown(row["timestamp"]), "payload": json.loads(row["payload"])} for row in table.to_pylist()
    ]


def shown(moment: datetime) -> Any:
    """A time as an event's JSON has it."""
    return wire(event(0, timestamp=moment.astimezone(UTC)))["timestamp"]


@pytest.mark.parametrize("media_type", FORMATS)
def test_every_format_says_the_same(client: httpx.Client, media_type: str) -> None:
    accept = {"accept": media_type}
    whole = client.get(PROCESSED, headers=accept)
    assert whole.headers["content-type"].partition(";")[0] == media_type
    assert whole.headers["vary"] == "accept, accept-encoding"
    assert rows_of(whole, media_type) == chosen()
    paged = all_pages(client, f"{PROCESSED}?limit=150", **accept)
    assert [len(rows_of(page, media_type)) for page in paged] == [150, 150, len(EVENTS) - 300]
    assert [row for page in paged for row in rows_of(page, media_type)] == chosen()
    wanted = {"userId": NASTY_USERS[0], "order": "desc", "eventType": ["LOGIN", "PRODUCT_VIEW"]}
    some = client.get(f"{PROCESSED}?{urlencode(wanted, doseq=True)}", headers=accept)
    assert rows_of(some, media_type) == chosen(**wanted)
    assert rows_of(client.get(f"{PROCESSED}?userId=nobody", headers=accept), media_type) == []
    head = client.head(PROCESSED, headers=accept)
    assert (head.status_code, head.content, head.headers["content-type"]) == (200, b"", whole.headers["content-type"])


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        ("*/*", "application/json"),
        ("text/*", CSV),
        ("text/html, application/xhtml+xml, */*;q=0.8", "application/json"),
        ("application/json;q=0.1, text/csv;q=0.9", CSV),
        ("TEXT/CSV; charset=utf-8", CSV),
        (f"{NDJSON};q=0.5, application/json;q=0.4", NDJSON),
        ("application/json;q=0, */*", NDJSON),
        ("application/*;q=0.3, text/csv;q=0.2", "application/json"),
        (f"{PARQUET};q=bogus, {ARROW};q=1e9, text/csv;q=0.001", CSV),
        ("", "application/json"),
        ("text/html", None),
        ("*/*;q=0", None),
        ("application/json;q=0", None),
        ("image/png, ;;;,,q=", None),
        (", ".join(["text/html"] * 200), None),
    ],
)
def test_the_client_chooses_the_format(client: httpx.Client, accept: str, answered: str | None) -> None:
    answer = client.get(f"{PROCESSED}?limit=1", headers={"accept": accept})
    if answered is None:
        assert answer.status_code == 406
        assert "application/vnd.apache.parquet" in answer.json()["error"]
    else:
        assert answer.headers["content-type"].partition(";")[0] == answered


def test_pyarrow_is_loaded_by_those_who_ask_for_it() -> None:
    code = "import sys, query_side.app; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=PATIENCE).returncode == 0


def test_answers_are_compressed_where_the_client_takes_it_and_it_pays(client: httpx.Client) -> None:
    def raw(path: str, **headers: str) -> tuple[httpx.Headers, bytes]:
        with client.stream("GET", path, headers=headers) as answer:
            return answer.headers, b"".join(answer.iter_raw())

    for path in (PROCESSED, f"{PROCESSED}?limit=100"):
        for media_type in (*FORMATS[:2], CSV, ARROW):
            _, plain = raw(path, accept=media_type, **{"accept-encoding": "identity"})
            for takes in ("gzip", "br, GZIP;q=0.5", "*"):
                headers, packed = raw(path, accept=media_type, **{"accept-encoding": takes})
                assert headers["content-encoding"] == "gzip"
                assert len(packed) < len(plain) / 2
                unpacked = gzip.decompress(packed)
                assert len(unpacked) == len(plain) if media_type == ARROW else unpacked == plain  # Arrow pads at will
            for takes in ("identity", "gzip;q=0", "br", "*;q=0"):
                headers, same = raw(path, accept=media_type, **{"accept-encoding": takes})
                assert "content-encoding" not in headers
                assert same == plain
    for path, media_type in ((f"{PROCESSED}?limit=2", "*/*"), (PROCESSED, PARQUET)):
        headers, _ = raw(path, accept=media_type, **{"accept-encoding": "gzip"})
        assert "content-encoding" not in headers


MUST = {
    "limit": "Parameter `limit` must be a whole number from 1 to 1000.",
    "order": "Parameter `order` must be one of asc, desc.",
    "eventType": "Parameter `eventType` must be one of LOGIN, LOGOUT, PRODUCT_VIEW.",
    "userId": "Parameter `userId` must be 1 to 256 characters without control characters.",
    "productId": "Parameter `productId` must be 1 to 256 characters without control characters.",
    "from": "Parameter `from` must be a date, or a time with an offset, such as 2026-01-31T12:00:00Z.",
    "to": "Parameter `to` must be a date, or a time with an offset, such as 2026-01-31T12:00:00Z.",
}
TAKES = "this path takes userId, productId, from, to, order, limit, cursor, format, csv, eventType."


@pytest.mark.parametrize(
    ("query", "sentences"),
    [
        *((f"limit={value}", [MUST["limit"]]) for value in ("0", "-1", "1001", "", "1.0", "1e2", "٣", "9" * 99, "+5")),
        *((f"order={value}", [MUST["order"]]) for value in ("", "ASC", "asc,desc", "random()")),
        *((f"eventType={value}", [MUST["eventType"]]) for value in ("", "login", "LOGIN,LOGOUT", "LOGIN%00")),
        *((f"userId={value}", [MUST["userId"]]) for value in ("", "a%00b", "%0a", "%C2%85", "x" * 257)),
        *((f"productId={value}", [MUST["productId"]]) for value in ("", "%1f", "p" * 257)),
        *(
            (f"from={value}", [MUST["from"]])
            for value in ("", "now", "infinity", "-infinity", "2026-01-31T12:00:00", "2026-13-01", "1769860800",
                          "0000-01-01", "2026-01-31T25:00:00Z", "10000-01-01",
                          "2026-W05-1", "20260131")
        ),
        ("to=tomorrow", [MUST["to"]]),
        ("from=2026-01-31&to=2026-01-31", ["Parameter `from` must be earlier than `to`."]),
        ("from=2026-02-01&to=2026-01-31T12:00:00Z", ["Parameter `from` must be earlier than `to`."]),
        ("limit=5&limit=5", ["Parameter `limit` is given more than once."]),
        ("userId=a&userId=b&order=asc&order=desc",
         ["Parameter `userId` is given more than once.", "Parameter `order` is given more than once."]),
        ("user=a", [f"Unknown parameter `user`; {TAKES}"]),
        ("userid=a", [f"Unknown parameter `userid`; {TAKES}"]),
        ("a`%0a%E2%80%AE=1&tenantId=x", [f"Unknown parameter `a???`, `tenantId`; {TAKES}"]),
        ("=", [f"Unknown parameter ``; {TAKES}"]),
        ("limit=0&order=up&eventType=X&from=x&to=y&userId=&productId=",
         [MUST[name] for name in ("from", "to", "userId", "productId", "eventType", "order", "limit")]),
        ("userId=%ff", ["The query string is not UTF-8."]),
        ("&".join("eventType=LOGIN" for _ in range(41)), ["Parameter `eventType` is given more than 40 times."]),
        ("&".join("eventType=LOGIN" for _ in range(51)), ["The query string has more than 50 parameters."]),
    ],
)  # fmt: skip
def test_what_is_malformed_is_refused_with_sentences(client: httpx.Client, query: str, sentences: list[str]) -> None:
    answer = client.get(f"{PROCESSED}?{query}")
    assert answer.status_code == 400
    assert answer.json() == {"success": False, "event": None, "errors": sentences, "error": None}


def test_a_cursor_is_good_for_its_own_request_only(client: httpx.Client) -> None:
    first = client.get(f"{PROCESSED}?userId=user-1&limit=5")
    query = parse_qs(urlsplit(first.links["next"]["url"]).query)
    cursor = query["cursor"][0]
    assert client.get(f"{PROCESSED}?userId=user-1&limit=3&cursor={cursor}").json() == chosen(userId="user-1")[5:8]
    flipped = [cursor[:at] + ("A" if cursor[at] != "A" else "B") + cursor[at + 1 :] for at in range(len(cursor))]
    others = [
        "",
        "x",
        "=",
        "%00",
        "é",
        "🙂",
        "A" * 5_000,
        cursor[:-1],
        f"{cursor}A",
        f"{cursor}=",
        f"{cursor}%0a",
        *flipped,
    ]
    for forged in others:
        answer = client.get(f"{PROCESSED}?userId=user-1&limit=5&cursor={forged}")
        assert answer.status_code == 400, forged
        assert "`cursor`" in answer.json()["errors"][0]
    foreign = (
        "userId=user-2", "", "userId=user-1&order=desc", "userId=user-1&eventType=LOGIN",
        "userId=user-1&productId=p-1", "userId=user-1&from=2026-01-31", "userId=user-1&to=2027-01-31",
    )  # fmt: skip
    for other in foreign:
        assert client.get(f"{PROCESSED}?{other}&cursor={cursor}").status_code == 400, other


async def test_every_process_of_a_database_has_the_same_key(shared_footfall: Footfall) -> None:
    keys = []
    for secret in ("", "", "another one of its own"):
        async with asyncpg.create_pool(shared_footfall.servers.query_url, min_size=1, max_size=1) as pool:
            keys.append((await cursors_of(pool, secret)).seal(b"payload", b"filter"))
    assert keys[0] == keys[1] != keys[2]


def test_a_secret_of_ones_own_signs_cursors(shared_footfall: Footfall, client: httpx.Client) -> None:
    link = client.get(f"{PROCESSED}?limit=5").links["next"]["url"]
    other = shared_footfall.start("query-side", CURSOR_SECRET="another one of its own")
    assert httpx.get(f"{other.url}{link}", timeout=PATIENCE).status_code == 400


SQL_INJECTIONS = (
    "' OR '1'='1", "'; DROP TABLE read_g1.processed_events; --", "') UNION SELECT version() --", "$1", "$7", "${6}",
    "%s", "\\'; SELECT pg_sleep(5); --", "user-1' AND pg_sleep(5) IS NULL --", "$$; SELECT 1; $$", "{{7*7}}", "*",
    "user-%", "user-_", "E'\\\\'", "\\N", "\\.", "../../etc/passwd", "<script>alert(1)</script>", "=cmd|'/c calc'!A1",
    "x\u2028y", "NULL", "{LOGIN}", "日' OR ''='",
)  # fmt: skip


@pytest.mark.parametrize("media_type", FORMATS)
def test_injections_are_values_in_every_parameter_and_format(client: httpx.Client, media_type: str) -> None:
    headers = {"accept": media_type}
    for text in SQL_INJECTIONS:
        for name in ("userId", "productId"):
            for more in ({}, {"limit": "5"}):
                answer = client.get(PROCESSED, params={name: text, **more}, headers=headers)
                assert answer.status_code == 200
                assert rows_of(answer, media_type) == []
        for name in ("eventType", "from", "to", "order", "limit", "cursor", text):
            assert client.get(PROCESSED, params={name: text}, headers=headers).status_code == 400
    assert len(rows_of(client.get(PROCESSED, headers=headers), media_type)) == len(EVENTS)


def test_an_event_has_a_tag_that_saves_sending_it_again(client: httpx.Client) -> None:
    one, other = EVENTS[7], EVENTS[8]
    first = client.get(f"/events/{one.event_id}")
    tag = first.headers["etag"]
    assert (first.status_code, first.json()) == (200, wire(one))
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        for method in ("GET", "HEAD"):
            again = client.request(method, f"/events/{one.event_id}", headers={"if-none-match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
            assert "content-length" not in again.headers
    for unknown in (
        "",
        '"x"',
        tag.strip('"'),
        client.get(f"/events/{other.event_id}").headers["etag"],
        f"{tag}x",
        ",*",
    ):
        assert client.get(f"/events/{one.event_id}", headers={"if-none-match": unknown}).content == encode_event(one)
    absent = client.get(f"/events/{event(999).event_id}", headers={"if-none-match": "*"})
    assert absent.status_code == 404


# --- a hundred thousand events: plans, and what a page costs --------------------------------------------------------


@pytest.fixture(scope="module")
def many(shared_footfall: Footfall, side: Process) -> Footfall:
    """Far more rows than a sequential scan would do well with, beside those of the other tests."""
    fill(shared_footfall.servers.admin_url, 100_000)
    return shared_footfall


async def explained(url: str, statement: str, arguments: Sequence[object], **settings: str) -> dict[str, Any]:
    connection = await asyncpg.connect(url, server_settings={"timezone": "UTC", **SESSION, **settings})
    try:
        plan = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", *arguments)
        found: dict[str, Any] = json.loads(plan)[0]["Plan"]
        return found
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("wanted", "index", "unread"),
    [
        (EventFilter(), "processed_events_by_time", 0),
        (EventFilter(since=NOON, until=NOON + timedelta(hours=1)), "processed_events_by_time", 0),
        (EventFilter(event_types=("LOGIN", "PRODUCT_VIEW")), "processed_events_by_time", 200),
        (EventFilter(user_id="user-7"), "processed_events_by_user", 0),
        (EventFilter(user_id="nobody"), "processed_events_by_user", 0),
        (EventFilter(user_id="user-7", since=NOON - timedelta(days=30)), "processed_events_by_user", 0),
        (EventFilter(user_id="user-7", event_types=("PRODUCT_VIEW",)), "processed_events_by_user", 0),
        (EventFilter(user_id="user-7", product_id="p-9"), "processed_events_by_user", 250),
        (EventFilter(product_id="p-1"), "processed_events_by_product", 0),
        (EventFilter(product_id="nothing"), "processed_events_by_product", 0),
    ],
)
@pytest.mark.parametrize("mode", ["auto", "force_generic_plan"])
@pytest.mark.parametrize("descending", [False, True])
async def test_a_page_reads_one_range_of_one_index(
    many: Footfall, wanted: EventFilter, index: str, unread: int, mode: str, descending: bool
) -> None:
    wanted = msgspec.structs.replace(wanted, descending=descending)
    arguments = pages.arguments("default", wanted, None, 101)
    plan = await explained(many.servers.query_url, pages.sql(wanted), arguments, plan_cache_mode=mode)
    assert plan["Node Type"] == "Limit"
    (scan,) = plan["Plans"]
    assert (scan["Node Type"], scan["Index Name"]) == ("Index Scan", index)
    assert scan["Index Searches"] == 1
    assert scan.get("Rows Removed by Filter", 0) <= unread
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= 2 * (scan["Actual Rows"] + unread) + 20


@pytest.mark.parametrize(
    "wanted",
    [
        EventFilter(event_types=("LOGOUT",)),
        EventFilter(user_id="user-7", event_types=("LOGOUT",)),
        EventFilter(user_id="user-7", product_id="p-9"),
    ],
)
@pytest.mark.parametrize("form", ["bounded", "end"])
@pytest.mark.parametrize("descending", [False, True])
async def test_a_page_of_what_is_rare_looks_at_a_bounded_part_of_one_index(
    many: Footfall, wanted: EventFilter, form: pages.Form, descending: bool
) -> None:
    wanted = msgspec.structs.replace(wanted, descending=descending)
    limit = 1 if form == "end" else 101
    statement, arguments = pages.sql(wanted, form), pages.arguments("default", wanted, None, limit)
    plan: dict[str, Any] = await explained(many.servers.query_url, statement, arguments)
    nodes = [plan]
    while "Plans" in plan:
        (plan,) = plan["Plans"]
        nodes.append(plan)
    kinds = [node["Node Type"] for node in nodes]
    assert kinds in (["Limit", "Index Scan"], ["Limit", "Subquery Scan", "Limit", "Index Scan"])
    assert nodes[-1]["Actual Rows"] <= pages.MAX_LOOKED_AT


def test_what_is_rare_is_found_page_by_page_each_of_which_looks_at_a_part(many: Footfall, client: httpx.Client) -> None:
    """The logouts lie behind or before a hundred thousand views."""
    for order in ("asc", "desc"):
        answers = all_pages(client, f"{PROCESSED}?{urlencode({'eventType': 'LOGOUT', 'order': order, 'limit': 1000})}")
        found = [answer.json() for answer in answers]
        assert [one for page in found for one in page] == chosen(eventType=["LOGOUT"], order=order)
        assert len(found) > 100_000 // pages.MAX_LOOKED_AT
        assert [] in found


async def test_a_page_far_in_costs_what_the_first_costs(many: Footfall) -> None:
    wanted = EventFilter()

    async def blocks(after: pages.Place | None) -> int:
        plan = await explained(
            many.servers.query_url, pages.sql(wanted), pages.arguments("default", wanted, after, 101)
        )
        return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])

    first = await blocks(None)
    for seconds in (10_000, 50_000, 99_000):
        place = pages.Place(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds), pages.LEAST_ID)
        assert await blocks(place) <= first + 5


def test_export_of_each_format_streams_in_bounded_pieces_and_memory(
    many: Footfall, side: Process, client: httpx.Client
) -> None:
    process = psutil.Process(side.popen.pid)
    for media_type in FORMATS[1:]:
        with client.stream("GET", PROCESSED, headers={"accept": media_type, "accept-encoding": "identity"}) as first:
            assert sum(1 for _ in first.iter_raw()) > 2  # what it loads is loaded, and what it reserves is reserved
        before = process.memory_info().rss
        with client.stream("GET", PROCESSED, headers={"accept": media_type, "accept-encoding": "identity"}) as answer:
            assert answer.status_code == 200
            sizes = [len(piece) for piece in answer.iter_raw()]
        assert len(sizes) > 2
        assert max(sizes) < 8_000_000
        grown = (process.memory_info().rss - before) / 2**20
        assert grown < 64, f"{media_type}: {grown:.0f} MiB"
    packed = zlib.decompressobj(16 + zlib.MAX_WBITS)
    lines = 0
    with client.stream("GET", PROCESSED, headers={"accept": NDJSON, "accept-encoding": "gzip"}) as answer:
        for piece in answer.iter_raw():
            lines += packed.decompress(piece).count(b"\n")
    assert lines == 100_000 + len(EVENTS)
