"""The console of a sealed log: letters are opened when they are redriven, and the key store is looked at."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import Footfall
from tests.drivers.sealed import KeyStoreOfTest, key_store_of
from tests.patience import PATIENCE
from tests.processes import wait_until
from tests.producing import an_event, produce, record_of, sql, start_projector, wait_until_owning

REFUSE = "ALTER TABLE read_g1.processed_events ADD CONSTRAINT refuse CHECK (user_id <> 'cursed') NOT VALID"


@pytest.fixture
def keys(footfall: Footfall) -> KeyStoreOfTest:
    return key_store_of(footfall)


@pytest.fixture
def console(footfall: Footfall, keys: KeyStoreOfTest) -> Iterator[httpx.Client]:
    """Of a log with a sealed letter that can be applied now."""
    wait_until_owning(start_projector(footfall, **keys.environment()), 6)
    sql(footfall.servers, REFUSE)
    produce(footfall, keys.sealed([record_of(an_event("cursed", {"productId": "p-1"}))]))
    wait_until(lambda: states(footfall) == ["parked"], 30, "the letter")
    sql(footfall.servers, "ALTER TABLE read_g1.processed_events DROP CONSTRAINT refuse")
    start: Any = footfall.start
    process = start("console", OPERATOR_DATABASE_URL=footfall.servers.admin_url, **keys.environment())
    with httpx.Client(base_url=process.url, timeout=PATIENCE) as client:
        yield client


def states(footfall: Footfall) -> list[str]:
    return [row["state"] for row in sql(footfall.servers, "SELECT state FROM read_g1.dead_letters")]


def fields(page: str) -> dict[str, str]:
    """The hidden fields of a page's last form."""
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.rpartition("<form")[2]))


def test_a_sealed_letter_is_redriven_and_the_key_store_is_among_the_findings(
    footfall: Footfall, keys: KeyStoreOfTest, console: httpx.Client
) -> None:
    wait_until(
        lambda: "the tenant keys are its own" in console.get("/console").text, 30, "the key store to be looked at"
    )
    token = re.findall(r'name="token" value="(\w+)"', console.get("/console/dead-letters").text)[0]
    page = console.post(
        "/console/dead-letters/predict", data={"token": token, "what": "redrive"}, follow_redirects=True
    )
    assert "1 stored" in page.text
    assert states(footfall) == ["parked"], "a prediction changes nothing"
    answer = console.post("/console/dead-letters/redrive", data=fields(page.text))
    job = answer.headers["location"]
    wait_until(lambda: ">running<" not in console.get(job).text, 60, "it to end")
    assert "1 stored" in console.get(job).text
    assert states(footfall) == ["redriven"]
    keys.sql("ALTER TABLE key_store.tenants RENAME TO away")
    wait_until(lambda: "<strong>key store</strong>" in console.get("/console").text, 30, "it to be named")
    wait_until(lambda: "Check KEY_STORE_URL and TENANT_KEYS" in console.get("/console").text, 30, "the remedy")
