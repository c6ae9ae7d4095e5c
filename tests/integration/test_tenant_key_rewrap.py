"""A tenant key is replaced while events are sealed: `privacy rewrap`, and then nothing needs the old line any more."""

import json
from collections import Counter

import httpx

from tests.conftest import Footfall
from tests.drivers.privacy import privacy
from tests.drivers.rebuilding import OLD, wait_until_done
from tests.drivers.sealed import KeyStoreOfTest, a_tenant_key
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import logged, sql, start_projector

TABLES = ("tenants", "months", "other_months", "subjects", "erasures")


def post(front: Process, user: str) -> int:
    return httpx.post(f"{front.url}/events/generate", json={"userId": user, "eventType": "LOGIN"}).status_code


def wrapping(keys: KeyStoreOfTest) -> Counter[str]:
    """How many keys each tenant key wraps."""
    found = " UNION ALL ".join(f"SELECT key_id FROM key_store.{table} WHERE wrapped IS NOT NULL" for table in TABLES)
    return Counter(row["key_id"] for row in keys.sql(found))


def as_owner(keys: KeyStoreOfTest) -> dict[str, str]:
    return keys.environment() | {"KEY_STORE_URL": keys.admin_url}


def test_after_a_rewrap_nothing_needs_the_old_tenant_key_and_everything_can_be_read(
    footfall: Footfall, keys: KeyStoreOfTest
) -> None:
    old, new = keys.tenant_keys, a_tenant_key("k2")
    both = KeyStoreOfTest(keys.admin_url, keys.url, f"{old}\n{new}")
    first = footfall.start("front", ready=True, **keys.environment())
    assert [post(first, user) for user in ("alice", "bob", "carol")] == [201] * 3
    keys.sql(  # a month that had two keys, and an erasure that no projector has passed
        "INSERT INTO key_store.other_months SELECT tenant_id, month, key_id, wrapped FROM key_store.months LIMIT 1"
    )
    assert httpx.delete(f"{first.url}/users/carol").status_code == 202
    assert first.terminate() == 0
    assert wrapping(keys).keys() == {"k1"}

    front = footfall.start("front", ready=True, **both.environment())
    assert [post(front, user) for user in ("alice", "dora")] == [201] * 2
    before = wrapping(keys)
    assert before["k1"] >= 7, "the index, a month with another key, three users, an erasure"
    assert before["k2"] == 1, "of dora"
    refused = privacy(footfall, "rewrap", keys=both.environment(), code=1)
    assert "must name the owner" in " ".join(refused.split())
    without_new = privacy(footfall, "rewrap", keys=as_owner(KeyStoreOfTest(keys.admin_url, keys.url, new)), code=1)
    assert "has no such key: add its line again" in " ".join(without_new.split())
    assert wrapping(keys) == before
    assert f"default/k1: {before['k1']} keys" in privacy(footfall, "rewrap", keys=as_owner(both))
    assert wrapping(keys) == {"k2": before.total()}
    assert "default/k1" not in privacy(footfall, "rewrap", keys=as_owner(both)), "there is nothing left to do"
    looked = len(keys.sql("SELECT FROM key_store.subjects"))
    assert [post(front, user) for user in ("alice", "bob", "eve")] == [201] * 3
    assert front.terminate() == 0
    for event in ("month_key_replaced", "keys_given_back", "keys_not_learned"):
        assert not logged(front, event), "to the processes it is the same key"

    only_new = KeyStoreOfTest(keys.admin_url, keys.url, new)
    front = footfall.start("front", ready=True, **only_new.environment())
    assert [post(front, user) for user in ("alice", "bob")] == [201] * 2
    assert len(keys.sql("SELECT FROM key_store.subjects")) == looked + 1, "eve alone is new"
    start_projector(footfall, **only_new.environment())
    wait_until_done(footfall, OLD, 16)
    stored = "SELECT user_id, count(*) FROM read_g1.processed_events GROUP BY 1 ORDER BY 1"
    rows = {"alice": 4, "bob": 3, "dora": 1, "eve": 1}
    wait_until(
        lambda: {row[0]: row[1] for row in sql(footfall.servers, stored)} == rows,
        PATIENCE,
        "every event, and carol's erasure",
    )
    assert json.loads(privacy(footfall, "erase", "alice", "--yes", "--json", keys=only_new.environment()))["done"]
    outcomes = sql(footfall.servers, "SELECT outcome FROM ops.audit WHERE action = 'privacy rewrap' ORDER BY number")
    assert [row["outcome"] for row in outcomes] == [
        *("begun", "refused", "begun", "refused", "begun", "done", "begun", "done"),
    ]
