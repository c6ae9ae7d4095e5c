"""docs/adding-an-event-type.md, followed on real servers: two types that a file adds, and no code."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

import contracts.types
from contracts.types import read_catalogue
from tests.conftest import Footfall
from tests.drivers.commands import as_json, status_here
from tests.drivers.rebuilding import NEW, rebuild, wait_until_done
from tests.patience import PATIENCE
from tests.processes import Process
from tests.producing import an_event, produce, record_of, sql, wait_until_processed
from tests.shipped_types import SHIPPED

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "adding-an-event-type.md").read_text()
SHIPPED_FILE = Path(str(contracts.types.__file__)).with_name("event_types.toml")
BEFORE = ("LOGIN", "PRODUCT_VIEW", "LOGOUT")

LOGIN = {"userId": "user-1", "eventType": "LOGIN"}
VIEW = {"userId": "user-1", "eventType": "PRODUCT_VIEW", "payload": {"productId": "p-42"}}
CART = {"userId": "user-1", "eventType": "PRODUCT_ADDED_TO_CART", "payload": {"product": "p-42", "productId": "p-9"}}
PURCHASE = {"userId": "user-1", "eventType": "PURCHASE", "payload": {"product": "p-42", "amount": 19.9}}
LOGOUT = {"userId": "user-1", "eventType": "LOGOUT"}
VISIT: list[dict[str, Any]] = [LOGIN, VIEW, CART, PURCHASE, LOGOUT]


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """The guide's file."""
    found = re.search(r"^```toml event_types\.toml\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert found is not None
    file = tmp_path / "event_types.toml"
    file.write_text(found[1])
    return file


def answers(queries: Process) -> dict[str, Any]:
    """What the guide asks for, and what must not change."""
    with httpx.Client(base_url=queries.url) as client:
        asked = {
            "purchases": "/events/processed?eventType=PURCHASE",
            "of the product": "/events/processed?productId=p-42",
            "of the product, typed": "/events/processed?productId=p-42&eventType=PRODUCT_ADDED_TO_CART",
            "of the product, newest": "/events/processed?productId=p-42&order=desc&limit=1",
            "of user and product": "/events/processed?userId=user-1&productId=p-42",
            "lines": "/events/processed?productId=p-42&format=ndjson",
            "old": "/users/user-0/events?limit=100",
            "sessions": "/users/user-1/sessions",
            "activity": "/users/user-1/activity",
            "top": "/products/top",
            "hours": "/activity/hourly?eventType=PURCHASE&eventType=PRODUCT_ADDED_TO_CART",
        }
        found = {name: client.get(path) for name, path in asked.items()}
        assert {name: answer.status_code for name, answer in found.items()} == dict.fromkeys(asked, 200)
        return {name: answer.text if name == "lines" else answer.json() for name, answer in found.items()}


def bodies_of_old_events(queries: Process) -> list[bytes]:
    """The bytes of the events that were there before the file: as a page, as lines, and one by one."""
    with httpx.Client(base_url=queries.url) as client:
        pages = [client.get(f"/events/processed?userId=user-0{form}") for form in ("", "&format=ndjson")]
        single = [client.get(f"/events/{event['eventId']}") for event in pages[0].json()]
    assert [answer.status_code for answer in (*pages, *single)] == [200] * (2 + len(BEFORE))
    return [answer.content for answer in (*pages, *single)]


def catalogue_warnings(footfall: Footfall, file: str) -> list[str]:
    """What `footfall status` says of catalogues, where EVENT_TYPES_FILE names that file."""
    warnings: list[str] = as_json(status_here(footfall, "--json", EVENT_TYPES_FILE=file))["warnings"]
    return [warning for warning in warnings if "event types" in warning]


def reports(footfall: Footfall) -> list[list[tuple[Any, ...]]]:
    statements = (
        "SELECT event_type, product_id FROM reporting.events WHERE user_id = 'user-1' ORDER BY 1",
        "SELECT event_type, events FROM reporting.user_event_types WHERE user_id = 'user-1' ORDER BY 1",
        "SELECT events, product_views FROM reporting.users WHERE user_id = 'user-1'",
        "SELECT product_views, products FROM reporting.sessions WHERE user_id = 'user-1'",
        "SELECT event_type, sum(events)::int, sum(users)::int FROM reporting.activity_hourly GROUP BY 1 ORDER BY 1",
    )
    return [[tuple(row) for row in sql(footfall.servers, statement)] for statement in statements]


def check(found: dict[str, Any]) -> None:
    assert [event["payload"] for event in found["purchases"]] == [PURCHASE["payload"]]
    kinds = ["PRODUCT_ADDED_TO_CART", "PRODUCT_VIEW"]
    for name in ("of the product", "of user and product"):
        assert sorted(event["eventType"] for event in found[name]) == kinds, name
    times = [event["timestamp"] for event in found["of the product"]]
    assert times == sorted(times)
    assert [event["eventType"] for event in found["of the product, typed"]] == ["PRODUCT_ADDED_TO_CART"]
    assert found["of the product, newest"] == found["of the product"][-1:]
    assert [json.loads(line) for line in found["lines"].splitlines()] == found["of the product"]
    (session,) = found["sessions"]
    assert (session["views"], session["products"], session["endedBy"]) == (2, ["p-42"], "LOGOUT")
    activity = found["activity"]
    assert (activity["logins"], activity["logouts"], activity["productViews"]) == (1, 1, 2)
    assert {(hour["eventType"], hour["events"], hour["distinctUsers"]) for hour in found["hours"]["hours"]} == {
        ("PURCHASE", 1, 1),
        ("PRODUCT_ADDED_TO_CART", 1, 1),
    }


EXPECTED_REPORTS = [
    [
        ("LOGIN", None),
        ("LOGOUT", None),
        ("PRODUCT_ADDED_TO_CART", "p-42"),
        ("PRODUCT_VIEW", "p-42"),
        ("PURCHASE", None),
    ],
    [(command["eventType"], 1) for command in sorted(VISIT, key=lambda command: str(command["eventType"]))],
    [(5, 2)],
    [(2, ["p-42"])],
    [
        ("LOGIN", 2, 2),
        ("LOGOUT", 2, 2),
        ("PRODUCT_ADDED_TO_CART", 1, 1),
        ("PRODUCT_VIEW", 2, 2),
        ("PURCHASE", 1, 1),
    ],
]


def test_two_types_are_added_by_a_file(footfall: Footfall, catalogue: Path) -> None:
    produce(footfall, [record_of(an_event("user-0", event_type=kind)) for kind in BEFORE])
    shipped, differs = footfall.start("projector"), footfall.start("query-side")
    wait_until_processed(footfall, len(BEFORE))
    old = bodies_of_old_events(differs)
    assert shipped.terminate() == 0
    digest, own = read_catalogue(catalogue).digest, str(catalogue)
    commands = footfall.start("command-side", EVENT_TYPES_FILE=own)
    queries, projector = (footfall.start(one, EVENT_TYPES_FILE=own) for one in ("query-side", "projector"))

    with httpx.Client(base_url=commands.url) as client:
        assert client.post("/events/generate", json=LOGIN).status_code == 201
        assert client.post("/events/generate/batch", json=VISIT[1:]).status_code == 201
        refused = client.post("/events/generate", json={**PURCHASE, "payload": {"product": "", "amount": "much"}})
        assert refused.status_code == 400
        assert ["`payload.product`" in refused.text, "`payload.amount`" in refused.text, "much" in refused.text] == [
            True,
            True,
            False,
        ]
        named = "LOGIN, LOGOUT, PRODUCT_VIEW, PRODUCT_ADDED_TO_CART, PURCHASE"
        assert client.post("/events/generate", json={**LOGIN, "eventType": "CLICK"}).json()["errors"] == [
            f"Field `eventType` must be one of {named}."
        ]
        told = client.get("/schema/events/event-types.json").json()
        assert (told["digest"], len(told["types"])) == (digest, 5)
        assert client.get("/health").json()["dependencies"]["kafka"]["detail"] == f"event types {digest}"
        assert '"PURCHASE"' in client.get("/openapi/command-side.json").text

    wait_until_processed(footfall, len(BEFORE) + len(VISIT))
    before = answers(queries)
    check(before)
    assert [event["eventType"] for event in before["old"]] == list(BEFORE)
    assert bodies_of_old_events(queries) == old
    assert reports(footfall) == EXPECTED_REPORTS
    detail = httpx.get(f"{differs.url}/health").json()["dependencies"]["postgres"]["detail"]
    assert detail == f"event types {SHIPPED.digest}, while projectors have {digest}"
    assert catalogue_warnings(footfall, own) == []
    assert catalogue_warnings(footfall, str(SHIPPED_FILE)) == [
        f"The projectors' event types are {digest}, those of EVENT_TYPES_FILE here {SHIPPED.digest}."
    ]
    assert differs.terminate() == 0

    rebuild(footfall, "start")
    wait_until_done(footfall, NEW, len(BEFORE) + len(VISIT))
    rebuild(footfall, "verify")
    rebuild(footfall, "promote")
    assert answers(queries) == before
    assert bodies_of_old_events(queries) == old
    assert reports(footfall) == EXPECTED_REPORTS
    assert projector.terminate() == 0


def test_a_type_that_left_the_catalogue_is_stored_and_counted_under_its_name(footfall: Footfall) -> None:
    records = [record_of(an_event("user-1", event_type=kind)) for kind in ("LOGIN", "GONE", "GONE", "PRODUCT_VIEW")]
    produce(footfall, records)
    footfall.start("projector")
    queries = footfall.start("query-side")
    wait_until_processed(footfall, len(records))
    assert not sql(footfall.servers, "SELECT FROM read.dead_letters")
    (counted,) = sql(footfall.servers, "SELECT event_type, events FROM read.user_activity_types")
    assert tuple(counted) == ("GONE", 2)
    hours = httpx.get(f"{queries.url}/activity/hourly").json()["hours"]
    assert {hour["eventType"]: hour["events"] for hour in hours} == {"LOGIN": 1, "GONE": 2, "PRODUCT_VIEW": 1}
    assert httpx.get(f"{queries.url}/users/user-1/sessions").json()[0]["views"] == 1


def test_a_bad_catalogue_ends_the_process_with_every_problem(footfall: Footfall, tmp_path: Path) -> None:
    file = tmp_path / "event_types.toml"
    file.write_text('[purchase]\ndescription = "x"\nproduct = "p"\n')
    process = footfall.start("query-side", ready=False, EVENT_TYPES_FILE=str(file))
    assert process.popen.wait(PATIENCE) == 1
    said = process.log_text()
    for line in re.findall(r"^  (\[purchase\].*)$", GUIDE, re.MULTILINE):
        assert line in said
