"""Users, sessions, products and activity over HTTP, from what a real projector made of real records."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import pytest

from contracts.event import UserEvent
from query_side.activity import queries as projections
from query_side.app import SESSION
from query_side.events.pages import LEAST_ID
from tests.conftest import Footfall
from tests.patience import PATIENCE
from tests.producing import an_event, produce, record_of, start_projector, wait_until_processed
from tests.stored_events import wire

USERS = ("ann", "a/b", "a%2Fb", "日本 😀", "?q=1&x#y", "a..b", " ", "=1+1", "'; DROP TABLE users; --", "x" * 256)
MONDAY = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
KINDS = ("LOGIN", "PRODUCT_VIEW", "PRODUCT_VIEW", "LOGOUT", "PRODUCT_VIEW")


def a_week() -> list[UserEvent]:
    """Each user logs in every 50 minutes, sees two products, logs out, and looks at one more."""
    return [
        an_event(
            user,
            {"productId": f"p-{(n + len(user)) % 5}"} if kind == "PRODUCT_VIEW" else {},
            event_type=kind,
            timestamp=MONDAY + timedelta(minutes=10 * n, seconds=index),
        )
        for index, user in enumerate(USERS)
        for n in range(60)
        for kind in [KINDS[n % 5]]
    ]


EVENTS = a_week()
END = max(one.timestamp for one in EVENTS)


@pytest.fixture(scope="module")
def client(shared_footfall: Footfall) -> Iterator[httpx.Client]:
    projector = start_projector(shared_footfall)
    produce(shared_footfall, [record_of(one) for one in EVENTS])
    wait_until_processed(shared_footfall, len(EVENTS))
    projector.terminate()
    side = shared_footfall.start("query-side")
    with httpx.Client(base_url=side.url, timeout=PATIENCE) as found:
        yield found


def of_user(user: str, what: str, **parameters: Any) -> httpx.URL:
    """The path as a client writes it: everything of the id is escaped."""
    return httpx.URL(f"/users/{quote(user, safe='')}/{what}", params=parameters)


@pytest.mark.parametrize("user", USERS)
def test_activity_sessions_and_events_of_a_user(client: httpx.Client, user: str) -> None:
    mine = [one for one in EVENTS if one.user_id == user]
    logins = [one for one in mine if one.event_type == "LOGIN"]
    logouts = [one for one in mine if one.event_type == "LOGOUT"]
    views = [one for one in mine if one.event_type == "PRODUCT_VIEW"]

    assert client.get(of_user(user, "activity")).json() == {
        "userId": user,
        "firstSeen": wire(mine[0])["timestamp"],
        "lastSeen": wire(mine[-1])["timestamp"],
        "logins": 12,
        "logouts": 12,
        "productViews": 36,
        "lastLoginAt": wire(logins[-1])["timestamp"],
        "loggedIn": False,
        "lastProductId": views[-1].payload["productId"],
    }
    sessions = client.get(of_user(user, "sessions")).json()
    assert sessions == [
        {
            "sessionId": str(login.event_id),
            "startedAt": wire(login)["timestamp"],
            "views": 2,
            "products": [one.payload["productId"] for one in views[3 * n : 3 * n + 2]],
            "moreProducts": False,
            "endedAt": wire(logout)["timestamp"],
            "endedBy": "LOGOUT",
            "seconds": 1800.0,
        }
        for n, (login, logout) in reversed(list(enumerate(zip(logins, logouts, strict=True))))
    ]
    answer = client.get(of_user(user, "sessions", limit=5))
    paged = [answer.json()]
    while "next" in answer.links:
        answer = client.get(answer.links["next"]["url"])
        paged.append(answer.json())
    assert [len(page) for page in paged] == [5, 5, 2]
    assert [one for page in paged for one in page] == sessions

    first = client.get(of_user(user, "events", limit=40))
    rest = client.get(first.links["next"]["url"])
    assert "next" not in rest.links
    assert first.json() + rest.json() == [wire(one) for one in mine]
    newest = client.get(of_user(user, "events", order="desc", eventType="LOGIN", limit=3)).json()
    assert newest == [wire(one) for one in logins[:-4:-1]]
    lines = client.get(of_user(user, "events"), headers={"accept": "application/x-ndjson"}).text.splitlines()
    assert [json.loads(line) for line in lines] == [wire(one) for one in mine]


def test_a_user_without_events_has_no_activity_and_empty_lists(client: httpx.Client) -> None:
    missing = client.get("/users/nobody/activity")
    assert missing.status_code == 404
    assert missing.json()["error"] == "No events of this user are in the read model (they may not be projected yet)."
    for what in ("events", "sessions"):
        answer = client.get(f"/users/nobody/{what}")
        assert (answer.status_code, answer.json()) == (200, [])


ID_RULE = "The user id in the path must be 1 to 256 characters without control characters, percent-encoded UTF-8."


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/users/ann/nothing", 404, "Not found"),
        ("/users/ann", 404, "Not found"),
        ("/users", 404, "Not found"),
        ("/users/a/b/activity", 404, "Not found"),
        ("/users//activity", 400, ID_RULE),
        ("/users/%00/activity", 400, ID_RULE),
        ("/users/%ff/events", 400, ID_RULE),
        (f"/users/{'x' * 257}/sessions", 400, ID_RULE),
        ("/users/ann/activity?x=1", 400, "Unknown parameter `x`; this path takes none."),
        ("/users/ann/events?userId=ann", 400, "Unknown parameter `userId`; this path takes productId"),
        ("/users/ann/sessions?limit=201", 400, "Parameter `limit` must be a whole number from 1 to 200."),
        ("/users/ann/sessions?cursor=x", 400, "Parameter `cursor` must come from the `Link`"),
        ("/products", 404, "Not found"),
        ("/products/top?limit=0", 400, "Parameter `limit` must be a whole number from 1 to 1000."),
        ("/products/top?from=2026-03-02&to=2027-03-05", 400, "may be 366 days apart at most."),
        ("/products/top?from=9999-01-01", 400, "`from` must be earlier than `to`, which is now"),
        ("/activity/hourly?from=2026-03-01&to=2026-04-02", 400, "may be 31 days apart at most."),
        ("/activity/hourly?from=x", 400, "Parameter `from` must be a date, or a time with an offset"),
        ("/activity/hourly?eventType=VIEW", 400, "Parameter `eventType` must be one of LOGIN, LOGOUT, PRODUCT_VIEW."),
    ],
)  # fmt: skip
def test_refusals(client: httpx.Client, path: str, status: int, told: str) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    body = answer.json()
    assert told in (body["error"] or "\n".join(body["errors"]))
    assert client.post(path).status_code == 405 or status == 404


TYPED = [
    "/users/ann/activity",
    "/users/activity?userId=ann",
    "/users/ann/sessions",
    "/products/top",
    "/activity/hourly",
]


def test_every_problem_of_a_request_is_told_at_once(client: httpx.Client) -> None:
    told = client.get("/products/top?limit=0&to=x&from=y&a=1&b=2&from=z").json()["errors"]
    assert [re.sub(r"[;,:].*", "", problem) for problem in told] == [
        "Parameter `from` is given more than once.",
        "Unknown parameter `a`",
        "Parameter `from` must be a date",
        "Parameter `to` must be a date",
        "Parameter `limit` must be a whole number from 1 to 1000.",
    ]
    told = client.get("/users/sessions?limit=many&cursor=a&cursor=b").json()["errors"]
    assert told == [
        "Parameter `cursor` is given more than once.",
        "Parameter `userId` is required here.",
        "Parameter `limit` must be a whole number from 1 to 200.",
    ]
    told = client.get("/activity/hourly?from=2026-03-01&to=2026-04-02&eventType=VIEW").json()["errors"]
    assert len(told) == 2


def test_what_parameters_mean_is_read_as_leniently_as_it_always_was(client: httpx.Client) -> None:
    assert len(client.get("/users/ann/sessions?limit=007").json()) == 7
    span = {"from": "2026-03-02T00:00:00.0000009Z", "to": "2026-03-02 24:00:00Z"}
    assert (
        client.get("/products/top", params={**span, "to": "2026-03-03"})
        .json()["from"]
        .startswith("2026-03-02T00:00:00")
    )
    assert (
        client.get("/products/top?from=2026-03-02T11:00:00+01:00&to=2026-03-03")
        .json()["from"]
        .startswith("2026-03-02T10")
    )
    assert client.get("/products/top", params=span).status_code == 400
    assert client.get("/activity/hourly?eventType=LOGIN&eventType=LOGIN&eventType=LOGOUT").status_code == 200


@pytest.mark.parametrize("path", TYPED)
def test_typed_routes_answer_head_as_get_and_refuse_other_methods(client: httpx.Client, path: str) -> None:
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]
    assert get.headers["vary"] == "accept, accept-encoding"
    for method in ("POST", "DELETE", "OPTIONS", "PROPFIND"):
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
        assert answer.json()["error"] == f"Method {method} is not allowed here; use GET."
    waited = client.get(path, headers={"Footfall-Position": "0-999999999", "Prefer": "wait=0"})
    assert (waited.status_code, "retry-after" in waited.headers) == (503, True)


def test_a_cursor_of_sessions_is_good_for_its_user_only(client: httpx.Client) -> None:
    link = client.get("/users/ann/sessions?limit=2").links["next"]["url"]
    assert client.get(link).status_code == 200
    assert client.get(link.replace("/ann/", "/nobody/")).status_code == 400
    assert client.get(link.replace("/sessions", "/events")).status_code == 400


def test_top_products_of_full_hours(client: httpx.Client) -> None:
    since, until = MONDAY + timedelta(hours=2, minutes=17), MONDAY + timedelta(hours=5, minutes=1)
    full = datetime(2026, 3, 2, 11, tzinfo=UTC), datetime(2026, 3, 2, 15, tzinfo=UTC)
    views = Counter(
        one.payload["productId"]
        for one in EVENTS
        if one.event_type == "PRODUCT_VIEW" and full[0] <= one.timestamp < full[1]
    )
    ranked = sorted(views.items(), key=lambda item: (-item[1], item[0]))
    answer = client.get("/products/top", params={"from": since.isoformat(), "to": until.isoformat(), "limit": 3})
    assert answer.json() == {
        "from": "2026-03-02T11:00:00.000000Z",
        "to": "2026-03-02T15:00:00.000000Z",
        "products": [{"productId": product, "views": count} for product, count in ranked[:3]],
    }
    nothing = client.get("/products/top")
    assert nothing.json()["products"] == []
    assert datetime.fromisoformat(nothing.json()["to"]) > datetime.now(UTC)


def test_activity_by_the_hour(client: httpx.Client) -> None:
    events: defaultdict[tuple[datetime, str], list[str]] = defaultdict(list)
    for one in EVENTS:
        events[one.timestamp.replace(minute=0, second=0), one.event_type].append(one.user_id)
    expected = [
        {
            "hour": hour.strftime("%Y-%m-%dT%H:00:00.000000Z"),
            "eventType": kind,
            "events": len(users),
            "distinctUsers": len(set(users)),
        }
        for (hour, kind), users in sorted(events.items())
    ]
    span = {"from": "2026-03-02", "to": "2026-03-04"}
    whole = client.get("/activity/hourly", params=span)
    assert whole.json() == {
        "from": "2026-03-02T00:00:00.000000Z",
        "to": "2026-03-04T00:00:00.000000Z",
        "hours": expected,
    }
    some = client.get("/activity/hourly", params={**span, "eventType": ["LOGIN", "LOGOUT"]}).json()["hours"]
    assert some == [row for row in expected if row["eventType"] != "PRODUCT_VIEW"]


def test_answers_are_json_only_and_compressed_where_it_pays(client: httpx.Client) -> None:
    answer = client.get("/users/ann/sessions", headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    for path in ("/users/ann/sessions", "/users/ann/activity", "/products/top", "/activity/hourly"):
        refused = client.get(path, headers={"accept": "text/csv"})
        assert (refused.status_code, "application/json" in refused.json()["error"]) == (406, True)


# --- plans, with enough rows that another plan would be worth it ----------------------------------------------------

FILL = """
INSERT INTO read_g1.user_activity SELECT now(), now(), 1, 1, 1, now(), now(), now(), n % 2, true, 'default',
    'u-' || n / 2 FROM generate_series(1, 20000) AS n;
INSERT INTO read_g1.user_activity SELECT now(), now(), 1, 1, 1, now(), now(), now(), 0, true, 'default',
    's-' || n FROM generate_series(0, 20000) AS n;
INSERT INTO read_g1.user_sessions SELECT now() + n * interval '1 s', now(), 1, gen_random_uuid(), 0, 'LOGOUT',
    'default', 's-' || n % 1000, ARRAY['p'] FROM generate_series(1, 40000) AS n;
INSERT INTO read_g1.user_sessions_open SELECT now(), 1, gen_random_uuid(), 0, 'default', 's-' || n, ARRAY['p']
FROM generate_series(1, 20000) AS n;
INSERT INTO read_g1.product_views SELECT '2020-01-01'::timestamptz + n / 50 * interval '1 hour', 1, 1, 0, 'default',
    'p-' || n % 50 FROM generate_series(0, 49999) AS n;
INSERT INTO read_g1.activity_hourly SELECT '2018-01-01'::timestamptz + n * interval '1 hour', 1, 1, 0, 'default',
    'LOGIN' FROM generate_series(0, 49999) AS n;
ANALYZE read_g1.user_activity, read_g1.user_sessions, read_g1.user_sessions_open, read_g1.product_views,
    read_g1.activity_hourly
"""
A_DAY = (datetime(2020, 1, 3, tzinfo=UTC), datetime(2020, 1, 4, tzinfo=UTC))


def scans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node that read a table: how one would have been read that was not is anybody's guess."""
    if "Relation Name" in plan and plan["Actual Loops"]:
        yield plan
    for child in plan.get("Plans", ()):
        yield from scans(child)


async def test_each_query_reads_one_range_of_one_index(client: httpx.Client, shared_footfall: Footfall) -> None:
    owner = await asyncpg.connect(shared_footfall.servers.admin_url)
    await owner.execute(FILL)
    await owner.close()
    connection = await asyncpg.connect(shared_footfall.servers.query_url, server_settings=SESSION)
    cases: list[tuple[str, tuple[object, ...], dict[str, int]]] = [
        (projections.USER_ACTIVITY, ("default", "u-77"), {"user_activity_pkey": 2}),
        (
            projections.USER_SESSIONS,
            ("default", "s-77", "infinity", LEAST_ID, 51),
            # Two looks whether they are scattered over partitions, one at whose events these are: nobody's.
            {"user_sessions_pkey": 40, "user_sessions_open_pkey": 1, "user_activity_pkey": 1},
        ),
        (projections.TOP_PRODUCTS, ("default", *A_DAY, 10), {"product_views_pkey": 24 * 50}),
        (projections.ACTIVITY_HOURLY, ("default", *A_DAY, ["LOGIN"]), {"activity_hourly_pkey": 24}),
    ]
    for statement, arguments, indexes in cases:
        plan = json.loads(await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *arguments))
        found = {
            scan["Index Name"]: (scan["Actual Rows"], scan.get("Rows Removed by Filter", 0))
            for scan in scans(plan[0]["Plan"])
        }
        assert found == {index: (count, 0) for index, count in indexes.items()}
        searches = [(scan["Index Name"], scan["Index Searches"]) for scan in scans(plan[0]["Plan"])]
        assert all(count == 1 for _, count in searches), searches
    await connection.close()
